"""ACIL: a ridge on random features of a frozen backbone. Learning in tasks equals learning all at once."""

from cillab.kit import final, method
from cillab.parts.analytic import ROW_NORMS, Analytic, AnalyticParams


class ACILParams(AnalyticParams):
    """Hyper-parameters of ACIL: none of them is trained."""

    former = {"batch_size": ""}


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
