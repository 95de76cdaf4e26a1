"""Whole numbers for coordinates: stored in a run, sent to the browser; -32768 for what is absent."""

import numpy as np
from jaxtyping import Float, Float32, Float64, Int16

ABSENT = -32768
_TOP = 32767
_OUTSIDE = 0.002  # share of coordinates that may lie beyond `square`: a few outliers must not shrink the rest


def box(points: Float[np.ndarray, "*shape axis"], margin: float = 0.05) -> Float64[np.ndarray, "axis 2"]:
    """Low and high end of each axis over all points there are, with a `margin` in sizes of the box."""
    flat = points.reshape(-1, points.shape[-1]).astype(np.float64)
    low, high = np.nanmin(flat, axis=0), np.nanmax(flat, axis=0)
    beyond = margin * np.maximum(high - low, 1e-6)
    return np.stack([low - beyond, high + beyond], axis=1)


def square(points: Float[np.ndarray, "*shape axis"]) -> Float64[np.ndarray, "axis 2"]:
    """The box about the origin, as high as wide, in which all but a few coordinates lie, with a margin of 4 %."""
    half = 1.04 * max(float(np.nanquantile(np.abs(points), 1 - _OUTSIDE)), 1e-9)
    return np.tile([-half, half], (points.shape[-1], 1))


def quantise(
    points: Float[np.ndarray, "*shape axis"], ranges: Float64[np.ndarray, "axis 2"]
) -> Int16[np.ndarray, "*shape axis"]:
    """Coordinates over `ranges`: -32767 = low end and below, 32767 = high end and above, `ABSENT` = not finite."""
    low, high = ranges[:, 0], ranges[:, 1]
    whole = np.rint(np.clip(2 * (np.asarray(points, np.float64) - low) / (high - low) - 1, -1, 1) * _TOP)
    return np.where(np.isfinite(points), whole, ABSENT).astype(np.int16)


def dequantise(
    whole: Int16[np.ndarray, "*shape axis"], ranges: Float64[np.ndarray, "axis 2"]
) -> Float32[np.ndarray, "*shape axis"]:
    """The inverse of `quantise` inside `ranges`, to within 1/65534 of them; NaN where nothing was."""
    low, high = ranges[:, 0], ranges[:, 1]
    points = (whole / _TOP + 1) / 2 * (high - low) + low
    return np.where(whole == ABSENT, np.nan, points).astype(np.float32)
