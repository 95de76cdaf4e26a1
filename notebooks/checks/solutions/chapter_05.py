"""Solutions of a chapter, written from its solution cells by `make write`."""

import numpy as np

__all__ = ["vertices", "turn", "rotation"]


def vertices(basis: np.ndarray) -> np.ndarray:
    k = basis.shape[1]
    return np.sqrt(k / (k - 1)) * (basis - basis.mean(axis=1, keepdims=True)).T


def turn(k_old: int, k_new: int) -> float:
    cosine = np.sqrt(k_new * (k_old - 1) / (k_old * (k_new - 1)))
    return float(np.degrees(np.arccos(min(1.0, cosine))))


def rotation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    left, _, right = np.linalg.svd(b.T @ a)
    return left @ right
