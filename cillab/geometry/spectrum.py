"""How many directions a covariance really uses. Companions of NC1: collapse of the features or of the space?"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64

from cillab.geometry.rows import centre


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The eigenvalues of a covariance, descending, and the three numbers drawn from them."""

    eigenvalues: Float64[np.ndarray, " direction"]
    effective_rank: float
    participation_ratio: float
    top_share: float


def spectrum(covariance: Float[np.ndarray, "feature feature"]) -> Spectrum:
    """All three numbers from one eigendecomposition; formulas with the functions of the same names."""
    return of_eigenvalues(np.linalg.eigvalsh(np.asarray(covariance, dtype=np.float64))[::-1])


def of_eigenvalues(eigenvalues: Float[np.ndarray, " direction"]) -> Spectrum:
    """The same where the eigenvalues are known already, in descending order."""
    values = np.asarray(eigenvalues, dtype=np.float64).clip(min=0)  # rounding leaves empty directions at -1e-17
    total = values.sum()
    if not total > 0:
        return Spectrum(values, np.nan, np.nan, np.nan)
    p = values / total
    some = p[p > 0]
    return Spectrum(values, float(np.exp(-(some * np.log(some)).sum())), float(1 / np.square(p).sum()), float(p[0]))


def between_eigenvalues(means: Float[np.ndarray, "cls feature"]) -> Float64[np.ndarray, " direction"]:
    """Eigenvalues of Sigma_B, descending, the first min(K - 1, D): the others are zero."""
    mu = centre(means)
    return np.square(np.linalg.svd(mu, compute_uv=False)[: min(len(mu) - 1, mu.shape[1])]) / len(mu)


def effective_rank(covariance: Float[np.ndarray, "feature feature"]) -> float:
    """Number of directions in use, by entropy.

        exp( - sum_i p_i log p_i ),    p = eigenvalues / their sum

    Source: Roy & Vetterli, EUSIPCO 2007. Range [1, D]; at most K - 1 for a between-class covariance (reached by a
    simplex ETF). Small samples: at most N - K for a within-class covariance of N images, so few bias it down. More is
    richer; no better or worse by itself. NaN for a zero matrix.
    """
    return spectrum(covariance).effective_rank


def participation_ratio(covariance: Float[np.ndarray, "feature feature"]) -> float:
    """Number of directions in use, by second moment.

        (tr S)^2 / tr S^2

    Source: Gao et al., bioRxiv 2017, doi:10.1101/214262. Range [1, D], never above the effective rank.
    Small samples: dominated by the largest eigenvalues, hence steadier than the effective rank. NaN for a zero matrix.
    """
    s = np.asarray(covariance, dtype=np.float64)
    squares = np.square(s).sum()
    return float(np.trace(s) ** 2 / squares) if squares > 0 else np.nan


def top_eigenvalue_share(covariance: Float[np.ndarray, "feature feature"]) -> float:
    """Share of the variance in the single largest direction.

        lambda_1 / sum_i lambda_i

    Range [1/D, 1]. Near 1 within a class: the class is a line and its covariance cannot be inverted. Small samples:
    they bias it up, 2 samples give 1. NaN for a zero matrix. Source: the collapse of dimensions that AdaGauss fights,
    Rypesc et al., NeurIPS 2024, arXiv:2409.18265.
    """
    return spectrum(covariance).top_share
