"""LDA: class means and one covariance for all classes, on frozen features. The streaming form needs no more."""

from cillab.kit import (
    LDA as Head, Field, HyperParams, Iterator, Method, NonNegativeFloat, Progress, Task, final, gathered, method,
)  # fmt: skip


class LDAParams(HyperParams):
    """Hyper-parameters of LDA: none of them is trained."""

    shrinkage: float | None = Field(default=None, ge=0, le=1)
    """Share of the covariance that becomes a multiple of the identity with the same trace; by the oracle formula (OAS)
    where none is given, so that nothing has to be chosen."""
    ridge: NonNegativeFloat = 0.0
    """Added to every variance."""
    prior: bool = False
    """Classes with more images are likelier."""


@method(
    "lda",
    paper="Hayes & Kanan, Deep SLDA, CVPR-W 2020, arXiv:1909.01520",
    evidence="reproduction",
    family="closed form",
    when="Frozen features, images one by one, and nothing to be chosen: the strongest of the simplest.",
    ours="the exact within-class covariance, OAS shrinkage",
)
@final
class LDA(Method[LDAParams]):
    """Linear discriminant analysis with one covariance, kept up with every image.

        S       = (1/n) sum over images of (h - mu_y)(h - mu_y)^T,   h = f(x)                                   (1)
        Sigma   = (1 - a) S + a (tr S / d) I + ridge I                                                          (2)
        logit_c = h . w_c - mu_c . w_c / 2,   w_c = Sigma^{-1} mu_c                                             (3)

    Source: Deep SLDA, Hayes & Kanan, CVPR-W 2020, arXiv:1909.01520, whose update gives an image of a class that was
    never seen nearly the weight of its whole square; (1) is exact here, so order, increments and batches do not
    matter. a by Chen et al., IEEE TSP 58(10) 2010. Keeps d^2 + 2 K d numbers; one forward pass per image.
    """

    def setup(self) -> None:
        """No class yet."""
        p, dim, device = self.params, self.backbone.feature_dim, self.backbone.device
        self.classifier = Head(dim, device, shrinkage=p.shrinkage, ridge=p.ridge, prior=p.prior)

    def learn(self, task: Task) -> Iterator[Progress]:
        """Equations (1) to (3)."""
        self.classifier.add(*(yield from gathered(self, task, stage="statistics")))
        self.classifier.solve()
