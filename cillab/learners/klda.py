"""KLDA: linear discriminant analysis on random Fourier features, which is one with a Gaussian kernel."""

from cillab.kit import (
    LDA, Classifier, Field, FourierFeatures, Head, HyperParams, Internal, Iterator, Method, PositiveFloat, PositiveInt,
    Progress, State, Task, Tensor, final, gathered, method, nn, torch,
)  # fmt: skip

BANDWIDTHS = (0.03, 0.1, 0.3, 1.0, 3.0)  # candidates, as multiples of one over the median squared distance


class KLDAParams(HyperParams):
    """Hyper-parameters of KLDA: none of them is trained."""

    expansion: PositiveInt = 2048
    """M, the number of Fourier features; the paper has 5,000."""
    gamma: PositiveFloat | None = None
    """Width of the kernel exp(-gamma ||h - h'||^2); chosen on a fifth of the first task where it is not given."""
    members: PositiveInt = 1
    """Heads with Fourier features of their own, whose posteriors are averaged (KLDA-E has 5)."""
    shrinkage: float | None = Field(default=None, ge=0, le=1)
    """Share of the covariance that becomes a multiple of the identity; by the oracle formula (OAS) if not given."""

    quick = {"expansion": 128}


@method(
    "klda",
    paper="Momeni et al., KLDA, AAAI 2025, arXiv:2412.15571",
    evidence="reproduction from a public copy of the class",
    family="closed form",
    when="Frozen features whose classes no hyperplane separates; one pass, order-free.",
    ours="the exact covariance within classes, OAS shrinkage, the choice of gamma",
    internals=(Internal("kernel/gamma", "f32 []", "width of the kernel exp(-gamma ||h - h'||^2)"),),
)
@final
class KLDA(Method[KLDAParams]):
    """LDA on random Fourier features of frozen features.

        phi(h)  = sqrt(2/M) cos(h W + b),   E phi(h) . phi(h') = exp(-gamma ||h - h'||^2)     [FourierFeatures] (1)
        logit_c = phi . w_c - nu_c . w_c / 2,   w_c = Sigma^-1 nu_c,   nu_c = mean of phi over class c    [LDA] (2)
        several members:   logit_c = log of the mean over members of softmax of (2)                             (3)

    Source: KLDA, Momeni et al., AAAI 2025, arXiv:2412.15571. Deviations: Sigma is the covariance and not the sum of
    squares, which would flatten the softmax of (3), and it is exact where a class comes in several batches. Keeps
    M^2 + 2 K M + d M numbers per member; one forward pass per image.
    """

    def setup(self) -> None:
        """Fourier features of every member, no class."""
        p = self.params
        draws = [self.draws("fourier", i) for i in range(p.members)]
        self.classifier = Kernels(self.backbone.feature_dim, p.expansion, p.shrinkage, draws, self.backbone.device)

    def learn(self, task: Task) -> Iterator[Progress]:
        """Choose gamma in the first session; (2) in every one."""
        h, labels = yield from gathered(self, task, stage="statistics")
        if not self.old:
            self.classifier.widen(self.params.gamma or self._best(h, labels))
        self.classifier.add(h, labels)

    def _best(self, h: Tensor, labels: Tensor) -> float:
        """The candidate with the best accuracy on a fifth of the images; of equals, the one nearest to the median."""
        p, order = self.params, torch.randperm(len(h), generator=self.draws("held")).to(h.device)
        kept, held = order[: -(len(h) // 5) or None], order[len(h) - len(h) // 5 :]
        distances = torch.cdist(h[order[:500]], h[order[:500]]).square()
        usual = 1 / float(distances[distances > 0].median()) if bool((distances > 0).any()) else 1.0
        right = []
        for times in BANDWIDTHS:
            one = Kernels(h.shape[1], p.expansion, p.shrinkage, [self.draws("fourier", 0)], h.device)
            one.widen(times * usual)
            one.add(h[kept], labels[kept])
            ids = torch.tensor(one.classes, device=h.device)
            right.append(int((ids[one(h[held]).argmax(dim=1)] == labels[held]).sum()) if len(held) else 0)
        return usual * max(BANDWIDTHS, key=lambda t: (right[BANDWIDTHS.index(t)], -abs(t - 1)))

    def internals(self):
        """The width of the kernel."""
        return {"kernel/gamma": self.classifier.gamma}


class Kernels(Classifier):
    """Members, each with Fourier features and an LDA of its own."""

    def __init__(
        self, dim: int, expansion: int, shrinkage: float | None, draws: list[torch.Generator], device: torch.device
    ) -> None:
        super().__init__()
        self.maps = nn.ModuleList(FourierFeatures(dim, expansion, 1.0, draw, device) for draw in draws)
        self.heads = nn.ModuleList(LDA(expansion, device, shrinkage=shrinkage, reads=m) for m in self.maps)
        only = (f"heads.{i}.{name}" for i in range(len(draws)) for name in LDA.learning_only)
        self.learning_only = frozenset(only)  # type: ignore[misc]  # the names depend on the number of members

    @property
    def gamma(self) -> Tensor:
        """The width of the kernel, the same for all members."""
        return self.maps[0].gamma  # type: ignore[return-value]

    def widen(self, gamma: float) -> None:
        """Set the width of the kernel, before any image is added."""
        for one in self.maps:
            one.gamma = torch.full_like(self.gamma, gamma)

    def grow(self, arriving: tuple[int, ...]) -> None:
        """A column in every member for every class that has none."""
        for head in self.heads:
            head.grow(arriving)  # type: ignore[operator]
            self.classes = head.classes  # type: ignore[assignment]

    def add(self, h: Tensor, labels: Tensor) -> None:
        """Add images to every member and solve it again."""
        self.grow(tuple(dict.fromkeys(labels.tolist())))
        for head in self.heads:
            head.add(h, labels)  # type: ignore[operator]
            head.solve()  # type: ignore[operator]

    def forward(self, features: Tensor) -> Tensor:
        """Equation (2), or (3)."""
        scores = [head(features) for head in self.heads]
        return scores[0] if len(scores) == 1 else torch.stack(scores).softmax(dim=2).mean(dim=0).clamp(min=1e-30).log()

    def rows(self) -> Head:
        """w_c and biases of the first member."""
        return self.heads[0].rows()  # type: ignore[operator]

    def load(self, state: State) -> None:
        """Take over every member."""
        super().load(state)
        for head in self.heads:
            head.classes, head._arriving = self.classes, None  # type: ignore[assignment]
