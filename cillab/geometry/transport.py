"""Optimal transport between Gaussians in closed form, and plans between classes. Float64.

The closed form has its own square roots: POT's `ot.gaussian` takes the root of an eigenvalue that rounding made
negative and returns NaN for nearly singular covariances, which class covariances are. Where both are finite they
agree (tests). Plans are POT's.
"""

import ot
import torch
from jaxtyping import Float
from torch import Tensor

# Relative to the largest eigenvalue; below it a variance is rounding, and its inverse root would be noise.
FLOOR = 1e-10


def shrink(covariance: Float[Tensor, "*cls feature feature"], amount: float) -> Float[Tensor, "*cls feature feature"]:
    """Pull a covariance towards a multiple of the identity with the same trace.

        (1 - a) S + a (tr S / D) I

    Source: Ledoit & Wolf, J. Multivariate Anal. 88(2) 2004, doi:10.1016/S0047-259X(03)00096-4, where `a` is
    estimated. With a in 0.05-0.1 the map between two shrunk covariances goes to a multiple of the identity in
    directions that carry no data.

    Raises:
        ValueError: `amount` outside [0, 1].
    """
    if not 0 <= amount <= 1:
        raise ValueError(f"Shrinkage must be in [0, 1], got {amount}.")
    s = covariance.double()
    dim = s.shape[-1]
    trace = s.diagonal(dim1=-2, dim2=-1).sum(dim=-1)[..., None, None]
    return (1 - amount) * s + amount * trace / dim * torch.eye(dim, dtype=s.dtype, device=s.device)


def gaussian_map(
    mean_s: Float[Tensor, " feature"],
    cov_s: Float[Tensor, "feature feature"],
    mean_t: Float[Tensor, " feature"],
    cov_t: Float[Tensor, "feature feature"],
    floor: float = FLOOR,
) -> tuple[Float[Tensor, "feature feature"], Float[Tensor, " feature"]]:
    """The optimal map x -> A x + b from N(mean_s, cov_s) to N(mean_t, cov_t) for squared Euclidean cost.

        A = S_s^{-1/2} (S_s^{1/2} S_t S_s^{1/2})^{1/2} S_s^{-1/2},    b = mean_t - A mean_s

    A is symmetric positive definite and A S_s A = S_t (exactly symmetric here; a Cholesky map moves the covariance
    too but is not optimal). Eigenvalues of S_s and S_t are raised to `floor` times the largest first; shrink them
    when there are fewer samples than dimensions. Only the two laws count: a rotation that leaves them as they are,
    and any pairing of images, are invisible. Source: Peyre & Cuturi, Computational Optimal Transport, 2019,
    arXiv:1803.00567, section 2.6.

    Raises:
        ValueError: a covariance that is zero, not finite, or not symmetric.
    """
    values, vectors = _eigh(cov_s, floor, "cov_s")
    root, inverse_root = _assemble(values.sqrt(), vectors), _assemble(values.rsqrt(), vectors)
    target = _assemble(*_eigh(cov_t, floor, "cov_t"))
    a = inverse_root @ _root(root @ target @ root) @ inverse_root
    a = (a + a.T) / 2
    return a, mean_t.double() - a @ mean_s.double()


def bures(
    cov_s: Float[Tensor, "*cls feature feature"], cov_t: Float[Tensor, "*cls feature feature"]
) -> Float[Tensor, "*cls"]:
    """Squared Bures distance of covariances: the part of W2^2 that is shape, not location.

        tr( S + S' - 2 (S^{1/2} S' S^{1/2})^{1/2} )

    Range [0, inf), 0 = equal covariances. Singular covariances are fine (only roots, no inverse). Source: Bhatia,
    Jain & Lim, Expo. Math. 37(2) 2019, arXiv:1712.01504.
    """
    s, t = cov_s.double(), cov_t.double()
    root = _root(s)
    cross = torch.linalg.eigvalsh(root @ t @ root).clamp(min=0).sqrt().sum(dim=-1)
    traces = (s + t).diagonal(dim1=-2, dim2=-1).sum(dim=-1)
    return (traces - 2 * cross).clamp(min=0)


