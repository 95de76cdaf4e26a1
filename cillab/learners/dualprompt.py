"""DualPrompt: a prefix that all tasks share, and one for each task, which a test image finds by its key."""

from cillab.kit import (
    Fit, Iterator, Linear, Method, NonNegativeFloat, PrefixParams, Progress, Task, Tensor, cross_entropy, final, fit,
    gathered, method, prefixes, torch,
)  # fmt: skip


class DualPromptParams(PrefixParams):
    """Hyper-parameters of DualPrompt; `expert` is 20 in the paper, 5 in the code's settings."""

    pull: NonNegativeFloat = 0.1
    """Weight of the cosine of an image's feature and the key of its task."""
    vote: bool = False
    """Let a batch vote for its prompt, as the released code does, also in tests: a leak, here to be shown."""
    fit: Fit = Fit(epochs=5, batch_size=24, lr=0.001, optimiser="adam", weight_decay=0.0, schedule="constant")
    """Both prompts, the newest key and the head on a task's images."""

    quick = {**PrefixParams.quick, "fit.lr": 0.02, "fit.epochs": 3}


@method(
    "dualprompt",
    paper="Wang et al., DualPrompt, ECCV 2022, arXiv:2204.04799",
    evidence="reproduction",
    family="prompts and adapters",
    when="Prompts for what tasks share and for what they do not; shows how well a frozen feature finds its task.",
    known="CIFAR-100 Inc10, ViT-B/16 in21k: A_last 86.51 (paper). Inc5: A_avg 87.87, A_last 81.15 (MOS' table).",
    ours="every image chooses for itself (`vote`); new rows of the head are zero; the pool grows by one prompt a task",
    needs={"vit"},
    internals=("prompts/keys", "prompts/chosen"),
)
@final
class DualPrompt(Method[DualPromptParams]):
    """A general prefix in the first blocks and the prefix of a task in the next ones.

        h = f(x) with (K_p, V_p) in front of keys and values: general in blocks 1-2, of task j in blocks 3-5    (1)
        while task t is learnt j = t, afterwards j = argmax_j cos(q(x), k_j),  q(x) = f(x) without prompts      (2)
        min CE over the classes of the task - pull * cos(q(x), k_t)  over general, prompt t, k_t and the head   (3)

    A task's prefix starts as that of the task before. Source: Wang et al., ECCV 2022, arXiv:2204.04799. A known port
    mixes keys and values of different images by a reshape; here a prefix of one image never reaches another. Keeps the
    head, 2 L D numbers per block, and d and 2 L D per block for every task; two passes per image.
    """

    def setup(self) -> None:
        """The general prefix, no prompt of a task, a head without rows."""
        backbone = self.backbone
        self.general, self.worn = prefixes(self, self.params, vote=self.params.vote)
        self.classifier = Linear(backbone.feature_dim, device=backbone.device)

    @property
    def dress(self):
        """Both prefixes; none before the first task."""
        return (self.worn,) if self.worn.total else ()

    def learn(self, task: Task) -> Iterator[Progress]:
        """Equation (3), then how many images find which task."""
        self.worn.grow(1, self.draws("expert", task.index))
        if self.worn.total > 1:
            self.worn.prompts[-1].data = self.worn.prompts[-2].detach().clone()

        def loss(h: Tensor, labels: Tensor) -> Tensor:
            value = cross_entropy(self.classifier(h), labels, self.seen, task.classes, "local")
            return value - self.params.pull * self.worn.likeness.mean()

        trained = [*self.general.parameters(), *self.worn.newest(), *self.classifier.parameters()]
        with self.worn.forced(self.worn.total - 1):
            yield from fit(self, task, trained, loss, self.params.fit, stage="prompts")
        naked, _ = yield from gathered(self, task, stage="choices", under=())
        self.worn.count(naked)

    def internals(self):
        """The keys, and how many training images would choose each."""
        if not self.worn.total:
            return {}
        keys = torch.cat([*self.worn.keys]).detach()
        return {"prompts/keys": keys, "prompts/chosen": torch.tensor(self.worn.chosen, dtype=torch.float32)}
