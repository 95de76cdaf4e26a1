"""Class means, head rows and simplex corners of every step in all their dimensions, for a view that turns.

The player chooses three or four classes and looks at the space through them. That needs the vectors themselves, not
their shadows in one plane; a run whose vectors do not fit is looked at in its leading directions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from cillab.plane import head_rows, nearest_simplex, pca
from cillab.runs import Run, Snapshot

_ROOM = 800_000  # numbers of all steps together, 1.6 MB
_FEWEST = 12  # directions that are worth turning
_POOL = 4000  # rows that the leading directions are taken from


@dataclass(frozen=True, eq=False)
class Frame:
    """Rows of all steps one after the other, as each step has seen classes; around the average of the step's means."""

    counts: tuple[int, ...]  # classes seen at each step; a row belongs to a class by the order of the stream
    means: Float[np.ndarray, "row direction"]
    head: Float[np.ndarray, "row direction"] | None  # as long as the means are on average: directions have no length
    corners: Float[np.ndarray, "row direction"] | None  # of the simplex nearest to all means of a step; NaN without
    share: float  # of the squared length of the means in these directions


def frame(run: Run, snapshots: Sequence[Snapshot]) -> Frame | None:
    """The vectors of a run; None where their width changes or too few directions would fit."""
    place = {class_id: at for at, class_id in enumerate(run.order)}
    means, head, corners = [], [], []
    for shot in snapshots:
        rows = np.asarray(shot["means/now"], dtype=np.float64)
        order = np.argsort([place[int(c)] for c in shot["seen"]])
        middle = rows.mean(axis=0)
        means.append((rows - middle)[order])
        if (weight := head_rows(shot)) is not None:
            head.append((weight - middle)[order])
        simplex = nearest_simplex(rows) if len(rows) > 1 else None
        corners.append(np.full(rows.shape, np.nan) if simplex is None else (simplex - middle)[order])
    if len({rows.shape[1] for rows in means}) != 1 or not all(np.isfinite(rows).all() for rows in means):
        return None
    stacked = np.concatenate(means)
    size = min(stacked.shape[1], _ROOM // (3 * len(stacked)))
    if size < min(_FEWEST, stacked.shape[1]):
        return None
    axes, share = _leading(stacked, size)

    def seen(rows: list[np.ndarray]) -> np.ndarray:
        return np.concatenate(rows) @ axes

    whole = len(head) == len(means)
    some = any(np.isfinite(rows).any() for rows in corners)
    counts = tuple(len(rows) for rows in means)
    return Frame(counts, stacked @ axes, seen(head) if whole else None, seen(corners) if some else None, share)


def _leading(rows: np.ndarray, size: int) -> tuple[np.ndarray, float]:
    """Orthonormal directions that hold most of the rows, and which share of their squared length that is."""
    if size >= rows.shape[1]:
        return np.eye(rows.shape[1]), 1.0
    axes = pca(rows[:: max(1, len(rows) // _POOL)], size).axes
    return axes, float(np.square(rows @ axes).sum() / max(np.square(rows).sum(), 1e-12))
