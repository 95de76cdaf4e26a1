"""Solutions of a chapter, written from its solution cells by `make write`."""

import numpy as np

__all__ = ["pull_push", "draw"]


def pull_push(z: np.ndarray, vertices: np.ndarray, own: int) -> tuple[float, float]:
    cosines, others = vertices @ z, len(vertices) - 1
    too_close = np.delete(np.maximum(0, cosines + 1 / others), own)
    return 0.5 * (cosines[own] - 1) ** 2, 0.5 * (too_close**2).sum() / others


def draw(mean: np.ndarray, covariance: np.ndarray, noise: np.ndarray) -> np.ndarray:
    return mean + noise @ np.linalg.cholesky(covariance).T
