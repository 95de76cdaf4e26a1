"""Solutions of a chapter, written from its solution cells by `make write`."""

import numpy as np

__all__ = ["backward_transfer", "pull", "three_parts"]


def backward_transfer(matrix: np.ndarray) -> float:
    return float((matrix[-1, :-1] - np.diag(matrix)[:-1]).mean())


def pull(confusion: np.ndarray, task_of_class: np.ndarray) -> float:
    new = task_of_class == task_of_class.max()
    return float(confusion[~new][:, new].sum() / confusion[~new].sum())


def three_parts(
    head_then: float, head_now: float, few_then: float, few_now: float, all_now: float
) -> tuple[float, float, float]:
    deep, crowding = few_then - few_now, few_now - all_now
    return deep, crowding, head_then - head_now - deep - crowding
