"""G-ACIL: the ridge of ACIL where classes return."""

from cillab.kit import PositiveFloat, final, method
from cillab.parts.analytic import ROW_NORMS, Analytic, AnalyticParams


class GACILParams(AnalyticParams):
    """Hyper-parameters of G-ACIL: those of ACIL with a larger ridge."""

    gamma: PositiveFloat = 100.0
    """Ridge; without one, blurry streams end near chance."""


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
