"""Clouds of features in a plane that stays the same over the steps: its axes, and Gaussians as ellipses."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64

Rows = Float[np.ndarray, "row feature"]
_STEPS = 12  # steps that a plane is fitted on: more would not turn it visibly


def unit(rows: Rows) -> Float64[np.ndarray, "row feature"]:
    """Rows of length 1; a row of zeros stays one."""
    x = np.asarray(rows, np.float64)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def spaced(steps: Sequence[str], most: int = _STEPS) -> list[str]:
    """At most `most` of the steps, evenly spread, the last one included."""
    if len(steps) <= most:
        return list(steps)
    return [steps[int(at)] for at in np.linspace(0, len(steps) - 1, most).round()]


def plane(
    along: Float[np.ndarray, "move feature"], spread: Float[np.ndarray, "row feature"]
) -> Float64[np.ndarray, "2 feature"]:
    """Two orthonormal axes: where `along` mostly points, then where `spread` varies most across that.

    a_1 = first right singular vector of `along`, not centred, pointing with its mean; a_2 = first one of
    (`spread` - mean)(I - a_1 a_1^T). Where `along` is zero, a_1 is the first principal direction of `spread`.
    """
    centred = np.asarray(spread, np.float64)
    centred = centred - centred.mean(axis=0)
    moved = np.asarray(along, np.float64)
    size = np.linalg.norm(moved)
    first = _leading(moved if size > 1e-9 * max(np.linalg.norm(centred), 1e-30) else centred)
    if (moved @ first).sum() < 0:
        first = -first
    return np.stack([first, _leading(centred - np.outer(centred @ first, first), across=first)])


def _leading(
    rows: Float64[np.ndarray, "_ feature"], across: Float64[np.ndarray, " feature"] | None = None
) -> Float64[np.ndarray, " feature"]:
    """First eigenvector of rows^T rows, made orthogonal to `across` where the rows leave it open."""
    vector = np.linalg.eigh(rows.T @ rows)[1][:, -1]
    if across is not None:
        vector = vector - (vector @ across) * across
        if np.linalg.norm(vector) < 1e-6:
            other = np.eye(len(across))[int(np.abs(across).argmin())]
            vector = other - (other @ across) * across
        vector = vector / np.linalg.norm(vector)
    return vector * np.sign(vector[np.abs(vector).argmax()])


def ellipse(
    mean: Float[np.ndarray, "2"], factor: Float[np.ndarray, "rank 2"], points: int = 49
) -> Float64[np.ndarray, "point 2"]:
    """The outline at one standard deviation of a Gaussian with covariance factor^T factor; it ends where it began.

    mean + (cos t, sin t) S^{1/2}
    """
    values, vectors = np.linalg.eigh(np.asarray(factor, np.float64).T @ np.asarray(factor, np.float64))
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    turn = np.linspace(0, 2 * np.pi, points)
    return np.asarray(mean, np.float64) + np.stack([np.cos(turn), np.sin(turn)], axis=1) @ root


def outlines(shapes: Sequence[Float64[np.ndarray, "_ 2"]]) -> Float64[np.ndarray, "_ 2"]:
    """Several outlines as one line with gaps."""
    gap = np.full((1, 2), np.nan)
    return np.concatenate([part for shape in shapes for part in (shape, gap)] or [gap])


def square(*points: Float[np.ndarray, "_ 2"], pad: float = 0.06) -> tuple[list[float], list[float]]:
    """Ranges of both axes over all points there are."""
    every = np.concatenate([np.asarray(p, np.float64).reshape(-1, 2) for p in points])
    every = every[np.isfinite(every).all(axis=1)]
    low, high = every.min(axis=0), every.max(axis=0)
    margin = pad * np.maximum(high - low, 1e-6)
    (left, bottom), (right, top) = (low - margin).tolist(), (high + margin).tolist()
    return [left, right], [bottom, top]
