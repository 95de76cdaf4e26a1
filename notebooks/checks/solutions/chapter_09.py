"""Solutions of a chapter, written from its solution cells by `make write`."""

import numpy as np

__all__ = ["ensemble", "gap", "confidence"]


def ensemble(sentences: np.ndarray) -> np.ndarray:
    unit = sentences / np.linalg.norm(sentences, axis=2, keepdims=True)
    mean = unit.mean(axis=1)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def gap(images: np.ndarray, texts: np.ndarray) -> float:
    def centre(x: np.ndarray) -> np.ndarray:
        return (x / np.linalg.norm(x, axis=1, keepdims=True)).mean(axis=0)

    return float(np.linalg.norm(centre(images) - centre(texts)))


def confidence(cosines: np.ndarray, scale: float) -> np.ndarray:
    scores = scale * (cosines - cosines.max(axis=1, keepdims=True))
    raised = np.exp(scores)
    return raised / raised.sum(axis=1, keepdims=True)
