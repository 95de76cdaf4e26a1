"""ACIL and G-ACIL: a ridge on random features of a frozen backbone. Learning in tasks equals learning all at once.

One solution: G-ACIL is what ACIL's recursion becomes where classes return, and the sums that are kept here know both.
"""

from typing import TypeVar

from cillab.kit import (
    HyperParams, Internal, Iterator, Literal, Method, NonNegativeInt, PositiveFloat, Progress, RandomFeatures, Ridge,
    Task, final, gathered, method, torch,
)  # fmt: skip


class ACILParams(HyperParams):
    """Hyper-parameters of ACIL: none of them is trained."""

    expansion: NonNegativeInt = 2048
    """D, the number of random features; 0 reads the backbone's features themselves. The paper has 8192."""
    gamma: PositiveFloat = 10.0
    """Ridge."""
    init: Literal["uniform", "normal"] = "uniform"
    """The law of R: U(-1/sqrt(D), 1/sqrt(D)), or N(0, 1). The released code has U(-1/sqrt(d), 1/sqrt(d)) for d features
    of the backbone, where the same solution takes a ridge of gamma D / d."""

    former = {"batch_size": ""}
    quick = {"expansion": 128, "gamma": 1.0}


class GACILParams(ACILParams):
    """Hyper-parameters of G-ACIL: those of ACIL with a larger ridge."""

    gamma: PositiveFloat = 100.0
    """Ridge; without one, blurry streams end near chance."""

    former = {}


P = TypeVar("P", bound=ACILParams)


class Analytic(Method[P]):
    """R, and the sums over all images that equation (1) of the leaves is solved from."""

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


ROW_NORMS = Internal("row_norms", "f32 [K]", "length of each row of the ridge's weights")


@method(
    "acil",
    paper="Zhuang et al., NeurIPS 2022, arXiv:2205.14922",
    evidence="reproduction",
    family="closed form",
    when="Many tasks and little time: the same solution as joint training of the head, in one pass.",
    known="CIFAR-100 B50 Inc2, ResNet-32: A_avg 71.05, A_last 63.38 (authors' README).",
    ours="a pre-trained backbone in place of one trained on the first task; 2,048 random features of another scale, and"
    " with it the ridge",
    internals=(ROW_NORMS,),
)
@final
class ACIL(Analytic[ACILParams]):
    """Ridge classifier on random features of a frozen backbone, in closed form.

        phi(x) = relu(f(x) R),    W = (sum phi^T phi + gamma I)^{-1} sum phi^T y,    logits = phi W         (1)

    Source: ACIL, Zhuang et al., NeurIPS 2022, arXiv:2205.14922 (recursive least squares; here the sums are kept, which
    is the same solution). On a frozen backbone; no gradient step, no stored image. Keeps D^2 + 2 D K + d D numbers; one
    pass per image.
    """


@method(
    "g-acil",
    paper="Zhuang et al., GACL, NeurIPS 2024, arXiv:2403.15706",
    evidence="reproduction",
    family="closed form",
    when="Blurry streams: classes come back in later tasks, in any proportion, and nothing may depend on that.",
    known="Si-Blurry, DeiT-S trained without overlap, A_AUC: CIFAR-100 57.99, ImageNet-R 41.68, Tiny-ImageNet 63.14.",
    ours="2,048 random features of another scale, and with it the ridge",
    internals=(ROW_NORMS,),
)
@final
class GACIL(Analytic[GACILParams]):
    """The ridge of ACIL where classes return: old and new images of a class weigh the same.

        phi(x) = relu(f(x) R),    W = (sum phi^T phi + gamma I)^{-1} sum phi^T y,    logits = phi W         (1)

    over the images of all tasks. The recursion of the paper corrects the columns of exposed classes by a gain of their
    own; its result is (1), which sums give without it. Source: GACL, Zhuang et al., NeurIPS 2024, arXiv:2403.15706. On
    a frozen backbone; no gradient step, no stored image. Keeps D^2 + 2 D K + d D numbers; one pass per image.
    """
