"""Optimal transport between Gaussians in closed form, and plans between classes. Float64.

The closed form has its own square roots: POT's `ot.gaussian` takes the root of an eigenvalue that rounding made
negative and returns NaN for nearly singular covariances, which class covariances are. Where both are finite they
agree (tests). Plans are POT's.
"""

import math

import numpy as np
from jaxtyping import Float

from cillab.geometry.rows import centre, squared_distances

# Relative to the largest eigenvalue; below it a variance is rounding, and its inverse root would be noise.
FLOOR = 1e-10


def shrink(
    covariance: Float[np.ndarray, "*cls feature feature"], amount: float
) -> Float[np.ndarray, "*cls feature feature"]:
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
    s = np.asarray(covariance, dtype=np.float64)
    dim = s.shape[-1]
    trace = np.trace(s, axis1=-2, axis2=-1)[..., None, None]
    return (1 - amount) * s + amount * trace / dim * np.eye(dim)


def gaussian_map(
    mean_s: Float[np.ndarray, " feature"],
    cov_s: Float[np.ndarray, "feature feature"],
    mean_t: Float[np.ndarray, " feature"],
    cov_t: Float[np.ndarray, "feature feature"],
    floor: float = FLOOR,
) -> tuple[Float[np.ndarray, "feature feature"], Float[np.ndarray, " feature"]]:
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
    root, inverse_root = _assemble(np.sqrt(values), vectors), _assemble(1 / np.sqrt(values), vectors)
    target = _assemble(*_eigh(cov_t, floor, "cov_t"))
    a = inverse_root @ _root(root @ target @ root) @ inverse_root
    a = (a + a.T) / 2
    return a, np.asarray(mean_t, dtype=np.float64) - a @ np.asarray(mean_s, dtype=np.float64)


def bures(
    cov_s: Float[np.ndarray, "*cls feature feature"], cov_t: Float[np.ndarray, "*cls feature feature"]
) -> Float[np.ndarray, "*cls"]:
    """Squared Bures distance of covariances: the part of W2^2 that is shape, not location.

        tr( S + S' - 2 (S^{1/2} S' S^{1/2})^{1/2} )

    Range [0, inf), 0 = equal covariances. Singular covariances are fine (only roots, no inverse). Source: Bhatia,
    Jain & Lim, Expo. Math. 37(2) 2019, arXiv:1712.01504.
    """
    s, t = np.asarray(cov_s, dtype=np.float64), np.asarray(cov_t, dtype=np.float64)
    root = _root(s)
    cross = np.sqrt(np.linalg.eigvalsh(root @ t @ root).clip(min=0)).sum(axis=-1)
    return np.asarray((np.trace(s + t, axis1=-2, axis2=-1) - 2 * cross).clip(min=0))


def w2_gaussian(
    mean_s: Float[np.ndarray, " feature"],
    cov_s: Float[np.ndarray, "feature feature"],
    mean_t: Float[np.ndarray, " feature"],
    cov_t: Float[np.ndarray, "feature feature"],
) -> float:
    """2-Wasserstein distance of two Gaussians, in units of the features (not squared).

        W2^2 = ||m - m'||^2 + tr( S + S' - 2 (S^{1/2} S' S^{1/2})^{1/2} )

    Range [0, inf), lower is closer. Small samples: estimated from n < D images it is biased up, since two samples
    of one law have different covariances; shrink both. Near 0 rounding limits it to about 1e-8 of the spread.
    Source: Dowson & Landau, J. Multivariate Anal. 12(3) 1982, doi:10.1016/0047-259X(82)90077-X.
    """
    gap = np.asarray(mean_s, dtype=np.float64) - np.asarray(mean_t, dtype=np.float64)
    return math.sqrt(gap @ gap + bures(cov_s, cov_t))


def w2_of_images(
    features_s: Float[np.ndarray, "image feature"], features_t: Float[np.ndarray, "other feature"]
) -> float:
    """W2 of the Gaussians with the moments of two sets of images: no covariance is formed, none inverted.

        W2^2 = ||m - m'||^2 + tr S + tr S' - 2 || X Y^T ||_* / sqrt(n n'),    S = X^T X / n,  S' = Y^T Y / n'

    X, Y are the centred images. Range, small samples and source: as for `w2_gaussian`.
    """
    s, t = np.asarray(features_s, dtype=np.float64), np.asarray(features_t, dtype=np.float64)
    x, y, gap = centre(s), centre(t), s.mean(axis=0) - t.mean(axis=0)
    cross = np.linalg.svd(x @ y.T, compute_uv=False).sum() / math.sqrt(len(x) * len(y))
    traces = np.square(x).sum() / len(x) + np.square(y).sum() / len(y)
    return math.sqrt(max(0.0, float(gap @ gap + traces - 2 * cross)))


