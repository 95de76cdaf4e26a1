"""EASE: an adapter per task, each with a subspace of its own, and prototypes in all of them."""

from cillab.kit import (
    F, Fit, Float, HyperParams, Iterator, Method, NonNegativeFloat, PositiveFloat, PositiveInt, Progress, Subspaces,
    Table, Task, Tensor, Wardrobe, adapters, final, first_session, gathered, method, torch,
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
        return torch.cat([*run.each(self.worn)], dim=1) if len(self.worn) else run()

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


def _alike(h: Float[Tensor, "image task feature"]) -> Float[Tensor, "task task"]:
    """Linear CKA, <XX^T, YY^T> / (||XX^T|| ||YY^T||) for centred X, Y (Kornblith et al., ICML 2019); 256 images do."""
    some = h[:: max(1, len(h) // 256)]
    centred = (some - some.mean(dim=0)).transpose(0, 1)
    grams = F.normalize((centred @ centred.mT).flatten(1), dim=1)
    return grams @ grams.T
