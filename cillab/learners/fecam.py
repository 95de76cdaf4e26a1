"""FeCAM: a class is a mean and a covariance of frozen features; an image goes to the least Mahalanobis distance."""

from cillab.kit import (
    Covariance, F, Gaussian, HyperParams, Iterator, Literal, Method, NonNegativeFloat, PositiveFloat, PositiveInt,
    Progress, Task, Tensor, final, gathered, method,
)  # fmt: skip


class FeCAMParams(HyperParams):
    """Hyper-parameters of FeCAM: none of them is trained."""

    covariance: Covariance = "full"
    """A covariance per class, its diagonal, its leading directions, or one for all classes. At 1,000 classes of 768
    features "full" takes 2.4 GB, and as much again for its roots; the others less than 200 MB."""
    rank: PositiveInt = 16
    """Leading directions of a class where `covariance` is "low-rank"."""
    normalise: Literal["before", "after"] = "before"
    """Features get length 1 before their statistics are taken (as the paper does on ViTs), or only when distances are
    (as PILOT does)."""
    power: PositiveFloat = 1.0
    """Tukey's transform sign(h) |h|^power, before everything else; the paper has 0.5 on ResNets."""
    shrink: NonNegativeFloat = 1.0
    """Multiple of the mean variance that is added to every variance."""
    shrink_off: NonNegativeFloat = 0.0
    """Multiple of the mean covariance that is added to every covariance; the paper has 1 on ResNets."""
    correlate: bool = True
    """Divide covariances by standard deviations, so that classes of different spread compare."""

    quick = {"rank": 4}


@method(
    "fecam",
    paper="Goswami et al., FeCAM, NeurIPS 2023, arXiv:2309.14062",
    evidence="reproduction",
    family="closed form",
    when="Frozen features whose classes are stretched: what class means become once each class has its own shape.",
    known="CIFAR-100 B0-Inc10, ViT-B/16 in21k: A_avg about 91, A_last 85.7; nearest mean there 83.7 at the end.",
)
@final
class FeCAM(Method[FeCAMParams]):
    """Mahalanobis distances between normalised features and class means, with shrunk and normalised covariances.

        h   = f(x) / ||f(x)||,   mu_c, S_c = mean and covariance of h over class c                               (1)
        S'  = S_c + shrink mean(diag S_c) I + shrink_off mean(offdiag S_c) (11^T - I)                            (2)
        R_c = S'_ij / sqrt(S'_ii S'_jj),    logit_c = -(h - mu_c/||mu_c||)^T R_c^{-1} (h - mu_c/||mu_c||)        (3)

    Source: FeCAM, Goswami et al., NeurIPS 2023, arXiv:2309.14062. Up to rounding the result depends neither on order
    nor on increments. PILOT's recipe is `normalise=after` with a large `shrink`, which makes R_c nearly the identity
    and FeCAM nearly a nearest mean. The released code takes a pseudo-inverse per class at every evaluation; here roots
    are taken once per task. Keeps d + d^2 numbers per class; one forward pass per image.
    """

    def setup(self) -> None:
        """No class yet."""
        p = self.params
        self.classifier = Gaussian(
            self.backbone.feature_dim, p.covariance, self.backbone.device,
            rank=p.rank, shrink=(p.shrink, p.shrink_off), correlate=p.correlate, unit=True,
        )  # fmt: skip

    def shape(self, h: Tensor) -> Tensor:
        """Powers, then length 1."""
        if self.params.power != 1:
            h = h.sign() * h.abs().clamp(min=1e-12).pow(self.params.power)
        return F.normalize(h, dim=-1) if self.params.normalise == "before" else h

    def learn(self, task: Task) -> Iterator[Progress]:
        """Equation (1)."""
        h, labels = yield from gathered(self, task, stage="statistics")
        self.classifier.add(self.shape(h), labels)
