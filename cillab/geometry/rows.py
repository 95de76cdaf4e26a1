"""Rows of a matrix: centring, directions, cosines, distances. What the other modules share; NumPy, float64."""

from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Float64

Rows: TypeAlias = Float[np.ndarray, "row feature"]

# Squared distances below this share of the squared norms are worked out anew from differences: the matrix product would
# leave them fewer than 13 digits.
_CLOSE = 1e-3


def centre(rows: Rows) -> Float64[np.ndarray, "row feature"]:
    """Rows minus their average: every row weighs the same."""
    x = np.asarray(rows, dtype=np.float64)
    return x - x.mean(axis=0) if len(x) else x


def unit(rows: Rows) -> Float64[np.ndarray, "row feature"]:
    """Rows of length 1; a zero row stays zero."""
    x = np.asarray(rows, dtype=np.float64)
    return x / np.linalg.norm(x, axis=-1, keepdims=True).clip(1e-12)


def cosine(a: Rows, b: Float[np.ndarray, "#row feature"]) -> Float64[np.ndarray, " row"]:
    """cos(a_i, b_i) of each pair of rows, in [-1, 1]; NaN where one of them is zero. A single b goes with every a."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (a * b).sum(axis=-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))


def cosine_matrix(rows: Rows) -> Float64[np.ndarray, "row row"]:
    """Cosine of every pair of rows as they are, not centred; NaN where one is zero."""
    x = np.asarray(rows, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
    return x @ x.T


def squared_distances(a: Rows, b: Float[np.ndarray, "other feature"]) -> Float64[np.ndarray, "row other"]:
    """||a_i - b_j||^2 of all pairs, to 1e-13 of each: memory for pairs, not for pairs times features."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    origin = a.mean(axis=0) if len(a) else 0.0
    a, b = a - origin, b - origin
    lengths = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1)
    squared = lengths - 2 * (a @ b.T)
    i, j = np.nonzero(squared <= _CLOSE * lengths)
    for start in range(0, len(i), 4096):
        some = slice(start, start + 4096)
        squared[i[some], j[some]] = np.square(a[i[some]] - b[j[some]]).sum(axis=1)
    return squared


def pairs(matrix: Float[np.ndarray, "row row"]) -> Float64[np.ndarray, " pair"]:
    """The entries above the diagonal."""
    return np.asarray(matrix, dtype=np.float64)[~np.tri(len(matrix), dtype=bool)]
