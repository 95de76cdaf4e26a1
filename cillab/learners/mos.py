"""MOS: an adapter per task that keeps near its elders, and a guess of the task that corrects itself."""

from cillab.kit import (
    Circle, F, Field, Fit, GaussianMemory, HyperParams, Iterator, Literal, Method, NonNegativeFloat, NonNegativeInt,
    PositiveFloat, PositiveInt, Progress, Slots, Table, Task, Tensor, Wardrobe, adapters, align_head, columns_of,
    cross_entropy, final, fit, gathered, method, torch, undecayed,
)  # fmt: skip


class MOSParams(HyperParams):
    """Hyper-parameters of MOS."""

    bottleneck: PositiveInt = 16
    """Width of an adapter."""
    merge: float = Field(default=0.1, ge=0, lt=1)
    """Share of the mean of older adapters that is mixed into the newest after every step; 0 is a mere sequence."""
    orthogonality: NonNegativeFloat = 0.1
    """Weight of the term that keeps the features of a batch from those of one another and from old class means."""
    temperature: PositiveFloat = 0.8
    """Temperature of that term."""
    fit: Fit = Fit(epochs=20, batch_size=48, lr=0.03)
    """The adapter and the head on a task's images."""
    head_rate: PositiveFloat = 0.1
    """Learning rate of the head over that of the adapter."""
    memory: Literal["full", "diagonal", "low-rank", "pooled"] = "full"
    """What is kept of a class's covariance."""
    align: Fit = Fit(epochs=30, batch_size=48, lr=0.005)
    """The head on features drawn from remembered Gaussians; epochs 0 leaves it out."""
    each: PositiveInt = 240
    """Features drawn per class and epoch."""
    loops: NonNegativeInt = 4
    """Most corrections of the guessed task; 0 believes the first guess."""
    ensemble: bool = True
    """Add the prediction of class means in the original features to that of the adapter that was found."""

    quick = {"bottleneck": 4, "each": 16, "align.epochs": 2}


@method(
    "mos",
    paper="Sun et al., MOS, AAAI 2025, arXiv:2412.09441",
    evidence="reproduction",
    family="prompts and adapters",
    when="Adapters per task, each near the last: often the most accurate of them, at a pass per task and image.",
    known="CIFAR-100 Inc5, ViT-B/16 in21k, seed 1993: A_avg 93.30, A_last 89.25 (authors' log).",
    ours="the merge happens once a step; the code does it once per block call and also in tests, in place; batches of "
    "48 in alignment, where the code has 240; draws with 1e-4 of the mean variance added",
    needs={"vit"},
    internals=("align/before", "align/after"),
)
@final
class MOS(Method[MOSParams]):
    """Adapters that stay near their elders, an aligned head, and a task id that is found by going round in a circle.

        A_t starts as A_{t-1};  min CE over the classes of the task + orthogonality * CE(Z Z^T / T, 1)             (1)
        after every step        A_t <- (1 - m) A_t + m mean of A_1 ... A_{t-1}                                     (2)
        W  <-  SGD on CE(W h + b) over all classes,  h ~ N(mu_c, S_c) under the adapter of c's task        [align] (3)
        c_0 = argmax of cos(f(x), mean of f over c);   c_{k+1} = argmax (W h_{t(c_k)} + b),  until it stays        (4)
        score = softmax(W h_{t(c)} + b) + softmax((t + 1) cos(f(x), means of f))                                   (5)

    Z are the means of old classes and the features of the batch. Source: Sun et al., AAAI 2025, arXiv:2412.09441. Keeps
    an adapter per task and d^2 + 5 d numbers per class: W, the means of f, the Gaussian, W before and after (3). T + 1
    passes per image; those under older adapters are remembered from one task to the next, so that (4) looks them up.
    """

    def setup(self) -> None:
        """No adapter, no class."""
        p, dim, device = self.params, self.backbone.feature_dim, self.backbone.device
        self.worn = Wardrobe(self._adapter)
        self.classifier = Circle(dim, p.loops, p.ensemble, device)
        self.memory = GaussianMemory(dim, p.memory, device)
        self.record = Table(device)  # the head before and after it was aligned

    def _adapter(self, task: int) -> Slots:
        return adapters(self, self.params.bottleneck, task)

    def embed(self, run):
        """[f, h_1, ..., h_T]."""
        return torch.cat([run(), *(run.each(self.worn) if len(self.worn) else ())], dim=1)

    def learn(self, task: Task) -> Iterator[Progress]:
        """Equations (1) to (3)."""
        p, head, elders = self.params, self.classifier.linear, [*self.worn]
        newest = self.worn.grow()
        if elders:
            newest.load(elders[-1].state())

        def loss(h: Tensor, labels: Tensor) -> Tensor:
            value = cross_entropy(head(h), labels, self.seen, task.classes, "local")
            rows = torch.cat([self.memory.means, h])
            apart = F.cross_entropy(rows @ rows.T / p.temperature, torch.arange(len(rows), device=h.device))
            return value + p.orthogonality * apart

        groups = [{"params": newest.parameters()}, {**undecayed(head), "lr": p.head_rate * p.fit.lr}]
        for progress in fit(self, task, groups, loss, p.fit, stage="adapter", under=newest):
            if elders and p.merge:
                _merge(newest, elders, p.merge)
            yield progress
        h, labels = yield from gathered(self, task, stage="statistics")
        dim, home = self.backbone.feature_dim, torch.tensor(self.classifier.home, device=h.device)
        under = h[:, dim:].unflatten(1, (-1, dim))[range(len(h)), home[columns_of(labels, self.seen)]]
        self.classifier.means.add(h[:, :dim], labels)
        self.memory.add(under, labels)
        how = p.align if self.old else p.align.model_copy(update={"epochs": 0})
        self.record.tensors = yield from align_head(self, task, head, self.memory, how, p.each)

    def internals(self):
        """The head before and after it was aligned."""
        return self.record.tensors


def _merge(newest: Slots, elders: list[Slots], share: float) -> None:
    """Equation (2)."""
    with torch.no_grad():
        for own, *older in zip(newest.parameters(), *(elder.parameters() for elder in elders), strict=True):
            own.lerp_(torch.stack(older).mean(dim=0), share)