def w2_gaussian(
    mean_s: Float[Tensor, " feature"],
    cov_s: Float[Tensor, "feature feature"],
    mean_t: Float[Tensor, " feature"],
    cov_t: Float[Tensor, "feature feature"],
) -> Float[Tensor, ""]:
    """2-Wasserstein distance of two Gaussians, in units of the features (not squared).

        W2^2 = ||m - m'||^2 + tr( S + S' - 2 (S^{1/2} S' S^{1/2})^{1/2} )

    Range [0, inf), lower is closer. Small samples: estimated from n < D images it is biased up, since two samples
    of one law have different covariances; shrink both. Near 0 rounding limits it to about 1e-8 of the spread.
    Source: Dowson & Landau, J. Multivariate Anal. 12(3) 1982, doi:10.1016/0047-259X(82)90077-X.
    """
    return ((mean_s.double() - mean_t.double()).square().sum() + bures(cov_s, cov_t)).sqrt()


def gaussian_costs(
    means_s: Float[Tensor, "source feature"],
    covs_s: Float[Tensor, "source feature feature"],
    means_t: Float[Tensor, "target feature"],
    covs_t: Float[Tensor, "target feature feature"],
) -> Float[Tensor, "source target"]:
    """W2^2 between every source and every target class: the cost for `class_plan`.

    One eigendecomposition per pair: seconds for 100 x 100 classes of 64 dimensions, minutes for 512.
    """
    locations = torch.cdist(means_s.double(), means_t.double(), compute_mode="donot_use_mm_for_euclid_dist").square()
    shapes = [bures(cov.expand_as(covs_t), covs_t) for cov in covs_s]
    return locations + torch.stack(shapes)


def class_plan(
    cost: Float[Tensor, "source target"],
    weights_s: Float[Tensor, " source"] | None = None,
    weights_t: Float[Tensor, " target"] | None = None,
    regularisation: float = 0.05,
) -> Float[Tensor, "source target"]:
    """Entropic transport plan between classes (Sinkhorn in the log domain, by POT).

        min_P <P, C / max C> + eps sum P log P,    P 1 = weights_s,  P^T 1 = weights_t

    Weights default to equal and are normalised. The cost is scaled by its maximum, so eps means the same for any
    feature scale: small eps = nearly one class to one class, large eps = everything to everything. Source: Cuturi,
    NeurIPS 2013, arXiv:1306.0895.

    Raises:
        ValueError: costs that are negative or not finite, weights that do not fit, eps not positive.
    """
    c = cost.double()
    if not bool((c.isfinite() & (c >= 0)).all()) or regularisation <= 0:
        raise ValueError(
            f"class_plan needs finite costs >= 0 and a regularisation > 0, got {regularisation} and costs"
            f" from {float(c.min()):.3g} to {float(c.max()):.3g}."
        )
    a, b = _weights(weights_s, c[:, 0], "weights_s"), _weights(weights_t, c[0], "weights_t")
    scaled = c / c.max().clamp(min=torch.finfo(c.dtype).tiny)
    plan = ot.sinkhorn(a, b, scaled, regularisation, method="sinkhorn_log", numItermax=10_000, stopThr=1e-10)
    return torch.as_tensor(plan)


def _weights(weights: Tensor | None, like: Tensor, name: str) -> Tensor:
    w = torch.ones_like(like) if weights is None else weights.to(like)
    if w.shape != like.shape or not bool((w > 0).all()):
        raise ValueError(f"{name} must be {len(like)} positive numbers, got {w.tolist()}.")
    return w / w.sum()


def _eigh(covariance: Tensor, floor: float, name: str) -> tuple[Tensor, Tensor]:
    s = covariance.double()
    if not bool(s.isfinite().all()) or not torch.allclose(s, s.T, rtol=1e-5, atol=1e-8 * float(s.abs().max())):
        raise ValueError(f"{name} must be a finite symmetric matrix.")
    values, vectors = torch.linalg.eigh((s + s.T) / 2)
    if not float(values[-1]) > 0:
        raise ValueError(f"{name} has no positive eigenvalue: there is nothing to transport.")
    return values.clamp(min=floor * float(values[-1])), vectors


def _root(matrix: Tensor) -> Tensor:
    """Symmetric square root; eigenvalues that rounding made negative count as zero."""
    values, vectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
    return _assemble(values.clamp(min=0).sqrt(), vectors)


def _assemble(values: Tensor, vectors: Tensor) -> Tensor:
    return (vectors * values[..., None, :]) @ vectors.mT
