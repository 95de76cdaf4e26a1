"""Solutions of a chapter, written from its solution cells by `make write`."""

import numpy as np

__all__ = ["ridge", "update", "equivalent_gamma"]


def ridge(phi: np.ndarray, y: np.ndarray, gamma: float) -> np.ndarray:
    return np.linalg.solve(phi.T @ phi + gamma * np.eye(phi.shape[1]), phi.T @ y)


def update(inverse: np.ndarray, weight: np.ndarray, phi: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    seen_by = phi @ inverse
    inverse = inverse - seen_by.T @ np.linalg.solve(np.eye(len(phi)) + seen_by @ phi.T, seen_by)
    return inverse, weight + inverse @ phi.T @ (y - phi @ weight)


def equivalent_gamma(gamma: float, passes: int) -> float:
    return gamma / passes
