"""Collapse and simplex frames in NumPy alone, for what must start without PyTorch. Same numbers as nc1, nc2, nc3, etf.

Class means and head rows are [class, feature]; everything is float64. What is undefined is NaN.
"""

import math
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

Rows: TypeAlias = Float[np.ndarray, "cls feature"]


def centre(rows: Rows) -> Rows:
    """Rows minus their average."""
    rows = np.asarray(rows, dtype=np.float64)
    return rows - rows.mean(axis=0)


def nc1(features: Float[np.ndarray, "image feature"], rows: np.ndarray, means: Rows, cutoff: float = 1e-12) -> float:
    """(1/K) tr(Sigma_W Sigma_B^+) of features whose class is row `rows[i]` of `means`. As `nc1.nc1_pinv`."""
    centred = centre(means)
    if len(centred) < 2:
        return math.nan
    residual = np.asarray(features, dtype=np.float64) - np.asarray(means, dtype=np.float64)[rows]
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    values = singular**2 / len(centred)
    found = np.arange(len(values)) < len(centred) - 1
    found &= values > cutoff * values[0]
    if not found.any():
        return math.nan
    spread = np.square(residual @ axes[found].T).mean(axis=0)
    return float((spread / values[found]).sum() / len(centred))


def cosines(rows: Rows) -> Float[np.ndarray, "cls cls"]:
    """Cosine of every pair of rows; a zero row has cosine NaN."""
    rows = np.asarray(rows, dtype=np.float64)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        unit = rows / length
    return unit @ unit.T


def pairs(matrix: Float[np.ndarray, "cls cls"]) -> Float[np.ndarray, " pair"]:
    """The entries above the diagonal."""
    return matrix[np.triu_indices(len(matrix), 1)]


def ideal_cosine(classes: int) -> float:
    """-1 / (K - 1): the cosine of every pair of vertices of a simplex ETF. NaN for fewer than 2."""
    return -1.0 / (classes - 1) if classes > 1 else math.nan


def maximal_angle(rows: Rows) -> float:
    """Mean over pairs of |cos + 1/(K - 1)|; 0 for a simplex ETF. Centre class means first. As `nc2.maximal_angle`."""
    found = pairs(cosines(rows))
    return float(np.abs(found - ideal_cosine(len(rows))).mean()) if len(found) else math.nan


def equiangularity(rows: Rows) -> float:
    """Standard deviation over pairs of the cosine; 0 when all pairs are alike. As `nc2.equiangularity`."""
    found = pairs(cosines(rows))
    return float(found.std()) if len(rows) > 2 else math.nan


def equinorm(rows: Rows) -> float:
    """Standard deviation of the lengths over their mean; 0 when all rows are equally long. As `nc2.equinorm`."""
    length = np.linalg.norm(np.asarray(rows, dtype=np.float64), axis=1)
    return float(length.std() / length.mean()) if length.mean() > 0 else math.nan


def nc3(weight: Rows, means: Rows) -> tuple[float, float]:
    """|| W/||W||_F - M/||M||_F ||_F, and the mean cosine of head rows and centred class means. As `nc3.nc3`."""
    w, m = np.asarray(weight, dtype=np.float64), centre(means)
    size, spread = np.linalg.norm(w), np.linalg.norm(m)
    if len(m) < 2 or size == 0 or spread == 0:
        return math.nan, math.nan
    lengths = np.linalg.norm(w, axis=1) * np.linalg.norm(m, axis=1)
    cosine = np.divide((w * m).sum(axis=1), lengths, out=np.zeros(len(m)), where=lengths > 0)
    return float(np.linalg.norm(w / size - m / spread)), float(cosine.mean())


def growth_angle(k_old: int, k_new: int) -> float:
    """Angle in radians by which the vertices of an ETF turn when it grows. As `etf.growth_angle`."""
    squared = k_new * (k_old - 1) / (k_old * (k_new - 1))
    return math.acos(min(1.0, math.sqrt(squared)))


def simplex_etf(classes: int, dim: int, rng: np.random.Generator) -> Rows:
    """A simplex ETF in random orientation, one unit vertex per row.

    Raises:
        ValueError: fewer than 2 classes, or dim < classes - 1 (no simplex ETF exists there).
    """
    _fits(classes, dim)
    q, r = np.linalg.qr(rng.standard_normal((dim, classes - 1)))
    return math.sqrt(classes / (classes - 1)) * (_basis(classes) @ (q * np.sign(np.diag(r))).T)


def nearest_etf(means: Rows) -> Rows:
    """The simplex ETF that agrees best with given class means: orthogonal Procrustes. As `etf.nearest_etf`.

    Raises:
        ValueError: fewer than 2 classes, dim < classes - 1, or a mean equal to the global mean.
    """
    classes, dim = np.shape(means)
    _fits(classes, dim)
    h = centre(means)
    length = np.linalg.norm(h, axis=1, keepdims=True)
    if not (length > 1e-12 * length.max()).all():
        raise ValueError(f"class mean {int(length.argmin())} equals the global mean or is not finite.")
    basis = _basis(classes)
    a, _, c = np.linalg.svd((h / length).T @ basis, full_matrices=False)
    return math.sqrt(classes / (classes - 1)) * (basis @ (a @ c).T)


def _basis(classes: int) -> Float[np.ndarray, "cls rank"]:
    """K - 1 orthonormal columns orthogonal to the vector 1 (Helmert's matrix)."""
    j = np.arange(1, classes)
    rows = np.arange(classes)[:, None]
    return ((rows < j) - j * (rows == j)) / np.sqrt(j * (j + 1.0))


def _fits(classes: int, dim: int) -> None:
    if classes < 2:
        raise ValueError(f"A simplex ETF needs at least 2 classes, got {classes}.")
    if dim < classes - 1:
        raise ValueError(f"A simplex ETF of {classes} classes needs at least {classes - 1} dimensions, got {dim}.")
