"""Matrices over pairs of classes, by task: above 200 classes a cell is smaller than a pixel, and means are drawn."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, Float64, Int

from cillab.figures.palette import TEXT, Theme, see_through
from cillab.figures.panels import Cell, heat, matrix_axes
from cillab.figures.words import MINUS, task_grid
from cillab.geometry.rows import pairs as pairs_of

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


def blocks(groups: np.ndarray) -> tuple[list[float], list[int], list[str]]:
    """Lines between tasks, and ticks with labels (the task, counted from 1) in the middle of tasks, at most 20."""
    starts = [0, *(np.flatnonzero(np.diff(groups)) + 1).tolist()]
    ends = [*starts[1:], len(groups)]
    middles = [(start + end - 1) // 2 for start, end in zip(starts, ends, strict=True)]
    ticks = middles[:: -(-len(middles) // 20)]
    return [start - 0.5 for start in starts[1:]], ticks, [str(int(groups[m]) + 1) for m in ticks]


def pairs(
    figure: go.Figure,
    part: Shown,
    *,
    hover: str,
    ends: tuple[float, float],
    theme: Theme,
    cell: Cell = (1, 1),
    diagonal: bool = False,
    rows: str = "",
    lines: str = "",
    of: str = "%{y}<br>%{x}",
    **trace: Any,
) -> None:
    """A square heat map with lines between tasks; without the diagonal, a class with itself is left out.

    `hover` says what a value is: `cosine <b>%{z:.3f}</b>`. `of` says of which pair. `rows` names the vertical axis
    where it is another one.
    """
    z = np.array(part.cells, np.float64)
    if not (diagonal or part.means):
        np.fill_diagonal(z, np.nan)
    text = f"{of}<br>{part.of}{hover}"
    heat(figure, z, hover=text, ends=ends, cell=cell, x=part.labels, y=part.labels, **trace)
    bounds, ticks, names = blocks(part.groups)
    if not part.means:
        task_grid(figure, bounds, len(z), lines or see_through(TEXT[theme], 0.7), row=cell[0], col=cell[1])
    matrix_axes(figure, cell, part.axis, tickvals=ticks, ticktext=names)
    if rows:
        figure.update_yaxes(title_text=rows, row=cell[0], col=cell[1])


def few(classes: int) -> slice:
    """Classes whose pairs decide a colour scale: all up to 200; of more every second, third ..., 200 at most."""
    return slice(None, None, max(1, -(-classes // CLASSES_UP_TO)))


def reach_of(matrix: np.ndarray, classes: int) -> float:
    """How far nearly all pairs of a matrix lie from the value of a simplex, -1/(K-1)."""
    found = pairs_of(matrix)
    found = found[np.isfinite(found)]
    return float(np.quantile(np.abs(found + 1 / (classes - 1)), 0.995)) if len(found) else 0.0


def around(target: float, reach: float) -> dict[str, Any]:
    """A colour bar whose middle is the target."""
    low, high = target - reach, target + reach
    return {
        "tickvals": [low, target, high],
        "ticktext": [text.replace("-", MINUS) for text in (f"{low:.2f}", f"{target:.2f}<br>target", f"{high:.2f}")],
    }
