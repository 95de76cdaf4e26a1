"""ACIL: a ridge classifier on random features of a frozen backbone. Learning in tasks equals learning all at once."""

from cillab.kit import (
    HyperParams,
    Internal,
    Iterator,
    Literal,
    Method,
    NonNegativeInt,
    PositiveFloat,
    Progress,
    RandomFeatures,
    Ridge,
    Task,
    final,
    gathered,
    method,
    torch,
)  # fmt: skip


class ACILParams(HyperParams):
    """Hyper-parameters of ACIL: none of them is trained."""

    expansion: NonNegativeInt = 2048
    """D, the number of random features; 0 reads the backbone's features themselves. The paper has 8192."""
    gamma: PositiveFloat = 10.0
    """Ridge."""
    init: Literal["uniform", "normal"] = "uniform"
    """The law of the random features."""

    former = {"batch_size": ""}
    quick = {"expansion": 128, "gamma": 1.0}


@method(
    "acil",
    paper="Zhuang et al., NeurIPS 2022, arXiv:2205.14922",
    evidence="reproduction",
    family="closed form",
    when="Many tasks and little time: the same solution as joint training of the head, in one pass.",
    known="CIFAR-100 B50 Inc2, ResNet-32: A_avg 71.05, A_last 63.38 (authors' README).",
    internals=(Internal("row_norms", "f32 [K]", "length of each row of the ridge's weights"),),
)
@final
class ACIL(Method[ACILParams]):
    """Ridge classifier on random features of a frozen backbone, in closed form.

        phi(x) = relu(f(x) R),    W = (sum phi^T phi + gamma I)^{-1} sum phi^T y,    logits = phi W         (1)

    Source: ACIL, Zhuang et al., NeurIPS 2022, arXiv:2205.14922 (recursive least squares; here the sums are kept, which
    is the same solution). On a frozen backbone; no gradient step, no stored image. Keeps D^2 + D K numbers.
    """

    former_parts = {"random_features": "expand", "ridge": "classifier"}

    def setup(self) -> None:
        """R, and sums over no image."""
        p, dim, device = self.params, self.backbone.feature_dim, self.backbone.device
        self.expand = RandomFeatures(dim, p.expansion or 1, p.init, self.draws("random features"), device)
        self.classifier = Ridge(p.expansion or dim, p.gamma, device, reads=self.expand if p.expansion else None)

    def learn(self, task: Task) -> Iterator[Progress]:
        """Equation (1)."""
        self.classifier.add(*(yield from gathered(self, task, stage="ridge")))
        self.classifier.solve()

    def internals(self):
        """Length of each row of W."""
        return {"row_norms": torch.linalg.vector_norm(self.classifier.weight, dim=0)}
