"""Solutions of a chapter, written from its solution cells by `make write`."""

import numpy as np

__all__ = ["unbiased_quotient", "angle_deviation", "angle_floor"]


def unbiased_quotient(within: float, between: float, n: int, k: int) -> float:
    spread = within * n / (n - 1)
    return spread / (between - spread * (k - 1) / (k * n))


def angle_deviation(means: np.ndarray) -> float:
    centred = means - means.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    cosines = (unit @ unit.T)[np.triu_indices(len(unit), 1)]
    return float(np.sqrt(((cosines + 1 / (len(unit) - 1)) ** 2).mean()))


def angle_floor(k: int, d: int) -> float:
    return float(np.sqrt(max(0.0, (k - d) / (d * (k - 1)) - 1 / (k - 1) ** 2)))
