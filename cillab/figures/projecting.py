"""Fixed linear projections: fitted once on all steps, so that what moves on the screen moved in feature space."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64, Int16

from cillab.core.errors import InvalidRequestError, RunError, unknown_name
from cillab.explain.projection import pca
from cillab.runs import Run

_INT16 = 32767
_FIT_ROWS = 20_000  # feature vectors used to fit; more change the axes by less than a pixel


@dataclass(frozen=True, eq=False)
class Projection:
    """Probe points and class means of every step in the same few axes: x -> (x - centre) @ axes."""

    steps: tuple[str, ...]
    points: Float32[np.ndarray, "step image dim"]
    means: Float32[np.ndarray, "step cls dim"]  # in the order of the stream; NaN before a class is seen
    centre: Float64[np.ndarray, " feature"]
    axes: Float64[np.ndarray, "feature dim"]  # orthonormal columns
    explained: Float64[np.ndarray, " dim"]  # share of the variance of all steps together
    ranges: Float64[np.ndarray, "dim 2"]  # over the whole run, with a margin

    def apply(self, features: Float[np.ndarray, "row feature"]) -> Float32[np.ndarray, "row dim"]:
        """Put further feature vectors into the same axes."""
        return ((np.asarray(features, np.float64) - self.centre) @ self.axes).astype(np.float32)


def project(run: Run, method: str = "pca", dims: int = 2) -> Projection:
    """Principal axes of the probe features of all steps there are, pooled.

    The sign of each axis is chosen so that its largest entry is positive. Costs one d x d eigendecomposition.

    Raises:
        UnknownNameError: another method.
        RunError: no step yet, or steps of different feature widths.
    """
    if method != "pca":
        raise unknown_name("projection", method, ["pca"])
    steps = run.steps
    if not steps:
        raise RunError(f"{run.path} has no step yet.")
    features = [run.snapshot(step)["features"] for step in steps]
    if len({array.shape for array in features}) > 1:
        raise RunError(f"{run.path} holds features of different shapes: {sorted({a.shape for a in features})}.")
    centre, axes, explained = fit_pca(features, dims)
    points = np.stack([((array.astype(np.float64) - centre) @ axes) for array in features]).astype(np.float32)
    column = {class_id: index for index, class_id in enumerate(run.order)}
    means = np.full((len(steps), len(column), dims), np.nan, np.float32)
    for row, step in enumerate(steps):
        shot = run.snapshot(step)
        where = [column[int(class_id)] for class_id in shot["seen"]]
        means[row, where] = (shot["means/now"].astype(np.float64) - centre) @ axes
    low, high = points.min(axis=(0, 1)), points.max(axis=(0, 1))
    margin = 0.05 * np.maximum(high - low, 1e-6)
    ranges = np.stack([low - margin, high + margin], axis=1).astype(np.float64)
    return Projection(steps, points, means, centre, axes, explained, ranges)


def fit_pca(
    features: list[np.ndarray], dims: int
) -> tuple[Float64[np.ndarray, " feature"], Float64[np.ndarray, "feature dim"], Float64[np.ndarray, " dim"]]:
    """Centre, axes and shares of variance of all rows together, in float64.

    Raises:
        InvalidRequestError: more axes than features.
    """
    width = features[0].shape[1]
    if not 1 <= dims <= width:
        raise InvalidRequestError(f"dims = {dims}. Valid: 1 to {width}, the width of the features.")
    every = max(1, sum(len(array) for array in features) // _FIT_ROWS)
    fitted = pca(np.concatenate([np.asarray(array[::every], np.float64) for array in features]), dims)
    return fitted.centre, fitted.axes, fitted.share


def quantise(
    points: Float[np.ndarray, "*shape dim"], ranges: Float64[np.ndarray, "dim 2"]
) -> Int16[np.ndarray, "*shape dim"]:
    """Coordinates as int16 over `ranges`, for the browser: -32767 = low end, 32767 = high end, -32768 = not there."""
    low, high = ranges[:, 0], ranges[:, 1]
    unit = 2 * (np.asarray(points, np.float64) - low) / (high - low) - 1
    whole = np.round(np.clip(unit, -1, 1) * _INT16)
    return np.where(np.isfinite(whole), whole, -_INT16 - 1).astype(np.int16)


def dequantise(
    whole: Int16[np.ndarray, "*shape dim"], ranges: Float64[np.ndarray, "dim 2"]
) -> Float32[np.ndarray, "*shape dim"]:
    """The inverse of `quantise`, to within 1/65534 of the range."""
    low, high = ranges[:, 0], ranges[:, 1]
    points = (whole / _INT16 + 1) / 2 * (high - low) + low
    return np.where(whole == -_INT16 - 1, np.nan, points).astype(np.float32)
