"""EASE: an adapter per task, each with a subspace of its own, and prototypes in all of them."""

from cillab.kit import (
    Classifier,
    F,
    Fit,
    Float,
    Head,
    HyperParams,
    Int64,
    Iterator,
    Method,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Progress,
    Table,
    Task,
    Tensor,
    Wardrobe,
    adapters,
    empty,
    final,
    first_session,
    gathered,
    method,
    torch,
    with_new,
)  # fmt: skip


class EASEParams(HyperParams):
    """Hyper-parameters of EASE."""

    bottleneck: PositiveInt = 64
    """Width of an adapter."""
    scale: PositiveFloat = 0.1
    """Factor on an adapter's output."""
    fit: Fit = Fit(epochs=20, batch_size=48, lr=0.025)
    """The adapter of a task, under a cosine head that is thrown away."""
    alpha: NonNegativeFloat = 0.1
    """Weight of the subspaces of all other tasks together beside a class's own."""

    quick = {"bottleneck": 4}


@method(
    "ease",
    paper="Zhou et al., EASE, CVPR 2024, arXiv:2403.12030",
    evidence="reproduction",
    family="prompts and adapters",
    when="Every task gets its own features and none is forgotten, if a pass per task and image can be afforded.",
    known="CIFAR-100 Inc5, ViT-B/16 in21k, seed 1993: A_avg 91.51, A_last 85.80 (authors' log).",
    ours="no dropout inside adapters; a class that returns is measured again under the adapters of today",
    needs={"vit"},
    internals=("adapters/similarity",),
)
@final
class EASE(Method[EASEParams]):
    """Prototypes in the subspaces of all tasks; where no image is left, they are put together from similar classes.

        h = [h_1, ..., h_T],  h_j = f(x) under the adapter of task j                                            (1)
        P_c^j = mean of h_j over class c                        for j <= t_c                       [Subspaces]  (2)
        P_c^j = sum_n softmax_n(cos(P_c^i, P_n^i)) P_n^j        for j >  t_c,  i = t_c,  n of tasks >= j        (3)
        logit_c = cos(h_i, P_c^i) + alpha / (T - 1) sum over j != i of cos(h_j, P_c^j)                          (4)

    The adapter of a task is fresh and learns its classes alone, as in APER's first session. Source: Zhou et al., CVPR
    2024, arXiv:2403.12030; (4) as in the released code. Keeps an adapter per task and K T D numbers. T passes per
    image; features under older adapters are remembered from one task to the next.
    """

    def setup(self) -> None:
        """No adapter, no class."""
        p = self.params
        self.worn = Wardrobe(lambda task: adapters(self, p.bottleneck, task, scale=p.scale))
        self.classifier = Subspaces(self.backbone.feature_dim, p.alpha, self.backbone.device)
        self.record = Table(self.backbone.device)

    def embed(self, run):
        """Equation (1); before any task the original feature."""
        return torch.cat([run(adapter) for adapter in self.worn] or [run()], dim=1)

    def learn(self, task: Task) -> Iterator[Progress]:
        """A new adapter learns the task alone, then (2); (3) follows from it."""
        newest = self.worn.grow()
        yield from first_session(self, task, newest.parameters(), self.params.fit, under=newest, stage="adapter")
        h, labels = yield from gathered(self, task, stage="prototypes")
        self.classifier.take(h, labels)
        self.record.tensors["similarity"] = _alike(h.unflatten(1, (len(self.worn), -1)))

    def internals(self):
        """How alike what two adapters make of the newest task's images is."""
        return {f"adapters/{name}": tensor for name, tensor in self.record.tensors.items()}


class Subspaces(Classifier):
    """P, one prototype per class and task, measured or put together; reads [h_1, ..., h_T]."""

    plain = ("classes", "home")
    sums: Tensor
    counts: Tensor

    def __init__(self, dim: int, alpha: float, device: torch.device | None = None) -> None:
        super().__init__()
        self.dim, self.alpha = dim, alpha
        self.home: tuple[int, ...] = ()  # t_c, the first task that brought the class
        self.register_buffer("sums", empty(0, 0, dim, device=device, dtype=torch.float64))
        self.register_buffer("counts", empty(0, 0, device=device, dtype=torch.int64))
        self._of = self._table = empty(0)

    def grow(self, arriving: tuple[int, ...]) -> None:
        """A row for every new class; its home is the task whose adapter comes next."""
        before = len(self.classes)
        self.classes = with_new(self.classes, arriving)
        fresh = len(self.classes) - before
        self.home += (self.counts.shape[1],) * fresh
        self.sums, self.counts = F.pad(self.sums, (0, 0, 0, 0, 0, fresh)), F.pad(self.counts, (0, 0, 0, fresh))

    def take(self, h: Float[Tensor, "image wide"], labels: Int64[Tensor, " image"]) -> None:
        """Equation (2): images of the newest task under all adapters; the newest has no column yet."""
        self.sums, self.counts = F.pad(self.sums, (0, 0, 0, 1)), F.pad(self.counts, (0, 1))
        columns = torch.tensor([self.classes.index(int(y)) for y in labels], device=h.device)
        self.sums = self.sums.index_add(0, columns, h.unflatten(1, (-1, self.dim)).to(self.sums))
        self.counts = self.counts.index_add(0, columns, torch.ones_like(self.counts[columns]))

    def prototypes(self) -> Float[Tensor, "cls task feature"]:
        """Measured means, and equation (3) where there are none."""
        if self._of is not self.sums:  # buffers are replaced, never written
            self._of, self._table = self.sums, self._put_together()
        return self._table

    def _put_together(self) -> Float[Tensor, "cls task feature"]:
        table = self.sums / self.counts.clamp(min=1)[..., None]
        measured, home = self.counts > 0, torch.tensor(self.home, device=table.device)
        for j in range(table.shape[1]):
            for i in range(j):
                missing, known = (home == i) & ~measured[:, j], measured[:, j] & measured[:, i]
                alike = F.normalize(table[missing, i], dim=1) @ F.normalize(table[known, i], dim=1).T
                table[missing, j] = alike.softmax(dim=1) @ table[known, j]
        return table

    def forward(self, features: Float[Tensor, "image wide"]) -> Float[Tensor, "image cls"]:
        """Equation (4)."""
        unit = [F.normalize(x, dim=-1) for x in (features.unflatten(1, (-1, self.dim)), self.prototypes().to(features))]
        cosines = torch.einsum("ntd,ctd->nct", *unit)
        tasks = cosines.shape[2]
        own = F.one_hot(torch.tensor(self.home, device=features.device), tasks).to(features)
        return (cosines * (own + self.alpha / max(tasks - 1, 1) * (1 - own))).sum(dim=2)

    def rows(self) -> Head:
        """The prototypes of all tasks, side by side."""
        return Head(self.prototypes().flatten(1).float(), None)


def _alike(h: Float[Tensor, "image task feature"]) -> Float[Tensor, "task task"]:
    """Linear CKA, <XX^T, YY^T> / (||XX^T|| ||YY^T||) for centred X, Y (Kornblith et al., ICML 2019); 256 images do."""
    some = h[:: max(1, len(h) // 256)]
    centred = (some - some.mean(dim=0)).transpose(0, 1)
    grams = F.normalize((centred @ centred.mT).flatten(1), dim=1)
    return grams @ grams.T
