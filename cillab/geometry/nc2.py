"""NC2: how close the class means are to a simplex equiangular tight frame (ETF). Pure functions, float64."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Float64

from cillab.geometry.rows import centre, pairs as _pairs, squared_distances

Kernel = Literal["log", "riesz"]


@dataclass(frozen=True, eq=False)
class Equinorm:
    """Norm of every row; `value` is their coefficient of variation."""

    value: float
    norms: Float[np.ndarray, " cls"]


@dataclass(frozen=True, eq=False)
class KernelStats:
    """Kernel of every pair (NaN on the diagonal), its mean and its population variance over pairs."""

    mean: float
    variance: float
    pairs: Float[np.ndarray, "cls cls"]


def equinorm(vectors: Float[np.ndarray, "cls feature"], centred: bool = True) -> Equinorm:
    """Spread of the lengths of the class means, or of the rows of a head.

        std_c ||mu_c - mu_G|| / mean_c ||mu_c - mu_G||        or        std_c ||w_c|| / mean_c ||w_c||

    Source: NC2 in Papyan, Han & Donoho, PNAS 117(40) 2020, doi:10.1073/pnas.2015509117. Population std. Range
    [0, sqrt(K - 1)], lower is closer to collapse. With 2 classes centred means always give 0; NaN for 1 class and where
    every row is zero. Small samples: noise of the means lengthens the rows of classes with few images.

    Args:
        vectors: class means, or rows of a head.
        centred: take off the mean row first; False for a head.
    """
    norms = np.linalg.norm(centre(vectors) if centred else np.asarray(vectors, dtype=np.float64), axis=-1)
    value = float(norms.std() / norms.mean()) if len(norms) > 1 and norms.any() else math.nan
    return Equinorm(value, norms)


def cosines(means: Float[np.ndarray, "cls feature"]) -> Float[np.ndarray, "cls cls"]:
    """Cosine of every pair of centred class means; the picture behind every angle statistic.

    Range [-1, 1]; a simplex ETF has -1/(K-1) everywhere off the diagonal. With 2 classes always -1.

    Raises:
        ValueError: fewer than 2 classes, or a mean equal to mu_G (no angle).
    """
    if len(means) < 2:
        raise ValueError(f"cosines of centred means need at least 2 classes, got {len(means)}.")
    unit = _unit(means)
    return unit @ unit.T


def equiangularity(means: Float[np.ndarray, "cls feature"]) -> float:
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
    return float(_pairs(cosines(means)).std())


def maximal_angle(means: Float[np.ndarray, "cls feature"]) -> float:
    """Distance of the pairwise cosines from the widest angle that all pairs can share.

        mean over pairs of | cos(mu_c - mu_G, mu_k - mu_G) + 1/(K - 1) |

    Source: NC2 in Papyan, Han & Donoho 2020. In [0, 15/14], lower is closer to a simplex ETF; means on a line, one
    against all others, have 1 + (K - 4)/(K^2 - K), which is largest for K = 7 and 8. The target moves with K; it cannot
    be reached when D < K - 1 (read `generalised_nc2` then). With 2 classes always 0. Small samples:
    centred random directions in many dimensions have cosines near -1/(K-1) too, so noise of the means can look like an
    ETF; NC1 tells the two apart.

    Raises:
        ValueError: fewer than 2 classes, or a mean equal to mu_G.
    """
    return float(np.abs(_pairs(cosines(means)) + 1 / (len(means) - 1)).mean())


def simplex_gram_distance(means: Float[np.ndarray, "cls feature"], centred: bool = True) -> float:
    """Distance of the normalised Gram matrix from that of a simplex ETF: norms and angles in one number.

        || G / ||G||_F - (I - 11^T/K) / sqrt(K - 1) ||_F,    G = M M^T,    M = rows mu_c - mu_G

    Source: Zhu et al., NeurIPS 2021, arXiv:2105.02375; Kothapalli, TMLR 2023, arXiv:2206.04041. In [0, sqrt 2), lower
    is closer to a simplex ETF. Small samples: as for `maximal_angle`. With 2 classes always 0.

    Args:
        means: class means, or rows of a head.
        centred: take off the mean row first; False leaves the rows as they are.

    Raises:
        ValueError: fewer than 2 classes, or all rows zero.
    """
    rows = centre(means) if centred else np.asarray(means, dtype=np.float64)
    return gram_distance(rows @ rows.T)


def gram_distance(gram: Float[np.ndarray, "cls cls"]) -> float:
    """|| G / ||G||_F - (I - 11^T/K) / sqrt(K - 1) ||_F for a Gram or cross-Gram matrix G."""
    g = np.asarray(gram, dtype=np.float64)
    k, length = len(g), float(np.linalg.norm(g))
    if k < 2 or not length > 0:
        raise ValueError(
            f"The simplex Gram distance needs at least 2 classes and a matrix that is not zero, got {k}"
            f" classes and norm {length:.2g}."
        )
    ideal = (np.eye(k) - 1 / k) / math.sqrt(k - 1)
    return float(np.linalg.norm(g / length - ideal))


def generalised_nc2(
    means: Float[np.ndarray, "cls feature"], kernel: Kernel = "log", exponent: float | None = None
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
    distances = np.sqrt(squared_distances(unit, unit))
    np.fill_diagonal(distances, np.nan)
    if kernel == "log":
        with np.errstate(divide="ignore"):
            kernels = -np.log(distances)
    elif kernel == "riesz":
        s = means.shape[1] - 2 if exponent is None else exponent
        if s <= 0:
            raise ValueError(f"The Riesz exponent must be positive, got {s} (D - 2 for D = {means.shape[1]}?).")
        with np.errstate(divide="ignore", over="ignore"):
            kernels = distances**-s
    else:
        raise ValueError(f"Unknown kernel {kernel!r}. Valid: log, riesz.")
    values = _pairs(kernels)
    with np.errstate(invalid="ignore"):  # equal directions: an infinite mean, no variance
        return KernelStats(float(values.mean()), float(values.var()), kernels)


def or_nan(metric: Callable[..., float], *arguments: Any) -> float:
    """The metric, or NaN where it is undefined: for pages and curves that show a gap there."""
    try:
        return metric(*arguments)
    except ValueError:
        return math.nan


def _unit(means: np.ndarray) -> Float64[np.ndarray, "cls feature"]:
    centred = centre(means)
    norms = np.linalg.norm(centred, axis=-1)
    # Measured against the means themselves, not only each other: when all means are equal, what is left after
    # centring is rounding of this size. 1e-12: a few thousand float64 roundings.
    scale = max(norms.max(), 1e-3 * np.linalg.norm(np.asarray(means, dtype=np.float64), axis=-1).max())
    if (norms <= 1e-12 * scale).any():
        raise ValueError(f"class mean {int(norms.argmin())} equals the global mean: its angle is undefined.")
    return centred / norms[:, None]
