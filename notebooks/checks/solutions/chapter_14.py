"""Solutions of a chapter, written from its solution cells by `make write`."""

import numpy as np

__all__ = ["difference_of", "optimism", "voted"]


def difference_of(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    d = a.astype(float) - b.astype(float)
    return float(d.mean()), float(d.std(ddof=1) / np.sqrt(len(d)))


def optimism(right: np.ndarray, chosen_on: np.ndarray) -> float:
    best = right[:, chosen_on].mean(axis=1).argmax()
    return float(right[best, chosen_on].mean() - right[best, ~chosen_on].mean())


def voted(votes: np.ndarray, size: int) -> np.ndarray:
    pieces = [votes[start : start + size] for start in range(0, len(votes), size)]
    return np.concatenate([np.full(len(piece), np.bincount(piece).argmax()) for piece in pieces])
