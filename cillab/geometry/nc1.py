"""NC1: how small the spread within classes is beside the distance between them. Pure functions, float64.

`centred` is mu_c - mu_G, one row per class; Sigma_B = (1/K) sum_c (mu_c - mu_G)(mu_c - mu_G)^T throughout.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

# Relative to the largest eigenvalue of Sigma_B. Means of float32 features leave noise of relative size 1e-8 in the
# singular values of a direction that should be empty, 1e-16 in its eigenvalue; 1e-12 keeps clear of it.
CUTOFF = 1e-12


@dataclass(frozen=True, eq=False)
class SpectralRatio:
    """Within over between, direction by direction of Sigma_B; `value` is their sum over K."""

    value: float
    eigenvalues: Float[Tensor, " direction"]  # of Sigma_B, descending
    within: Float[Tensor, " direction"]  # v_i^T Sigma_W v_i
    dropped: int  # directions of the first K - 1 that fell below the cut-off


@dataclass(frozen=True, eq=False)
class TraceRatio:
    """`per_class` is v_c / tr Sigma_B; `value` their average weighted by class size."""

    value: float
    per_class: Float[Tensor, " cls"]


@dataclass(frozen=True, eq=False)
class PairVariability:
    """`pairs` is symmetric with NaN on the diagonal; `value` its mean off the diagonal."""

    value: float
    pairs: Float[Tensor, "cls cls"]


def nc1_pinv(
    within: Float[Tensor, "feature feature"], centred: Float[Tensor, "cls feature"], cutoff: float = CUTOFF
) -> SpectralRatio:
    """Within-class over between-class covariance, with the pseudo-inverse of the latter.

        (1/K) tr(Sigma_W Sigma_B^+) = (1/K) sum_i  v_i^T Sigma_W v_i / lambda_i,    lambda_i > cutoff * lambda_1

    Source: Papyan, Han & Donoho, PNAS 117(40) 2020, doi:10.1073/pnas.2015509117. lambda_i, v_i come from the SVD
    of the K centred means, so no D x D pseudo-inverse is formed and the value cannot turn negative, which it does
    in implementations without a cut-off. Range [0, inf), lower is more collapsed, 0 = every class is a point.
    NaN for fewer than 2 classes or equal means. Small samples: biased down when n_c is near 1; n_c < D leaves
    directions of Sigma_W empty. Unchanged by rotation, scale and shift, and by any invertible linear map while
    Sigma_B has rank K - 1 = D.
    """
    return _spectral(within, centred, cutoff)


def nc1_svd(within: Float[Tensor, "feature feature"], centred: Float[Tensor, "cls feature"]) -> SpectralRatio:
    """As `nc1_pinv`, with exactly the top K - 1 directions of Sigma_B (or D, if fewer) and no cut-off.

        (1/K) sum_{i < K} v_i^T Sigma_W v_i / lambda_i

    Source: the code of Han, Papyan & Donoho, ICLR 2022, arXiv:2106.02073. Range [0, inf], lower is more collapsed.
    Small samples: as for `nc1_pinv`. Equal to `nc1_pinv` when the class means
    have full rank K - 1; when they do not, this variant divides by rounding noise and is huge or infinite.
    """
    return _spectral(within, centred, cutoff=0.0)


def nc1_quotient(
    variances: Float[Tensor, " cls"], counts: Int[Tensor, " cls"], centred: Float[Tensor, "cls feature"]
) -> TraceRatio:
    """Trace of the within-class over trace of the between-class covariance.

        tr Sigma_W / tr Sigma_B,    tr Sigma_W = (1/N) sum_c n_c v_c,    tr Sigma_B = (1/K) sum_c ||mu_c - mu_G||^2

    Source: Tirer, Huang & Niles-Weed, ICML 2023, arXiv:2210.16658. Range [0, inf), lower is more collapsed. Needs no
    D x D matrix. Small samples: v_c is 0 for a class of one image. NaN for fewer than 2 classes.
    """
    between = centred.double().square().sum(dim=1).mean()
    if len(centred) < 2:
        between = between * torch.nan
    per_class = variances / between
    return TraceRatio(float((counts * per_class).sum() / counts.sum()), per_class)


def cdnv(variances: Float[Tensor, " cls"], means: Float[Tensor, "cls feature"]) -> PairVariability:
    """Class-distance normalised variance of every pair of classes.

        V(a, b) = (v_a + v_b) / (2 ||mu_a - mu_b||^2),    value = mean over a != b

    Source: Galanti, Gyoergy & Hutter, ICLR 2022, arXiv:2112.15121. Range [0, inf), lower is better: nearest-mean
    error on a pair falls with it. inf for two equal means with spread. NaN for fewer than 2 classes. Unlike the
    other variants it sees which pair is close. Small samples: biased down by (n_c - 1)/n_c.
    """
    mu, v = means.double(), variances.double()
    squared = torch.cdist(mu, mu, compute_mode="donot_use_mm_for_euclid_dist").square()
    pairs = (v[:, None] + v) / (2 * squared)
    pairs.fill_diagonal_(torch.nan)
    return PairVariability(float(pairs.nansum() / (len(mu) * (len(mu) - 1))) if len(mu) > 1 else torch.nan, pairs)


def _spectral(within: Tensor, centred: Tensor, cutoff: float) -> SpectralRatio:
    classes = len(centred)
    if within.shape != (centred.shape[1],) * 2:
        raise ValueError(f"Sigma_W {list(within.shape)} does not fit class means {list(centred.shape)}.")
    if classes < 2:
        empty = torch.zeros(0, dtype=torch.float64, device=centred.device)
        return SpectralRatio(torch.nan, empty, empty, 0)
    _, singular, directions = torch.linalg.svd(centred.double(), full_matrices=False)
    top = min(classes - 1, centred.shape[1])
    eigenvalues = singular[:top].square() / classes
    kept = eigenvalues > cutoff * eigenvalues[0] if cutoff else torch.ones_like(eigenvalues, dtype=torch.bool)
    v = directions[:top][kept]
    spread = ((v @ within.double()) * v).sum(dim=1).clamp(min=0)
    value = (spread / eigenvalues[kept]).sum() / classes if bool(kept.any()) else torch.nan
    return SpectralRatio(float(value), eigenvalues[kept], spread, int((~kept).sum()))
