"""Matrices over pairs of classes that are too many to draw: above 200 a cell would be smaller than a pixel."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int

CLASSES_UP_TO = 200


class Shown(NamedTuple):
    """What is drawn of a matrix of pairs: cells, the group and label of each row, and a sentence if cells are means."""

    cells: Float64[np.ndarray, "row row"]
    groups: Int[np.ndarray, " row"]
    labels: list[str]
    sentence: str

    @property
    def means(self) -> bool:
        """Is a cell the mean over many pairs?"""
        return bool(self.sentence)

    @property
    def of(self) -> str:
        """What stands before the name of the value where the pointer is."""
        return "mean " if self.means else ""

    @property
    def axis(self) -> str:
        """What an axis over the rows is called."""
        return "tasks" if self.means else "classes, by task"


def averaged(
    matrix: Float[np.ndarray, "cls cls"], groups: Int[np.ndarray, " cls"]
) -> Float64[np.ndarray, "group group"]:
    """Mean over the pairs of each two groups; a class is no pair with itself, and NaN is left out.

    m[a, b] = sum_{i in a, j in b, i != j} x[i, j] / number of those pairs
    """
    off = np.array(matrix, np.float64)
    np.fill_diagonal(off, np.nan)
    member = (np.unique(groups)[:, None] == groups[None]).astype(np.float64)
    there = np.isfinite(off)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (member @ np.where(there, off, 0) @ member.T) / (member @ there @ member.T)


def shown(
    matrix: Float[np.ndarray, "cls cls"], groups: Int[np.ndarray, " cls"], labels: Sequence[str], word: str = "task"
) -> Shown:
    """The matrix itself up to 200 classes, above that the means by group (`word` says of what)."""
    if len(matrix) <= CLASSES_UP_TO:
        return Shown(np.asarray(matrix, np.float64), groups, list(labels), "")
    names = np.unique(groups)
    said = f" {len(matrix):,} classes are too many to draw: a cell is the mean over the pairs of two {word}s."
    return Shown(averaged(matrix, groups), names, [f"{word} {name + 1}" for name in names], said)
