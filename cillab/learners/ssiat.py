"""SSIAT and RSIAT: one adapter learns all tasks, and remembered means move along with the features.

Nothing holds the adapter in SSIAT. RSIAT is SSIAT with a loss that makes room in the first task, and two losses that
tie later features to those of the network before the task.
"""

from abc import abstractmethod
from itertools import pairwise
from typing import TypeVar

from cillab.kit import (
    Cosine,
    F,
    Field,
    Fit,
    Float,
    GaussianMemory,
    HyperParams,
    Internal,
    Iterator,
    Literal,
    Method,
    ModulePart,
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
    nn,
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


P = TypeVar("P", bound=SSIATParams)


class Drifting(Method[P]):
    """A shared adapter, a cosine head, and Gaussians of old classes whose means follow the drift of the features."""

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

    @abstractmethod
    def adapt(self, task: Task) -> Iterator[Progress]:
        """Adapter and head on the images of `task`."""

    def learn(self, task: Task) -> Iterator[Progress]:
        """`adapt`, then the Gaussians, then the head on what is drawn from them."""
        p = self.params
        before = None
        if self.old and p.shift:
            before, _ = yield from gathered(self, task, stage="features before")
        yield from self.adapt(task)
        h, labels = yield from gathered(self, task, stage="statistics")
        if before is not None:
            self.memory.means = moved(self.memory.means, before, h, p.sigma)
        self.memory.add(h, labels)
        if self.old:
            yield from self._align(task)

    def likelihood(self, h: Tensor, labels: Tensor, task: Task) -> Tensor:
        """CE(s (cos(h, w) - m onehot)) over the classes of the task."""
        p = self.params
        own = F.one_hot(columns_of(labels, self.seen), len(self.seen))
        return cross_entropy(self.classifier(h) - p.scale * p.margin * own, labels, self.seen, task.classes, "local")

    @property
    def trained(self) -> list[nn.Parameter]:
        """Adapter and rows."""
        return [*self.worn.parameters(), self.classifier.weight]

    @property
    def how(self) -> Fit:
        """How steps are taken in this session."""
        return self.params.fit if self.old else self.params.first

    def _align(self, task: Task) -> Iterator[Progress]:
        """The head on features drawn from the Gaussians, older means shortened."""
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
class SSIAT(Drifting[SSIATParams]):
    """A shared adapter, a cosine head, and Gaussians of old classes whose means follow the drift of the features.

        adapter, rows of the task  <-  SGD on CE(s (cos(h, w) - m onehot)) over the classes of the task             (1)
        mu_c  <-  mu_c + sum_i a_ci (f_new(x_i) - f_old(x_i)),  a_ci ~ exp(-||f_old(x_i) - mu_c||^2 / 2 sigma^2)    (2)
        W     <-  SGD on CE(s cos(h, w)) over all classes,  h ~ N(mu_c (1 - b + b (t_c + 1)/(t + 1)), S_c)  [align] (3)

    a_ci has a floor of 1e-5 before it is normalised, so that a mean with no image near it moves by the mean drift.
    Source: Tan et al., CVPR 2024, arXiv:2403.19979. Keeps the adapter, and d + d^2 numbers per class for learning; one
    pass per image.
    """

    def adapt(self, task: Task) -> Iterator[Progress]:
        """Equation (1)."""

        def loss(h: Tensor, labels: Tensor) -> Tensor:
            return self.likelihood(h, labels, task)

        yield from fit(self, task, self.trained, loss, self.how, stage="adapter")


class RSIATParams(SSIATParams):
    """Hyper-parameters of RSIAT."""

    scale: PositiveFloat = 40.0
    """s, factor on the cosines of the head."""
    margin: NonNegativeFloat = 0.1
    """m, taken off the cosine of the right class in training."""
    align: Fit = Fit(epochs=10, batch_size=256, lr=0.01)
    """The head on features drawn from remembered Gaussians, after every task but the first."""
    room: NonNegativeFloat = 0.2
    """lambda, weight of making room in the first task."""
    warmup: float = Field(default=0.7, ge=0, le=1)
    """Share of the first task's steps over which lambda rises from zero."""
    apart: NonNegativeFloat = 0.5
    """a of (1), weight of pairs of different classes."""
    free: float = Field(default=0.3, ge=-1, le=1)
    """r of (1), the cosine that different classes may have for nothing; 1 leaves their pairs out."""
    tie: NonNegativeFloat = 1.0
    """beta, weight of being predictable from the features before the task."""
    orthogonal: NonNegativeFloat = 0.4
    """gamma, weight of mapped old means standing at right angles to mapped features."""
    hidden: PositiveInt = 64
    """Width of the first and the third layer of A."""
    code: PositiveInt = 256
    """Width of its second layer."""
    map_lr: PositiveFloat = 5.6e-4
    """Learning rate of A."""

    quick = {"bottleneck": 4, "each": 16, "hidden": 8, "code": 8}


@method(
    "rsiat",
    paper="RSIAT, CVPR 2026, with released code",
    evidence="reproduction",
    family="prompts and adapters",
    when="SSIAT with a first task that leaves room for later ones, and a learnt map from old features to new ones.",
    known="CIFAR-100 Inc10, ViT-B/16 in21k, one seed: A_avg 95.15, A_last 92.20 (authors; one search per data set).",
    ours="P starts at the identity, and the size of the cosine counts, as in the paper; lambda rises by steps",
    needs={"vit"},
    internals=(
        "align/before",
        "align/after",
        Internal("map/size", "f32 [K]", "length of A(mu_c) over that of the mean mu_c: how far P is from the identity"),
    ),
)
@final
class RSIAT(Drifting[RSIATParams]):
    """SSIAT with room for later classes in the first task, and later features tied to those before the task.

        first task  <-  SGD on CE(s (cos(h, w) - m onehot)) + lambda R,                                             (1)
                        R = mean over pairs of one class of 1 - cos(h_i, h_j)
                          + a mean over pairs of different classes of relu(cos(h_i, h_j) - r)
        later tasks <-  SGD on CE(...) + beta mean ||h - P(h')||^2 / d + gamma mean |cos(P(mu_c), P(h'))|,          (2)
                        h' = the image's feature before the task, mu_c old means,  P(x) = x + A(x)
        mu_c and W as in equations (2) and (3) of SSIAT                                                             (3)

    A has four layers, d - 64 - code - 64 - d, GELU in between; it is trained along, kept from task to task and never
    used at test. Source: RSIAT, CVPR 2026. The code puts a sigmoid behind A, so that P starts at x + 1/2, and takes the
    cosine with its sign: both are left out. Keeps what SSIAT keeps and 128 (d + code) numbers for A; two passes per
    image and step, one per image at test.
    """

    def setup(self) -> None:
        """As SSIAT, and an A that returns nothing."""
        super().setup()
        p, dim = self.params, self.backbone.feature_dim
        self.map = ResidualMap(dim, p.hidden, p.code, self.draws("map"), self.backbone.device)

    def adapt(self, task: Task) -> Iterator[Progress]:
        """(1) in the first session, (2) later."""
        return self._tied(task) if self.old else self._with_room(task)

    def _with_room(self, task: Task) -> Iterator[Progress]:
        p, how = self.params, self.how
        rising = p.warmup * how.epochs * -(-len(task) // how.batch_size)
        taken = 0

        def loss(h: Tensor, labels: Tensor) -> Tensor:
            weight = p.room * min(1.0, taken / rising if rising else 1.0)
            return self.likelihood(h, labels, task) + weight * roominess(h, labels, p.apart, p.free)

        for progress in fit(self, task, self.trained, loss, how, stage="adapter"):
            taken += 1
            yield progress

    def _tied(self, task: Task) -> Iterator[Progress]:
        p, before = self.params, adapters(self, self.params.bottleneck, 0)
        before.load(self.worn.state())
        means = self.memory.means

        def loss(pixels: Tensor, labels: Tensor) -> Tensor:
            run = self.on_pixels(pixels)
            h = self.embed(run)
            value = self.likelihood(h, labels, task)
            if not (p.tie or p.orthogonal):
                return value
            with torch.no_grad():
                earlier = run(before)
            mapped = self.map(earlier)
            cosines = F.normalize(self.map(means), dim=-1) @ F.normalize(mapped, dim=-1).T
            return value + p.tie * F.mse_loss(h, mapped) + p.orthogonal * cosines.abs().mean()

        groups = [{"params": self.trained}, {"params": self.map.parameters(), "lr": p.map_lr}]
        yield from fit(self, task, groups, loss, self.how, stage="adapter", on_pixels=True)

    def internals(self):
        """As SSIAT; and what A does to the means."""
        means = self.memory.means
        if not len(means):
            return self.record.tensors
        with torch.no_grad():
            change = (self.map(means) - means).norm(dim=1) / means.norm(dim=1)
        return {**self.record.tensors, "map/size": change}


class ResidualMap(ModulePart):
    """P(x) = x + A(x), A with three hidden layers; a fresh one is the identity. Only learning needs it."""

    learning_only = frozenset(f"{kind}.{layer}" for kind in ("weights", "biases") for layer in range(4))

    def __init__(self, dim: int, hidden: int, code: int, draws: torch.Generator, device: torch.device) -> None:
        super().__init__()
        widths = (dim, hidden, code, hidden, dim)
        sides = list(pairwise(widths))
        self.weights, self.biases = (
            nn.ParameterList(torch.zeros(shape, device=device) for shape in shapes)
            for shapes in ([(b, a) for a, b in sides], [(b,) for _, b in sides])
        )
        with torch.no_grad():
            for weight in list(self.weights)[:-1]:  # PyTorch's own bound for a linear layer
                drawn = torch.empty(weight.shape).uniform_(-1, 1, generator=draws)
                weight.copy_(drawn * weight.shape[1] ** -0.5)
        self.requires_grad_(False)

    def forward(self, x: Float[Tensor, "image feature"]) -> Float[Tensor, "image feature"]:
        """P(x)."""
        z = x
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            z = F.linear(z if layer == 0 else F.gelu(z), weight, bias)
        return x + z


def roominess(h: Float[Tensor, "image feature"], labels: Tensor, apart: float, free: float) -> Float[Tensor, ""]:
    """R of equation (1) of RSIAT; a mean over no pair is 0. No image is a pair with itself."""
    cosines = F.normalize(h, dim=-1) @ F.normalize(h, dim=-1).T
    same = labels[:, None] == labels[None]
    other, own = ~same, same & ~torch.eye(len(labels), dtype=torch.bool, device=h.device)

    def mean(values: Tensor, where: Tensor) -> Tensor:
        return (values * where).sum() / where.sum().clamp(min=1)

    return mean(1 - cosines, own) + apart * mean(F.relu(cosines - free), other)


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
