"""Solutions of a chapter, written from its solution cells by `make write`."""

import numpy as np

__all__ = ["base_to_new", "separation"]


def base_to_new(scores: np.ndarray, truth: np.ndarray, is_base: np.ndarray) -> tuple[float, float]:
    mine = is_base[truth]
    allowed = np.where(mine[:, None] == is_base[None], scores, -np.inf)
    right = allowed.argmax(axis=1) == truth
    return float(right[mine].mean()), float(right[~mine].mean())


def separation(texts: np.ndarray, clusters: np.ndarray) -> float:
    unit = texts / np.linalg.norm(texts, axis=1, keepdims=True)
    total, groups = 0.0, np.unique(clusters)
    for group in groups:
        mine = unit[clusters == group]
        if len(mine) > 1:
            off = (mine @ mine.T)[~np.eye(len(mine), dtype=bool)]
            total += ((off + 1 / (len(mine) - 1)) ** 2).sum()
    return float(total / len(groups))
