"""Clouds of features in a plane that stays the same over the steps: the steps it is fitted on, and ellipses."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64

_STEPS = 12  # steps that a plane is fitted on: more would not turn it visibly


def spaced(steps: Sequence[str], most: int = _STEPS) -> list[str]:
    """At most `most` of the steps, evenly spread, the last one included."""
    if len(steps) <= most:
        return list(steps)
    return [steps[int(at)] for at in np.linspace(0, len(steps) - 1, most).round()]


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
