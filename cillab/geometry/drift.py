"""How far features moved between two snapshots of a learner. Pure functions, float64.

`_s` is the earlier snapshot, `_t` the later one. Functions of features take the same images in the same order in
both, except `sliced_wasserstein`, which compares clouds. Every result carries its detail; scalars reduce it.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from cillab.geometry import transport
from cillab.geometry.rows import centre as _centre, cosine, squared_distances, unit


@dataclass(frozen=True, eq=False)
class Drift:
    """One number per class, image, or direction, and their mean over the finite ones."""

    value: float
    detail: Float[np.ndarray, " item"]


@dataclass(frozen=True, eq=False)
class Subspaces:
    """Cosines of the principal angles, descending; `value` is the mean of their squares."""

    value: float
    cosines: Float[np.ndarray, " direction"]


@dataclass(frozen=True, eq=False)
class BuresWasserstein:
    """Squared Gaussian W2 per class in two parts; `value` is the mean W2 (not squared) over classes."""

    value: float
    location: Float[np.ndarray, " cls"]
    shape: Float[np.ndarray, " cls"]


@dataclass(frozen=True, eq=False)
class Misalignment:
    """Angles in radians between the rows of a head and the centred class means."""

    value: float  # mean change
    then: Float[np.ndarray, " cls"]
    now: Float[np.ndarray, " cls"]
    change: Float[np.ndarray, " cls"]


@dataclass(frozen=True, eq=False)
class ShiftEstimate:
    """Shift of old class means, estimated from current images, against the true one."""

    estimated: Float[np.ndarray, "cls feature"]
    true: Float[np.ndarray, "cls feature"]
    cosines: Float[np.ndarray, " cls"]  # between the two shifts
    relative_error: Float[np.ndarray, " cls"]  # ||estimated - true|| / ||true||
    value: float  # mean relative error; 1 = no better than assuming no drift


def cosine_drift(
    means_s: Float[np.ndarray, "cls feature"], means_t: Float[np.ndarray, "cls feature"], centred: bool = False
) -> Drift:
    """Turn of each class mean.

        1 - cos(mu_c^s, mu_c^t),    with `centred` each snapshot minus the average of its means

    Range [0, 2], 0 = no turn. Blind to scale. Transformer features share a large common mean: uncentred the drift
    looks small, centred it shows what a classifier sees; report both. NaN (left out of the mean) for a zero vector.
    Small samples: means of different images differ by about v_c / (n_c ||mu_c||^2) without any drift; the same images
    at both ends share that noise. Source: customary.

    Raises:
        ValueError: shapes that differ.
    """
    s, t = _pair(means_s, means_t)
    if centred:
        s, t = _centre(s), _centre(t)
    return _drift(1 - cosine(s, t))


def relative_drift(
    means_s: Float[np.ndarray, "cls feature"],
    means_t: Float[np.ndarray, "cls feature"],
    variances_s: Float[np.ndarray, " cls"],
    centred: bool = False,
) -> Drift:
    """Length of each class mean's move, in units of the spread inside classes before.

        || mu_c^t - mu_c^s || / mean_k sqrt(v_k^s),    v_k = mean squared distance of class k to its mean

    Range [0, inf), 0 = no move, 1 = as far as a typical image is from its class mean. Scale-free, comparable with
    NC1. `centred` removes a move that all classes share. Small samples: noise of the means alone gives about
    sqrt(2/n_c) when the images differ. Source: customary.
    """
    s, t = _pair(means_s, means_t)
    move = t - s
    if centred:
        move = _centre(move)
    return _drift(np.linalg.norm(move, axis=1) / np.sqrt(np.asarray(variances_s, dtype=np.float64)).mean())


def sample_drift(
    features_s: Float[np.ndarray, "image feature"], features_t: Float[np.ndarray, "image feature"]
) -> Drift:
    """Turn of each image's feature.

        mean_x ( 1 - cos(f_s(x), f_t(x)) )

    Range [0, 2], 0 = no turn; blind to scale. Unlike drift of means it sees images that trade places. Small samples:
    exact for each image; the mean over n of them has the error std / sqrt(n). Source: customary.
    """
    return cosine_drift(features_s, features_t)


def linear_cka(
    features_s: Float[np.ndarray, "image feature"], features_t: Float[np.ndarray, "image other"], debiased: bool = False
) -> float:
    """Similarity of two representations up to rotation, shift and isotropic scale; dimensions may differ.

        biased:    ||X^T Y||_F^2 / ( ||X^T X||_F ||Y^T Y||_F ),    columns centred
        debiased:  the same ratio of unbiased estimates of HSIC (zero-diagonal Grams; needs n >= 4)

    Source: Kornblith et al., ICML 2019, arXiv:1905.00414; Nguyen, Raghu & Kornblith, ICLR 2021, arXiv:2010.15327, with
    the estimator of Song et al., JMLR 13 2012. Range [0, 1], 1 = same. Small samples: with n < D the biased one is near
    1 for unrelated features; use the debiased one, which is 0 on average there and may be negative. Dominated by
    directions of large variance: a high value does not exclude forgetting. NaN for constant features.

    Raises:
        ValueError: different numbers of images, or fewer than 2 (4 if debiased).
    """
    n = len(features_s)
    if len(features_t) != n or n < (4 if debiased else 2):
        raise ValueError(
            f"linear_cka needs the same images twice, at least {4 if debiased else 2}, got {n} and {len(features_t)}."
        )
    x, y = _centre(features_s), _centre(features_t)
    hsic = _hsic_debiased if debiased else _hsic_biased
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y)))


def procrustes_distance(
    features_s: Float[np.ndarray, "image feature"], features_t: Float[np.ndarray, "image feature"]
) -> float:
    """What no rotation, shift and scale can undo.

        ||X||^2 + ||Y||^2 - 2 ||X^T Y||_*,    X, Y centred, of unit Frobenius norm

    Range [0, 2], 0 = the later features are the earlier ones rotated (a linear head could follow); compare with
    `sample_drift`, which counts a rotation as change. Biased down when n < D: few points can be rotated onto each
    other. Source: Ding, Denain & Steinhardt, NeurIPS 2021, arXiv:2108.01661. NaN for constant features.
    """
    s, t = _pair(features_s, features_t)
    x, y = _centre(s), _centre(t)
    scale = np.linalg.norm(x) * np.linalg.norm(y)
    if not scale > 0:
        return math.nan
    return max(0.0, 2 - 2 * float(np.linalg.svd(x.T @ y, compute_uv=False).sum() / scale))


def subspace_overlap(
    features_s: Float[np.ndarray, "image feature"], features_t: Float[np.ndarray, "other feature"], directions: int
) -> Subspaces:
    """Do the main directions of variance span the same space?

        mean_i sigma_i^2,    sigma = singular values of U_s^T U_t,    U = top-k principal directions

    Range [0, 1], 1 = same subspace; two random ones of dimension k in D give k/D. Small samples: directions with
    nearly equal variance are mixed by noise; look at the detail. Source: principal angles, Bjoerck & Golub, Math. Comp.
    27(123) 1973, doi:10.1090/S0025-5718-1973-0348991-3.

    Raises:
        ValueError: more directions than min(images - 1, dimensions), or fewer than 1.
    """
    most = min(len(features_s) - 1, len(features_t) - 1, features_s.shape[1])
    if not 1 <= directions <= most or features_s.shape[1] != features_t.shape[1]:
        raise ValueError(
            f"directions must be 1 to {most} for features {list(features_s.shape)} and"
            f" {list(features_t.shape)}, got {directions}."
        )
    u, v = (np.linalg.svd(_centre(f), full_matrices=False)[2][:directions] for f in (features_s, features_t))
    sigma = np.linalg.svd(u @ v.T, compute_uv=False).clip(max=1)
    return Subspaces(float(np.square(sigma).mean()), sigma)


def bures_wasserstein(
    means_s: Float[np.ndarray, "cls feature"],
    covs_s: Float[np.ndarray, "cls feature feature"],
    means_t: Float[np.ndarray, "cls feature"],
    covs_t: Float[np.ndarray, "cls feature feature"],
) -> BuresWasserstein:
    """Move and change of shape of every class as a Gaussian.

        W2^2 = ||mu - mu'||^2 + tr( S + S' - 2 (S^{1/2} S' S^{1/2})^{1/2} )

    Range [0, inf), 0 = same Gaussian. Shrink covariances (`transport.shrink`) when n_c < D: the shape part is
    otherwise biased up. Source: as for `transport.w2_gaussian`.
    """
    s, t = _pair(means_s, means_t)
    location = np.square(s - t).sum(axis=1)
    shape = np.array([transport.bures(a, b) for a, b in zip(covs_s, covs_t, strict=True)])
    return BuresWasserstein(float(np.sqrt(location + shape).mean()), location, shape)


def sliced_wasserstein(
    features_s: Float[np.ndarray, "image feature"],
    features_t: Float[np.ndarray, "other feature"],
    directions: int,
    generator: np.random.Generator,
) -> Drift:
    """Distance of two clouds of features, no Gaussian and no pairing assumed.

        sqrt( mean over random unit directions u of W2^2( X u, Y u ) );    detail: W2 per direction

    Range [0, inf), 0 = same cloud. Sizes may differ. A shift by d alone gives ||d|| / sqrt(D). Small samples: two
    samples of one law are not at 0. Monte-Carlo error falls with 1/sqrt(directions). Source: Bonneel et al., J. Math.
    Imaging Vis. 51 2015, doi:10.1007/s10851-014-0506-3.
    """
    if features_s.shape[1] != features_t.shape[1] or min(len(features_s), len(features_t), directions) < 1:
        raise ValueError(
            f"sliced_wasserstein needs directions and two clouds of the same dimension, got {directions},"
            f" {list(features_s.shape)} and {list(features_t.shape)}."
        )
    x, y = np.asarray(features_s, dtype=np.float64), np.asarray(features_t, dtype=np.float64)
    u = unit(generator.standard_normal((directions, x.shape[1])))
    a, b = np.sort(x @ u.T, axis=0), np.sort(y @ u.T, axis=0)
    n, m = len(a), len(b)
    # Both quantile functions are steps; the mass 1/n and 1/m is counted in units of 1/(n m), so edges are integers.
    edges = np.unique(np.concatenate([np.arange(n) * m, np.arange(m) * n]))
    mass = np.diff(edges, append=n * m) / (n * m)
    squared = mass @ np.square(a[edges // m] - b[edges // n])
    return Drift(float(np.sqrt(squared.mean())), np.sqrt(squared))


def head_misalignment(
    weight_s: Float[np.ndarray, "cls feature"],
    means_s: Float[np.ndarray, "cls feature"],
    weight_t: Float[np.ndarray, "cls feature"],
    means_t: Float[np.ndarray, "cls feature"],
) -> Misalignment:
    """How far class means turned away from the rows of the head that were made for them.

        angle( w_c, mu_c - mu_G ) now, minus the same when the task ended

    Range [0, pi], in radians; a positive change is forgetting that a new head would undo (shallow). Pass the same
    weight twice for a head that was frozen. Centre rows of heads that were trained task by task. Small samples: noise
    of the means widens both angles, and their difference less. Source: defined here.
    """
    w_s, w_t = _pair(weight_s, weight_t)
    s, t = _pair(means_s, means_t)
    then, now = _angles(w_s, _centre(s)), _angles(w_t, _centre(t))
    return Misalignment(float((now - then).mean()), then, now, now - then)


def semantic_drift(
    prototypes: Float[np.ndarray, "cls feature"],
    features_s: Float[np.ndarray, "image feature"],
    features_t: Float[np.ndarray, "image feature"],
    true_means_t: Float[np.ndarray, "cls feature"],
    sigma: float,
) -> ShiftEstimate:
    """Shift of old class means estimated from the shift of current images near them, against the true shift.

        estimate_c = sum_i w_ci (f_t(x_i) - f_s(x_i)) / sum_i w_ci
        w_ci = exp( -||f_s(x_i) - mu_c||^2 / (2 sigma^2) )

    `prototypes` are the old means before the task, `true_means_t` the same classes re-measured after it (an oracle).
    Relative error in [0, inf), lower is better, 1 = no better than assuming no drift; inf where there was none.
    Weights are normalised in the log domain, so classes far from all current images still get an estimate.
    Small samples: with a small sigma the nearest image alone decides.
    Source: SDC, Yu et al., CVPR 2020, arXiv:2004.00440.

    Raises:
        ValueError: sigma not positive.
    """
    if sigma <= 0:
        raise ValueError(f"sigma must be positive, got {sigma}.")
    s, t = _pair(features_s, features_t)
    old, new = _pair(prototypes, true_means_t)
    likeness = -squared_distances(old, s) / (2 * sigma**2)
    weights = np.exp(likeness - likeness.max(axis=1, keepdims=True))
    estimated = weights / weights.sum(axis=1, keepdims=True) @ (t - s)
    true = new - old
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.linalg.norm(estimated - true, axis=1) / np.linalg.norm(true, axis=1)
    return ShiftEstimate(estimated, true, cosine(estimated, true), error, _finite_mean(error))


def _hsic_biased(x: np.ndarray, y: np.ndarray) -> float:
    return _overlap(x, y)


def _hsic_debiased(x: np.ndarray, y: np.ndarray) -> float:
    """HSIC_1 of Song et al. for linear kernels, from features."""
    n = len(x)
    a, b = np.square(x).sum(axis=1), np.square(y).sum(axis=1)  # the diagonals that the estimator removes
    row_x, row_y = x @ x.sum(axis=0) - a, y @ y.sum(axis=0) - b
    trace = _overlap(x, y) - a @ b
    total = row_x.sum() * row_y.sum() / ((n - 1) * (n - 2))
    return float((trace + total - 2 * (row_x @ row_y) / (n - 2)) / (n * (n - 3)))


def _overlap(x: np.ndarray, y: np.ndarray) -> float:
    """||X^T Y||_F^2 = <X X^T, Y Y^T>, through the smaller of the two products."""
    if len(x) < max(x.shape[1], y.shape[1]):
        return float(((x @ x.T) * (y @ y.T)).sum())
    return float(np.square(x.T @ y).sum())


def _angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angle of each pair of rows; arctan2 of half-angles keeps its digits near 0 and pi, where arccos loses them."""
    u, v = unit(a), unit(b)
    return 2 * np.arctan2(np.linalg.norm(u - v, axis=1), np.linalg.norm(u + v, axis=1))


def _pair(s: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if s.shape != t.shape:
        raise ValueError(f"The two snapshots differ in shape: {list(s.shape)} and {list(t.shape)}.")
    return np.asarray(s, dtype=np.float64), np.asarray(t, dtype=np.float64)


def _drift(detail: np.ndarray) -> Drift:
    return Drift(_finite_mean(detail), detail)


def _finite_mean(values: np.ndarray) -> float:
    some = values[np.isfinite(values)]
    return float(some.mean()) if len(some) else math.nan
