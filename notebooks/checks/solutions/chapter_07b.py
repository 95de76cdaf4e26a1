"""Solutions of a chapter, written from its solution cells by `make write`."""

import numpy as np

__all__ = ["safe_angle", "held"]


def safe_angle(k: int) -> float:
    return float(np.degrees(np.arccos(-1 / (k - 1))) / 2)


def held(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    left, _, right = np.linalg.svd((weights[:, None] * b).T @ a)
    return left @ right
