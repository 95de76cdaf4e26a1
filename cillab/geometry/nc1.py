"""NC1: how small the spread within classes is beside the distance between them. Pure functions, float64.

`centred` is mu_c - mu_G, one row per class; Sigma_B = (1/K) sum_c (mu_c - mu_G)(mu_c - mu_G)^T throughout.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from cillab.geometry.rows import squared_distances

# Relative to the largest eigenvalue of Sigma_B. Means of float32 features leave noise of relative size 1e-8 in the
# singular values of a direction that should be empty, 1e-16 in its eigenvalue; 1e-12 keeps clear of it.
CUTOFF = 1e-12


@dataclass(frozen=True, eq=False)
class SpectralRatio:
    """Within over between, direction by direction of Sigma_B; `value` is their sum over K."""

    value: float
    eigenvalues: Float[np.ndarray, " direction"]  # of Sigma_B, descending
    within: Float[np.ndarray, " direction"]  # v_i^T Sigma_W v_i
    dropped: int  # directions of the first K - 1 that fell below the cut-off


@dataclass(frozen=True, eq=False)
class TraceRatio:
    """`per_class` is v_c / tr Sigma_B; `value` their average weighted by class size."""

    value: float
    per_class: Float[np.ndarray, " cls"]


@dataclass(frozen=True, eq=False)
class PairVariability:
    """`pairs` is symmetric with NaN on the diagonal; `value` its mean off the diagonal."""

    value: float
    pairs: Float[np.ndarray, "cls cls"]


def nc1_pinv(
    within: Float[np.ndarray, "feature feature"], centred: Float[np.ndarray, "cls feature"], cutoff: float = CUTOFF
) -> SpectralRatio:
    """Within-class over between-class covariance, with the pseudo-inverse of the latter.

        (1/K) tr(Sigma_W Sigma_B^+) = (1/K) sum_i  v_i^T Sigma_W v_i / lambda_i,    lambda_i > cutoff * lambda_1

    Source: Papyan, Han & Donoho, PNAS 117(40) 2020, doi:10.1073/pnas.2015509117. lambda_i, v_i come from the SVD
    of the K centred means, so no D x D pseudo-inverse is formed and the value cannot turn negative, which it does
    in implementations without a cut-off. Range [0, inf), lower is more collapsed, 0 = every class is a point.
    NaN for fewer than 2 classes or equal means. Small samples: biased down when n_c is near 1; n_c < D leaves
    directions of Sigma_W empty. Unchanged by rotation, scale and shift, and by any invertible linear map while
    Sigma_B has rank K - 1 = D. Grows with K by definition: on a simplex with isotropic spread s^2 and unit vertices it
    is s^2 (K - 1)^2 / K, so compare runs at the same K, or read `nc1_quotient`.
    """
    return _spectral(within, centred, cutoff)


def nc1_svd(within: Float[np.ndarray, "feature feature"], centred: Float[np.ndarray, "cls feature"]) -> SpectralRatio:
    """As `nc1_pinv`, with exactly the top K - 1 directions of Sigma_B (or D, if fewer) and no cut-off.

        (1/K) sum_{i < K} v_i^T Sigma_W v_i / lambda_i

    Source: the code of Han, Papyan & Donoho, ICLR 2022, arXiv:2106.02073. Range [0, inf], lower is more collapsed.
    Small samples: as for `nc1_pinv`. Equal to `nc1_pinv` when the class means
    have full rank K - 1; when they do not, this variant divides by rounding noise and is huge or infinite.
    """
    return _spectral(within, centred, cutoff=0.0)


def nc1_quotient(
    variances: Float[np.ndarray, " cls"], counts: Int[np.ndarray, " cls"], centred: Float[np.ndarray, "cls feature"]
) -> TraceRatio:
    """Trace of the within-class over trace of the between-class covariance.

        tr Sigma_W / tr Sigma_B,    tr Sigma_W = (1/N) sum_c n_c v_c,    tr Sigma_B = (1/K) sum_c ||mu_c - mu_G||^2

    Source: Tirer, Huang & Niles-Weed, ICML 2023, arXiv:2210.16658. Range [0, inf), lower is more collapsed. Needs no
    D x D matrix. Small samples: v_c is 0 for a class of one image. NaN for fewer than 2 classes.
    """
    v, n = np.asarray(variances, dtype=np.float64), np.asarray(counts)
    between = np.square(np.asarray(centred, dtype=np.float64)).sum(axis=1).mean() if len(centred) > 1 else np.nan
    with np.errstate(invalid="ignore", divide="ignore"):
        per_class = v / between
        return TraceRatio(float((n * per_class).sum() / n.sum()), per_class)


def cdnv(variances: Float[np.ndarray, " cls"], means: Float[np.ndarray, "cls feature"]) -> PairVariability:
    """Class-distance normalised variance of every pair of classes.

        V(a, b) = (v_a + v_b) / (2 ||mu_a - mu_b||^2),    value = mean over a != b

    Source: Galanti, Gyoergy & Hutter, ICLR 2022, arXiv:2112.15121. Range [0, inf), lower is better: nearest-mean
    error on a pair falls with it. inf for two equal means with spread. NaN for fewer than 2 classes. Unlike the
    other variants it sees which pair is close. Small samples: biased down by (n_c - 1)/n_c.
    """
    v, k = np.asarray(variances, dtype=np.float64), len(means)
    with np.errstate(invalid="ignore", divide="ignore"):
        pairs = (v[:, None] + v) / (2 * squared_distances(means, means))
    np.fill_diagonal(pairs, np.nan)
    return PairVariability(float(np.nansum(pairs) / (k * (k - 1))) if k > 1 else np.nan, pairs)


def _spectral(within: np.ndarray, centred: np.ndarray, cutoff: float) -> SpectralRatio:
    classes = len(centred)
    if within.shape != (centred.shape[1],) * 2:
        raise ValueError(f"Sigma_W {list(within.shape)} does not fit class means {list(centred.shape)}.")
    if classes < 2:
        return SpectralRatio(np.nan, np.zeros(0), np.zeros(0), 0)
    _, singular, directions = np.linalg.svd(np.asarray(centred, dtype=np.float64), full_matrices=False)
    top = min(classes - 1, centred.shape[1])
    eigenvalues = np.square(singular[:top]) / classes
    kept = eigenvalues > cutoff * eigenvalues[0] if cutoff else np.ones(top, dtype=bool)
    v = directions[:top][kept]
    spread = ((v @ np.asarray(within, dtype=np.float64)) * v).sum(axis=1).clip(min=0)
    with np.errstate(invalid="ignore", divide="ignore"):  # without a cut-off: rounding noise, or zero
        value = (spread / eigenvalues[kept]).sum() / classes if kept.any() else np.nan
    return SpectralRatio(float(value), eigenvalues[kept], spread, int((~kept).sum()))
