"""SSIAT: one adapter learns all tasks with nothing to hold it; remembered means move along with the features."""

from cillab.kit import (
    Cosine,
    F,
    Fit,
    Float,
    GaussianMemory,
    HyperParams,
    Iterator,
    Literal,
    Method,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Progress,
    Table,
    Task,
    Tensor,
    adapters,
    align,
    columns_of,
    cross_entropy,
    final,
    fit,
    gathered,
    method,
    torch,
)  # fmt: skip


class SSIATParams(HyperParams):
    """Hyper-parameters of SSIAT."""

    bottleneck: PositiveInt = 64
    """Width of the adapter."""
    scale: PositiveFloat = 20.0
    """s, factor on the cosines of the head."""
    margin: NonNegativeFloat = 0.0
    """m, taken off the cosine of the right class in training; 0.3 for ImageNet-A."""
    first: Fit = Fit(epochs=20, batch_size=48, lr=0.01)
    """Adapter and head on the first task."""
    fit: Fit = Fit(epochs=10, batch_size=48, lr=0.01)
    """Adapter and head on a later task."""
    sigma: PositiveFloat = 4.0
    """Width, in the units of raw features, within which images say how an old mean has moved."""
    shift: bool = True
    """Move the means of old classes after every task."""
    memory: Literal["full", "diagonal", "low-rank", "pooled"] = "full"
    """What is kept of a class's covariance."""
    align: Fit = Fit(epochs=5, batch_size=256, lr=0.01)
    """The head on features drawn from remembered Gaussians, after every task but the first."""
    each: PositiveInt = 256
    """Features drawn per class and epoch."""
    shrink: NonNegativeFloat = 0.1
    """How much shorter the means of the oldest classes are for that."""

    quick = {"bottleneck": 4, "each": 16}


@method(
    "ssiat",
    paper="Tan et al., SSIAT, CVPR 2024, arXiv:2403.19979",
    evidence="reproduction",
    family="prompts and adapters",
    when="Adapters without a second pass: as plastic as fine-tuning, with old classes kept by their Gaussians alone.",
    known="CIFAR-100 Inc10, ViT-B/16 in21k, three seeds: A_avg 94.35, A_last 91.35 (authors).",
    ours="old and new features of a mean's shift are of the same clean images, where the code pairs different ones",
    needs={"vit"},
    internals=("align/before", "align/after"),
)
@final
class SSIAT(Method[SSIATParams]):
    """A shared adapter, a cosine head, and Gaussians of old classes whose means follow the drift of the features.

        adapter, rows of the task  <-  SGD on CE(s (cos(h, w) - m onehot)) over the classes of the task             (1)
        mu_c  <-  mu_c + sum_i a_ci (f_new(x_i) - f_old(x_i)),  a_ci ~ exp(-||f_old(x_i) - mu_c||^2 / 2 sigma^2)    (2)
        W     <-  SGD on CE(s cos(h, w)) over all classes,  h ~ N(mu_c (1 - b + b (t_c + 1)/(t + 1)), S_c)  [align] (3)

    a_ci has a floor of 1e-5 before it is normalised, so that a mean with no image near it moves by the mean drift.
    Source: Tan et al., CVPR 2024, arXiv:2403.19979. Keeps the adapter, and d + d^2 numbers per class for learning; one
    pass per image.
    """

    def setup(self) -> None:
        """A silent adapter, no class."""
        p, dim, device = self.params, self.backbone.feature_dim, self.backbone.device
        self.worn = adapters(self, p.bottleneck, 0)
        self.classifier = Cosine(dim, scale=p.scale, device=device)
        self.memory = GaussianMemory(dim, p.memory, device)
        self.record = Table(device)  # the head before and after it was aligned

    def arrive(self, task: Task) -> None:
        """New rows are drawn."""
        self.classifier.grow(task.classes, self.draws("rows", task.index))

    def learn(self, task: Task) -> Iterator[Progress]:
        """Equations (1) to (3)."""
        p = self.params
        before = None
        if self.old and p.shift:
            before, _ = yield from gathered(self, task, stage="features before")

        def loss(h: Tensor, labels: Tensor) -> Tensor:
            own = F.one_hot(columns_of(labels, self.seen), len(self.seen))
            return cross_entropy(
                self.classifier(h) - p.scale * p.margin * own, labels, self.seen, task.classes, "local"
            )

        trained = [*self.worn.parameters(), self.classifier.weight]
        yield from fit(self, task, trained, loss, p.fit if self.old else p.first, stage="adapter")
        h, labels = yield from gathered(self, task, stage="statistics")
        if before is not None:
            self.memory.means = moved(self.memory.means, before, h, p.sigma)
        self.memory.add(h, labels)
        if self.old:
            yield from self._align(task)

    def _align(self, task: Task) -> Iterator[Progress]:
        """Equation (3)."""
        p = self.params
        home = dict(zip(self.roster.classes, self.roster.tasks, strict=True))
        age = torch.tensor([(home[c] + 1) / (task.index + 1) for c in self.memory.classes])
        drawn = self.memory.scaled(1 - p.shrink + p.shrink * age)

        def loss(h: Tensor, columns: Tensor) -> Tensor:
            return F.cross_entropy(self.classifier(h), columns)

        before, draws = self.classifier.weight.detach().clone(), self.draws("align", task.index)
        yield from align([self.classifier.weight], self.seen, drawn, loss, p.align, p.each, draws)
        self.record.tensors = {"align/before": before, "align/after": self.classifier.weight.detach().clone()}

    def internals(self):
        """The head before and after it was aligned."""
        return self.record.tensors


def moved(
    means: Float[Tensor, "cls feature"],
    before: Float[Tensor, "image feature"],
    after: Float[Tensor, "image feature"],
    sigma: float,
) -> Float[Tensor, "cls feature"]:
    """Equation (2): `before` and `after` are features of the same images, row by row."""
    distances = torch.cdist(means, before, compute_mode="donot_use_mm_for_euclid_dist")
    weights = (-distances.square() / (2 * sigma**2)).exp() + 1e-5
    return means + weights / weights.sum(dim=1, keepdim=True) @ (after - before)
