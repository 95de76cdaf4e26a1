"""Measures of a run's own arrays in NumPy, so that figures need no torch. Float64; the formulas stand in `geometry`.

The tests hold each of them against the function of the same name in `cillab.geometry` and against the run's scalars.
"""

import math

import numpy as np
from jaxtyping import Float, Float64, Int

Rows = Float[np.ndarray, "row feature"]


def centred(rows: Rows) -> Float64[np.ndarray, "row feature"]:
    """Rows minus their average."""
    x = np.asarray(rows, np.float64)
    return x - x.mean(axis=0)


def cosines(a: Rows, b: Rows) -> Float64[np.ndarray, " row"]:
    """cos(a_c, b_c) of each pair of rows; NaN for a row of zeros."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def class_quotient(means: Rows, within: Float[np.ndarray, " cls"]) -> Float64[np.ndarray, " cls"]:
    """NC1 of each class: v_c / tr Sigma_B."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(within, np.float64) / (centred(means) ** 2).sum(axis=1).mean()


def pair_cdnv(means: Rows, within: Float[np.ndarray, " cls"]) -> Float64[np.ndarray, "cls cls"]:
    """(v_a + v_b) / (2 ||mu_a - mu_b||^2), NaN on the diagonal."""
    mu, v = centred(means), np.asarray(within, np.float64)
    length = (mu**2).sum(axis=1)
    squared = (length[:, None] + length - 2 * mu @ mu.T).clip(min=0)  # memory for pairs, not for pairs times features
    with np.errstate(invalid="ignore", divide="ignore"):
        pairs = (v[:, None] + v) / (2 * squared)
    np.fill_diagonal(pairs, np.nan)
    return pairs


def log_energy(means: Rows) -> tuple[float, float]:
    """Generalised NC2 with the log kernel: mean and variance over pairs of -log ||u_a - u_b||."""
    mu = centred(means)
    unit = mu / np.linalg.norm(mu, axis=1, keepdims=True)
    cosine = (unit @ unit.T)[np.triu_indices(len(unit), 1)]
    with np.errstate(divide="ignore"):
        values = -np.log(2 * (1 - cosine).clip(min=0)) / 2  # ||u_a - u_b||^2 = 2 - 2 cos
    return (float(values.mean()), float(values.var())) if len(values) else (math.nan, math.nan)


def spectrum(eigenvalues: Float[np.ndarray, " direction"]) -> tuple[float, float]:
    """Effective rank and participation ratio."""
    p = np.clip(np.asarray(eigenvalues, np.float64), 0, None)
    if not p.sum() > 0:
        return math.nan, math.nan
    p = p / p.sum()
    return float(np.exp(-(p[p > 0] * np.log(p[p > 0])).sum())), float(1 / (p**2).sum())


def between_eigenvalues(means: Rows) -> Float64[np.ndarray, " direction"]:
    """Eigenvalues of Sigma_B, descending, the first min(K - 1, D)."""
    mu = centred(means)
    return np.linalg.svd(mu, compute_uv=False)[: min(len(mu) - 1, mu.shape[1])] ** 2 / len(mu)


def cka(a: Rows, b: Rows, debiased: bool = False) -> float:
    """Linear CKA of the same images twice; the debiased estimate needs at least 4."""
    x, y = centred(a), centred(b)
    k, m = x @ x.T, y @ y.T
    if not debiased:
        return float((k * m).sum() / max(math.sqrt((k * k).sum() * (m * m).sum()), 1e-300))
    n = len(k)
    if n < 4:
        return math.nan
    np.fill_diagonal(k, 0)
    np.fill_diagonal(m, 0)

    def hsic(p: np.ndarray, q: np.ndarray) -> float:
        ones = p.sum(axis=0) @ q.sum(axis=0)
        return (p * q).sum() + p.sum() * q.sum() / ((n - 1) * (n - 2)) - 2 * ones / (n - 2)

    return float(hsic(k, m) / max(math.sqrt(abs(hsic(k, k) * hsic(m, m))), 1e-300))


def procrustes(a: Rows, b: Rows) -> float:
    """2 - 2 ||X^T Y||_* of centred X, Y of unit Frobenius norm."""
    x, y = centred(a), centred(b)
    scale = np.linalg.norm(x) * np.linalg.norm(y)
    if not scale > 0:
        return math.nan
    return max(0.0, 2 - 2 * float(np.linalg.svd(x.T @ y, compute_uv=False).sum() / scale))


def subspace_overlap(a: Rows, b: Rows, directions: int) -> float:
    """Mean squared cosine of the principal angles between the top directions of variance."""
    k = min(directions, len(a) - 1, len(b) - 1, a.shape[1])
    u, v = (np.linalg.svd(centred(x), full_matrices=False)[2][:k] for x in (a, b))
    return float((np.linalg.svd(u @ v.T, compute_uv=False).clip(max=1) ** 2).mean())


def bures_wasserstein(a: Rows, b: Rows) -> float:
    """Gaussian W2 of two sets of equally many images, from their factors: no covariance is formed, none inverted.

    W2^2 = ||m - m'||^2 + tr S + tr S' - 2 || X Y^T ||_* / n,    S = X^T X / n, S' = Y^T Y / n
    """
    x, y, n = centred(a), centred(b), len(a)
    gap = np.asarray(a, np.float64).mean(axis=0) - np.asarray(b, np.float64).mean(axis=0)
    cross = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    return math.sqrt(max(0.0, float(gap @ gap + ((x**2).sum() + (y**2).sum() - 2 * cross) / n)))


def spread(rows: Rows, labels: Int[np.ndarray, " row"]) -> float:
    """Root mean square distance of images to their class mean, the unit of lengths here."""
    x = np.asarray(rows, np.float64)
    parts = [centred(x[labels == c]) for c in np.unique(labels)]
    return math.sqrt(float((np.concatenate(parts) ** 2).sum(axis=1).mean()))


def bootstrap(values: Float[np.ndarray, " image"], level: float = 0.95, draws: int = 2000) -> tuple[float, float]:
    """Percentile interval of the mean over images; the same draws every time. NaN are left out."""
    x = np.asarray(values, np.float64)
    x = x[np.isfinite(x)]
    if len(x) < 2:
        return math.nan, math.nan
    generator = np.random.default_rng(0)
    counts = generator.multinomial(len(x), np.full(len(x), 1 / len(x)), size=draws)
    low, high = np.quantile(counts @ x / len(x), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