def gaussian_costs(
    means_s: Float[np.ndarray, "source feature"],
    covs_s: Float[np.ndarray, "source feature feature"],
    means_t: Float[np.ndarray, "target feature"],
    covs_t: Float[np.ndarray, "target feature feature"],
) -> Float[np.ndarray, "source target"]:
    """W2^2 between every source and every target class: the cost for `class_plan`.

    One eigendecomposition per pair: seconds for 100 x 100 classes of 64 dimensions, minutes for 512.
    """
    shapes = [bures(np.broadcast_to(cov, covs_t.shape), covs_t) for cov in covs_s]
    return squared_distances(means_s, means_t) + np.stack(shapes)


def class_plan(
    cost: Float[np.ndarray, "source target"],
    weights_s: Float[np.ndarray, " source"] | None = None,
    weights_t: Float[np.ndarray, " target"] | None = None,
    regularisation: float = 0.05,
) -> Float[np.ndarray, "source target"]:
    """Entropic transport plan between classes (Sinkhorn in the log domain, by POT).

        min_P <P, C / max C> + eps sum P log P,    P 1 = weights_s,  P^T 1 = weights_t

    Weights default to equal and are normalised. The cost is scaled by its maximum, so eps means the same for any
    feature scale: small eps = nearly one class to one class, large eps = everything to everything. Source: Cuturi,
    NeurIPS 2013, arXiv:1306.0895.

    Raises:
        ValueError: costs that are negative or not finite, weights that do not fit, eps not positive.
    """
    import ot  # noqa: PLC0415 (it loads PyTorch where there is one; nothing else here does)

    c = np.asarray(cost, dtype=np.float64)
    if not (np.isfinite(c) & (c >= 0)).all() or regularisation <= 0:
        raise ValueError(
            f"class_plan needs finite costs >= 0 and a regularisation > 0, got {regularisation} and costs"
            f" from {float(c.min()):.3g} to {float(c.max()):.3g}."
        )
    a, b = _weights(weights_s, c[:, 0], "weights_s"), _weights(weights_t, c[0], "weights_t")
    scaled = c / max(c.max(), np.finfo(np.float64).tiny)
    plan = ot.sinkhorn(a, b, scaled, regularisation, method="sinkhorn_log", numItermax=10_000, stopThr=1e-10)
    return np.asarray(plan)


def _weights(weights: np.ndarray | None, like: np.ndarray, name: str) -> np.ndarray:
    w = np.ones_like(like) if weights is None else np.asarray(weights, dtype=np.float64)
    if w.shape != like.shape or not (w > 0).all():
        raise ValueError(f"{name} must be {len(like)} positive numbers, got {w.tolist()}.")
    return w / w.sum()


def _eigh(covariance: np.ndarray, floor: float, name: str) -> tuple[np.ndarray, np.ndarray]:
    s = np.asarray(covariance, dtype=np.float64)
    if not np.isfinite(s).all() or not np.allclose(s, s.T, rtol=1e-5, atol=1e-8 * float(np.abs(s).max())):
        raise ValueError(f"{name} must be a finite symmetric matrix.")
    values, vectors = np.linalg.eigh((s + s.T) / 2)
    if not float(values[-1]) > 0:
        raise ValueError(f"{name} has no positive eigenvalue: there is nothing to transport.")
    return values.clip(min=floor * float(values[-1])), vectors


def _root(matrix: np.ndarray) -> np.ndarray:
    """Symmetric square root; eigenvalues that rounding made negative count as zero."""
    values, vectors = np.linalg.eigh((matrix + np.swapaxes(matrix, -1, -2)) / 2)
    return _assemble(np.sqrt(values.clip(min=0)), vectors)


def _assemble(values: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    return (vectors * values[..., None, :]) @ np.swapaxes(vectors, -1, -2)
