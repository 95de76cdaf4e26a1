"""How far features moved between two snapshots of a learner. Pure functions, float64.

`_s` is the earlier snapshot, `_t` the later one. Functions of features take the same images in the same order in
both, except `sliced_wasserstein`, which compares clouds. Every result carries its detail; scalars reduce it.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor

from cillab.geometry import transport


@dataclass(frozen=True, eq=False)
class Drift:
    """One number per class, image, or direction, and their mean over the finite ones."""

    value: float
    detail: Float[Tensor, " item"]


@dataclass(frozen=True, eq=False)
class Subspaces:
    """Cosines of the principal angles, descending; `value` is the mean of their squares."""

    value: float
    cosines: Float[Tensor, " direction"]


@dataclass(frozen=True, eq=False)
class BuresWasserstein:
    """Squared Gaussian W2 per class in two parts; `value` is the mean W2 (not squared) over classes."""

    value: float
    location: Float[Tensor, " cls"]
    shape: Float[Tensor, " cls"]


@dataclass(frozen=True, eq=False)
class Misalignment:
    """Angles in radians between the rows of a head and the centred class means."""

    value: float  # mean change
    then: Float[Tensor, " cls"]
    now: Float[Tensor, " cls"]
    change: Float[Tensor, " cls"]


@dataclass(frozen=True, eq=False)
class ShiftEstimate:
    """Shift of old class means, estimated from current images, against the true one."""

    estimated: Float[Tensor, "cls feature"]
    true: Float[Tensor, "cls feature"]
    cosines: Float[Tensor, " cls"]  # between the two shifts
    relative_error: Float[Tensor, " cls"]  # ||estimated - true|| / ||true||
    value: float  # mean relative error; 1 = no better than assuming no drift


def cosine_drift(
    means_s: Float[Tensor, "cls feature"], means_t: Float[Tensor, "cls feature"], centred: bool = False
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
        s, t = s - s.mean(dim=0), t - t.mean(dim=0)
    return _drift(1 - F.cosine_similarity(s, t, dim=1, eps=0.0))


def relative_drift(
    means_s: Float[Tensor, "cls feature"],
    means_t: Float[Tensor, "cls feature"],
    variances_s: Float[Tensor, " cls"],
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
        move = move - move.mean(dim=0)
    return _drift(move.norm(dim=1) / variances_s.double().sqrt().mean())


def sample_drift(features_s: Float[Tensor, "image feature"], features_t: Float[Tensor, "image feature"]) -> Drift:
    """Turn of each image's feature.

        mean_x ( 1 - cos(f_s(x), f_t(x)) )

    Range [0, 2], 0 = no turn; blind to scale. Unlike drift of means it sees images that trade places. Small samples:
    exact for each image; the mean over n of them has the error std / sqrt(n). Source: customary.
    """
    return cosine_drift(features_s, features_t)


def linear_cka(
    features_s: Float[Tensor, "image feature"], features_t: Float[Tensor, "image other"], debiased: bool = False
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
    return float(hsic(x, y) / (hsic(x, x) * hsic(y, y)).sqrt())


def procrustes_distance(
    features_s: Float[Tensor, "image feature"], features_t: Float[Tensor, "image feature"]
) -> float:
    """What no rotation, shift and scale can undo.

        ||X||^2 + ||Y||^2 - 2 ||X^T Y||_*,    X, Y centred, of unit Frobenius norm

    Range [0, 2], 0 = the later features are the earlier ones rotated (a linear head could follow); compare with
    `sample_drift`, which counts a rotation as change. Biased down when n < D: few points can be rotated onto each
    other. Source: Ding, Denain & Steinhardt, NeurIPS 2021, arXiv:2108.01661. NaN for constant features.
    """
    s, t = _pair(features_s, features_t)
    x, y = _centre(s), _centre(t)
    x, y = x / x.norm(), y / y.norm()
    if not bool(x.isfinite().all() & y.isfinite().all()):
        return float("nan")
    return max(0.0, 2 - 2 * float(torch.linalg.svdvals(x.T @ y).sum()))


def subspace_overlap(
    features_s: Float[Tensor, "image feature"], features_t: Float[Tensor, "other feature"], directions: int
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
    u, v = (torch.linalg.svd(_centre(f), full_matrices=False)[2][:directions] for f in (features_s, features_t))
    sigma = torch.linalg.svdvals(u @ v.T).clamp(max=1)
    return Subspaces(float(sigma.square().mean()), sigma)


def bures_wasserstein(
    means_s: Float[Tensor, "cls feature"],
    covs_s: Float[Tensor, "cls feature feature"],
    means_t: Float[Tensor, "cls feature"],
    covs_t: Float[Tensor, "cls feature feature"],
) -> BuresWasserstein:
    """Move and change of shape of every class as a Gaussian.

        W2^2 = ||mu - mu'||^2 + tr( S + S' - 2 (S^{1/2} S' S^{1/2})^{1/2} )

    Range [0, inf), 0 = same Gaussian. Shrink covariances (`transport.shrink`) when n_c < D: the shape part is
    otherwise biased up. Source: as for `transport.w2_gaussian`.
    """
    s, t = _pair(means_s, means_t)
    location = (s - t).square().sum(dim=1)
    shape = torch.stack([transport.bures(a, b) for a, b in zip(covs_s, covs_t, strict=True)])
    return BuresWasserstein(float((location + shape).sqrt().mean()), location, shape)


def sliced_wasserstein(
    features_s: Float[Tensor, "image feature"],
    features_t: Float[Tensor, "other feature"],
    directions: int,
    generator: Generator,
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
    x, y = features_s.double(), features_t.double()
    u = torch.randn(directions, x.shape[1], dtype=x.dtype, generator=generator, device=generator.device)
    u = F.normalize(u, dim=1).to(x.device)
    a, b = (x @ u.T).sort(dim=0).values, (y @ u.T).sort(dim=0).values
    n, m = len(a), len(b)
    # Both quantile functions are steps; the mass 1/n and 1/m is counted in units of 1/(n m), so edges are integers.
    edges = torch.cat([torch.arange(n, device=a.device) * m, torch.arange(m, device=a.device) * n]).unique()
    mass = torch.diff(edges, append=edges.new_tensor([n * m])).double() / (n * m)
    squared = mass @ (a[edges // m] - b[edges // n]).square()
    return Drift(float(squared.mean().sqrt()), squared.sqrt())


def head_misalignment(
    weight_s: Float[Tensor, "cls feature"],
    means_s: Float[Tensor, "cls feature"],
    weight_t: Float[Tensor, "cls feature"],
    means_t: Float[Tensor, "cls feature"],
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
    prototypes: Float[Tensor, "cls feature"],
    features_s: Float[Tensor, "image feature"],
    features_t: Float[Tensor, "image feature"],
    true_means_t: Float[Tensor, "cls feature"],
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
    distances = torch.cdist(old, s, compute_mode="donot_use_mm_for_euclid_dist")
    estimated = (-distances.square() / (2 * sigma**2)).softmax(dim=1) @ (t - s)
    true = new - old
    error = (estimated - true).norm(dim=1) / true.norm(dim=1)
    cosine = F.cosine_similarity(estimated, true, dim=1, eps=0.0)
    return ShiftEstimate(estimated, true, cosine, error, _finite_mean(error))


def _hsic_biased(x: Tensor, y: Tensor) -> Tensor:
    return (x.T @ y).square().sum()


def _hsic_debiased(x: Tensor, y: Tensor) -> Tensor:
    """HSIC_1 of Song et al. for linear kernels, from features: no n x n matrix is formed."""
    n = len(x)
    a, b = x.square().sum(dim=1), y.square().sum(dim=1)  # the diagonals that the estimator removes
    row_x, row_y = x @ x.sum(dim=0) - a, y @ y.sum(dim=0) - b
    trace = (x.T @ y).square().sum() - a @ b
    total = row_x.sum() * row_y.sum() / ((n - 1) * (n - 2))
    return (trace + total - 2 * (row_x @ row_y) / (n - 2)) / (n * (n - 3))


def _angles(a: Tensor, b: Tensor) -> Tensor:
    """Angle of each pair of rows; arctan2 of half-angles keeps its digits near 0 and pi, where arccos loses them."""
    u, v = F.normalize(a, dim=1), F.normalize(b, dim=1)
    return 2 * torch.atan2((u - v).norm(dim=1), (u + v).norm(dim=1))


def _centre(features: Tensor) -> Tensor:
    return features.double() - features.double().mean(dim=0)


def _pair(s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    if s.shape != t.shape:
        raise ValueError(f"The two snapshots differ in shape: {list(s.shape)} and {list(t.shape)}.")
    return s.double(), t.double()


def _drift(detail: Tensor) -> Drift:
    return Drift(_finite_mean(detail), detail)


def _finite_mean(values: Tensor) -> float:
    return float(values[values.isfinite()].mean())
