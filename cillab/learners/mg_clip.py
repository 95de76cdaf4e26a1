"""MG-CLIP: stop before the gap between images and text closes; a second head makes up for what was not learnt."""

from cillab.kit import (
    Averaged, Cosine, F, Fit, Generator, Head, HyperParams, Internal, Iterator, LoRA, Method, NonNegativeFloat,
    PositiveFloat, PositiveInt, Progress, Prototypes, Table, Task, Tensor, TextHead, columns_of, cross_entropy, final,
    fit, fit_features, gathered, method, torch,
)  # fmt: skip


class MGCLIPParams(HyperParams):
    """Hyper-parameters of MG-CLIP."""

    rank: PositiveInt = 8
    """Rank of the low-rank change of k and v."""
    moved: PositiveFloat = 0.1
    """Share by which the mean logit of wrong classes may move in the first task before training stops."""
    weight: NonNegativeFloat = 4.0
    """Weight of the images' head beside the text's; 0 answers with text alone."""
    template: str = "a good photo of a {}."
    """The sentence around a name."""
    fit: Fit = Fit(epochs=5, batch_size=64, lr=0.001, optimiser="adam", weight_decay=0.0)
    """The low-rank change; `epochs` is the most that the first task may take."""
    head: Fit = Fit(epochs=3, batch_size=64, lr=0.0005, optimiser="adam", weight_decay=0.0)
    """The images' head, on features."""

    quick = {"rank": 2}


@method(
    "mg-clip",
    paper="Huang et al., Mind the Gap, ICCV 2025, arXiv:2507.09118",
    evidence="reproduction of the released code, images' side",
    family="images and text",
    when="CLIP that should keep its zero-shot knowledge: training stops before images and text lose their distance.",
    known="CIFAR-100 B0 Inc10, OpenAI ViT-B/16: A_avg 87.0, A_last 80.6.",
    ours="the text's side stays frozen; the number of epochs is kept with the learner; the first task has a "
    "constant rate, and a new optimiser every epoch",
    needs={"clip", "class-names", "vit"},
    internals=(
        "text/prototypes",
        Internal("gap/epochs", "f32 []", "epochs that the first task allowed every task", "epochs"),
        Internal("gap/negatives", "f32 [epochs + 1]", "mean logit of wrong classes before and after each epoch"),
    ),
)
@final
class MGCLIP(Method[MGCLIPParams]):
    """Train CLIP until the logits of wrong classes begin to move, never further; answer with text and images.

        t_c frozen,  v = f_theta(x) / ||.||,   theta <- CE(s cos(v, t_c), y) within the task, E epochs           (1)
        E = epochs of the first task until | mean of s cos(v, t_c), c != y, over its start - 1 | > moved         (2)
        w_c starts as the mean of v over class c; all w <- CE(cos(v, w), y) within the task                      (3)
        p = (softmax(s cos(v, t)) + weight softmax(cos(v, w))) / (1 + weight),   logits = log p                  (4)

    theta is one low-rank change of k and v that goes on from task to task. E counts the epoch that crossed the bound.
    Source: Huang et al., ICCV 2025, arXiv:2507.09118, and the released code. softmax(cos) is almost flat: the second
    term of (4) decides between near-ties only. Keeps theta and 3 K D numbers; one pass per image.
    """

    def setup(self) -> None:
        """CLIP as it is, no name, no row."""
        p, dim, device = self.params, self.backbone.feature_dim, self.backbone.device
        self.worn = LoRA(self.backbone, p.rank, float(p.rank), ("k", "v"), generator=self.draws("lora"))
        self.text = TextHead(self.backbone, [p.template])
        self.rows = Cosine(dim, device=device)
        self.record = Table(device)
        self.classifier = Averaged(self.text, self.rows, p.weight)

    def arrive(self, task: Task) -> None:
        """Names and rows of the classes that are new."""
        self.text.grow(task.classes, task.class_names)
        self.rows.grow(task.classes, self.draws("rows", task.index))

    def shape(self, h: Tensor) -> Tensor:
        """The v of (1)."""
        return F.normalize(h, dim=-1)

    def head(self) -> Head:
        """The frozen names."""
        return self.text.rows()

    def learn(self, task: Task) -> Iterator[Progress]:
        """(1) for as long as (2) allows, then (3)."""
        p, kept = self.params, self.record.tensors

        def loss(h: Tensor, labels: Tensor) -> Tensor:
            return cross_entropy(self.text(h), labels, self.seen, task.classes, "local")

        if "epochs" in kept:
            how = p.fit.model_copy(update={"epochs": int(kept["epochs"])})
            yield from fit(self, task, self.worn.parameters(), loss, how, stage="images")
        elif len(task.classes) > 1:  # one class has no wrong logits, and (1) no gradient: the next task decides
            yield from self._until_negatives_move(task, loss)
        yield from self._rows(task)

    def _until_negatives_move(self, task: Task, loss) -> Iterator[Progress]:
        """(2), on the first task's own images: epoch by epoch, each at a constant rate with a new optimiser."""
        one, kept = self.params.fit.model_copy(update={"epochs": 1, "schedule": "constant"}), self.record.tensors
        found = [(yield from self._negatives(task))]
        for epoch in range(1, self.params.fit.epochs + 1):
            yield from fit(self, task, self.worn.parameters(), loss, one, stage=f"images {epoch}")
            found.append((yield from self._negatives(task)))
            if abs(found[-1] - found[0]) > self.params.moved * abs(found[0]):
                break
        kept["epochs"] = torch.tensor(float(len(found) - 1), device=self.record.device)
        kept["negatives"] = torch.tensor(found, device=self.record.device)

    def _negatives(self, task: Task) -> Generator[Progress, None, float]:
        """Mean logit of the wrong classes of the task."""
        h, labels = yield from gathered(self, task, stage="gap")
        logits = self.text(self.shape(h))[:, self.text.columns(task.classes)]
        wrong = F.one_hot(columns_of(labels, task.classes), len(task.classes)) == 0
        return float(logits[wrong].mean())

    def _rows(self, task: Task) -> Iterator[Progress]:
        """Equation (3)."""
        h, labels = yield from gathered(self, task, stage="features")
        v, means = self.shape(h), Prototypes(h.shape[1], h.device)
        means.add(v, labels)
        fresh = [c for c in task.classes if c not in self.old]
        if fresh:
            at = columns_of(torch.tensor(fresh, device=h.device), means.classes)
            old = self.rows.weight[: len(self.old)]
            self.rows.put("weight", torch.cat([old, F.normalize(means.means(like=h)[at], dim=-1)]))

        def loss(x: Tensor, y: Tensor) -> Tensor:
            return cross_entropy(self.rows(x), y, self.seen, task.classes, "local")

        yield from fit_features(self, task, (v, labels), [self.rows.weight], loss, self.params.head, stage="rows")

    def internals(self):
        """The frozen names, and what (2) saw."""
        kept = self.record.tensors
        if not self.seen:
            return {}
        seen = {f"gap/{name}": kept[name] for name in ("epochs", "negatives") if name in kept}
        return {"text/prototypes": self.text.prototypes, **seen}
