"""Solutions of a chapter, written from its solution cells by `make write`."""

import numpy as np

__all__ = ["feature_gradient", "mean_cosine"]


def feature_gradient(features: np.ndarray, weight: np.ndarray, labels: np.ndarray) -> np.ndarray:
    scores = features @ weight.T
    chances = np.exp(scores - scores.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    chances[np.arange(len(labels)), labels] -= 1
    return chances @ weight


def mean_cosine(k: int, length: float) -> float:
    return (length**2 - k) / (k * (k - 1))
