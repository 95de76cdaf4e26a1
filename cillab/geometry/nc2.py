"""NC2: how close the class means are to a simplex equiangular tight frame (ETF). Pure functions, float64."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Kernel = Literal["log", "riesz"]


@dataclass(frozen=True, eq=False)
class Equinorm:
    """Norm of every row; `value` is their coefficient of variation."""

    value: float
    norms: Float[Tensor, " cls"]


@dataclass(frozen=True, eq=False)
class KernelStats:
    """Kernel of every pair (NaN on the diagonal), its mean and its population variance over pairs."""

    mean: float
    variance: float
    pairs: Float[Tensor, "cls cls"]


def centre(means: Float[Tensor, "cls feature"]) -> Float[Tensor, "cls feature"]:
    """mu_c - mu_G with mu_G = average of the rows: classes weigh the same, however many images they have."""
    return means.double() - means.double().mean(dim=0)


def equinorm(vectors: Float[Tensor, "cls feature"], centred: bool = True) -> Equinorm:
    """Spread of the lengths of the class means, or of the rows of a head (`centred=False`).

        std_c ||mu_c - mu_G|| / mean_c ||mu_c - mu_G||        or        std_c ||w_c|| / mean_c ||w_c||

    Source: NC2 in Papyan, Han & Donoho, PNAS 117(40) 2020, doi:10.1073/pnas.2015509117. Population std. Range
    [0, sqrt(K - 1)], lower is closer to collapse. With 2 classes centred means always give 0; NaN for 1 class.
    Small samples: noise of the means lengthens the rows of classes with few images.
    """
    norms = (centre(vectors) if centred else vectors.double()).norm(dim=-1)
    value = float(norms.std(correction=0) / norms.mean()) if len(norms) > 1 else math.nan
    return Equinorm(value, norms)


def cosines(means: Float[Tensor, "cls feature"]) -> Float[Tensor, "cls cls"]:
    """Cosine of every pair of centred class means; the picture behind every angle statistic.

    Range [-1, 1]; a simplex ETF has -1/(K-1) everywhere off the diagonal. With 2 classes always -1.

    Raises:
        ValueError: fewer than 2 classes, or a mean equal to mu_G (no angle).
    """
    if len(means) < 2:
        raise ValueError(f"cosines of centred means need at least 2 classes, got {len(means)}.")
    unit = _unit(means)
    return unit @ unit.T


def equiangularity(means: Float[Tensor, "cls feature"]) -> Float[Tensor, ""]:
    """Spread of the angles between centred class means: 0 when every pair is at the same angle.

        std over pairs c < k of cos(mu_c - mu_G, mu_k - mu_G),    mu_G = average of the rows

    Source: NC2 in Papyan, Han & Donoho, PNAS 117(40) 2020, doi:10.1073/pnas.2015509117. Population std.
    mu_G weighs classes, not images, equally: the same thing on balanced data. Range
    [0, 1], unitless, lower is closer to collapse; read it beside equinorm and the maximal angle. Small samples: noise
    of the means turns them towards random directions, whose cosines spread by about 1/sqrt(D).

    Raises:
        ValueError: fewer than 3 classes (one pair has no spread), or a mean equal to mu_G (no angle).
    """
    if len(means) < 3:
        raise ValueError(f"equiangularity needs at least 3 classes, got {len(means)}.")
    return _pairs(cosines(means)).std(correction=0)


def maximal_angle(means: Float[Tensor, "cls feature"]) -> Float[Tensor, ""]:
    """Distance of the pairwise cosines from the widest angle that all pairs can share.

        mean over pairs of | cos(mu_c - mu_G, mu_k - mu_G) + 1/(K - 1) |

    Source: NC2 in Papyan, Han & Donoho 2020. In [0, 1], lower is closer to a simplex ETF. The target moves
    with K; it cannot be reached when D < K - 1 (read `generalised_nc2` then). With 2 classes always 0. Small samples:
    centred random directions in many dimensions have cosines near -1/(K-1) too, so noise of the means can look like an
    ETF; NC1 tells the two apart.

    Raises:
        ValueError: fewer than 2 classes, or a mean equal to mu_G.
    """
    return (_pairs(cosines(means)) + 1 / (len(means) - 1)).abs().mean()


def simplex_gram_distance(means: Float[Tensor, "cls feature"], centred: bool = True) -> Float[Tensor, ""]:
    """Distance of the normalised Gram matrix from that of a simplex ETF: norms and angles in one number.

        || G / ||G||_F - (I - 11^T/K) / sqrt(K - 1) ||_F,    G = M M^T,    M = rows mu_c - mu_G

    Source: Zhu et al., NeurIPS 2021, arXiv:2105.02375; Kothapalli, TMLR 2023, arXiv:2206.04041. In [0, sqrt 2), lower
    is closer to a simplex ETF. Small samples: as for `maximal_angle`. With 2 classes always 0. `centred=False` leaves
    the rows (of a head) as they are.

    Raises:
        ValueError: fewer than 2 classes, or all rows zero.
    """
    rows = centre(means) if centred else means.double()
    return gram_distance(rows @ rows.T)


def gram_distance(gram: Float[Tensor, "cls cls"]) -> Float[Tensor, ""]:
    """|| G / ||G||_F - (I - 11^T/K) / sqrt(K - 1) ||_F for a Gram or cross-Gram matrix G."""
    k = len(gram)
    if k < 2 or not bool(gram.norm() > 0):
        raise ValueError(
            f"The simplex Gram distance needs at least 2 classes and a matrix that is not zero, got {k}"
            f" classes and norm {float(gram.norm()):.2g}."
        )
    ideal = (torch.eye(k, dtype=torch.float64, device=gram.device) - 1 / k) / math.sqrt(k - 1)
    return (gram / gram.norm() - ideal).norm()


def generalised_nc2(
    means: Float[Tensor, "cls feature"], kernel: Kernel = "log", exponent: float | None = None
) -> KernelStats:
    """Energy of the class directions on the sphere; keeps its meaning when K > D + 1, where no simplex ETF exists.

        log:   log(1 / ||u_a - u_b||)        riesz:   ||u_a - u_b||^-s,    u_c = (mu_c - mu_G) / ||mu_c - mu_G||

    Mean and variance over pairs; collapse is a minimal mean with variance 0 (the variance cannot reach 0 for
    K > D + 1). For K <= D + 1 the simplex ETF minimises every one of these energies (Cohn & Kumar, JAMS 20(1)
    2007, arXiv:math/0607446); its log energy is -0.5 log(2K/(K-1)). Source: Liu et al. (HUG), ICLR 2023,
    arXiv:2303.06484; Wu & Papyan, NeurIPS 2024, arXiv:2405.17767. The default exponent s = D - 2 is theirs; with D
    in the hundreds it under- and overflows, take s = 1 there. Range: log [-log 2, inf], riesz [2^-s, inf]; inf for
    equal directions. Small samples: as for `maximal_angle`.

    Raises:
        ValueError: fewer than 2 classes, a mean equal to mu_G, an unknown kernel, or an exponent that is not positive.
    """
    if len(means) < 2:
        raise ValueError(f"generalised_nc2 needs at least 2 classes, got {len(means)}.")
    unit = _unit(means)
    distances = torch.cdist(unit, unit, compute_mode="donot_use_mm_for_euclid_dist")
    if kernel == "log":
        pairs = -distances.log()
    elif kernel == "riesz":
        s = means.shape[1] - 2 if exponent is None else exponent
        if s <= 0:
            raise ValueError(f"The Riesz exponent must be positive, got {s} (D - 2 for D = {means.shape[1]}?).")
        pairs = distances.pow(-s)
    else:
        raise ValueError(f"Unknown kernel {kernel!r}. Valid: log, riesz.")
    pairs.fill_diagonal_(torch.nan)
    values = _pairs(pairs)
    return KernelStats(float(values.mean()), float(values.var(correction=0)), pairs)


def _pairs(matrix: Tensor) -> Tensor:
    c, k = torch.triu_indices(len(matrix), len(matrix), offset=1, device=matrix.device)
    return matrix[c, k]


def _unit(means: Tensor) -> Tensor:
    centred = centre(means)
    norms = centred.norm(dim=-1)
    # Measured against the means themselves, not only each other: when all means are equal, what is left after
    # centring is rounding of this size. 1e-12: a few thousand float64 roundings.
    scale = torch.maximum(norms.max(), 1e-3 * means.double().norm(dim=-1).max())
    if bool((norms <= 1e-12 * scale).any()):
        raise ValueError(f"class mean {int(norms.argmin())} equals the global mean: its angle is undefined.")
    return F.normalize(centred, dim=-1)
