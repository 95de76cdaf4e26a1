"""Solutions of a chapter, written from its solution cells by `make write`."""

import numpy as np

__all__ = ["cam", "energy", "difference"]


def cam(activation: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    return np.maximum(activation @ gradient.mean(axis=(0, 1)), 0)


def energy(heat: np.ndarray, mask: np.ndarray) -> float:
    return float((heat * mask).sum() / heat.sum())


def difference(logits: np.ndarray, true: int) -> float:
    return float(logits[true] - np.delete(logits, true).max())
