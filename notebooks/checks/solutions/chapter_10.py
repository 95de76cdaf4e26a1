"""Solutions of a chapter, written from its solution cells by `make write`."""

import numpy as np

__all__ = ["transport_map", "w2"]


def transport_map(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    def power(s: np.ndarray, exponent: float) -> np.ndarray:
        values, vectors = np.linalg.eigh(s)
        return (vectors * values**exponent) @ vectors.T

    root, inverse = power(old, 0.5), power(old, -0.5)
    return inverse @ power(root @ new @ root, 0.5) @ inverse


def w2(mean: np.ndarray, cov: np.ndarray, other_mean: np.ndarray, other_cov: np.ndarray) -> float:
    values, vectors = np.linalg.eigh(cov)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ other_cov @ root), 0)).sum()
    shape = np.trace(cov) + np.trace(other_cov) - 2 * cross
    return float(np.sqrt(((mean - other_mean) ** 2).sum() + max(0.0, shape)))
