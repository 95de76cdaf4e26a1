"""RSIAT: SSIAT with room for later classes in the first task, and later features tied to those before the task."""

from cillab.kit import (
    Drifting, DriftingParams, F, Field, Fit, Float, Internal, Iterator, NonNegativeFloat, PositiveFloat, PositiveInt,
    Progress, ResidualMap, Task, Tensor, deepcopy, final, fit, method, torch,
)  # fmt: skip


class RSIATParams(DriftingParams):
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
    ours="P starts at the identity, and the size of the cosine counts, as in the paper; lambda rises by steps; epochs "
    "and rates are SSIAT's, where the code has its own for every data set; A has the weight decay of the adapter",
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
        p, before, means = self.params, deepcopy(self.worn), self.memory.means

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


def roominess(h: Float[Tensor, "image feature"], labels: Tensor, apart: float, free: float) -> Float[Tensor, ""]:
    """R of equation (1); a mean over no pair is 0. No image is a pair with itself."""
    cosines = F.normalize(h, dim=-1) @ F.normalize(h, dim=-1).T
    same = labels[:, None] == labels[None]
    other, own = ~same, same & ~torch.eye(len(labels), dtype=torch.bool, device=h.device)

    def mean(values: Tensor, where: Tensor) -> Tensor:
        return (values * where).sum() / where.sum().clamp(min=1)

    return mean(1 - cosines, own) + apart * mean(F.relu(cosines - free), other)
