"""How many directions a covariance really uses. Companions of NC1: collapse of the features or of the space?"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The eigenvalues of a covariance, descending, and the three numbers drawn from them."""

    eigenvalues: Float[Tensor, " direction"]
    effective_rank: float
    participation_ratio: float
    top_share: float


def spectrum(covariance: Float[Tensor, "feature feature"]) -> Spectrum:
    """All three numbers from one eigendecomposition; formulas with the functions of the same names."""
    # Rounding leaves empty directions at -1e-17.
    values = torch.linalg.eigvalsh(covariance.double()).clamp(min=0).flip(0)
    p = values / values.sum()
    return Spectrum(values, float(torch.special.entr(p).sum().exp()), float(1 / p.square().sum()), float(p[0]))


def effective_rank(covariance: Float[Tensor, "feature feature"]) -> float:
    """Number of directions in use, by entropy.

        exp( - sum_i p_i log p_i ),    p = eigenvalues / their sum

    Source: Roy & Vetterli, EUSIPCO 2007. Range [1, D]; at most K - 1 for a between-class covariance (reached by a
    simplex ETF). Small samples: at most N - K for a within-class covariance of N images, so few bias it down. More is
    richer; no better or worse by itself. NaN for a zero matrix.
    """
    return spectrum(covariance).effective_rank


def participation_ratio(covariance: Float[Tensor, "feature feature"]) -> float:
    """Number of directions in use, by second moment.

        (tr S)^2 / tr S^2

    Source: Gao et al., bioRxiv 2017, doi:10.1101/214262. Range [1, D], never above the effective rank.
    Small samples: dominated by the largest eigenvalues, hence steadier than the effective rank. NaN for a zero matrix.
    """
    s = covariance.double()
    return float(s.trace().square() / s.square().sum())


def top_eigenvalue_share(covariance: Float[Tensor, "feature feature"]) -> float:
    """Share of the variance in the single largest direction.

        lambda_1 / sum_i lambda_i

    Range [1/D, 1]. Near 1 within a class: the class is a line and its covariance cannot be inverted. Small samples:
    they bias it up, 2 samples give 1. NaN for a zero matrix. Source: the collapse of dimensions that AdaGauss fights,
    Rypesc et al., NeurIPS 2024, arXiv:2409.18265.
    """
    return spectrum(covariance).top_share
