"""Cosines between class means, ordered by task, against the value of a simplex ETF."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from cillab.figures.coarse import around, pairs, reach_of, shown
from cillab.figures.palette import Theme, diverging, style
from cillab.figures.panels import grid, with_notes
from cillab.figures.picture import Picture
from cillab.figures.registry import figure
from cillab.figures.words import MOVING_TARGET, ORACLE, SIMPLEX, after, class_labels, empty, number
from cillab.runs import Run, Snapshot

_SMALLEST_RANGE = 0.1  # so that a collapsed matrix looks flat instead of showing its rounding errors


@dataclass(frozen=True, eq=False)
class Cosines:
    """Cosines of centred class means at one step; rows in the order of the stream."""

    step: str
    cosine: Float64[np.ndarray, "cls cls"]
    task_of_class: Int64[np.ndarray, " cls"]
    labels: tuple[str, ...]
    reach: float  # largest distance from the target over all steps of the run: one colour scale for all of them

    @property
    def target(self) -> float:
        """-1/(K-1), the cosine of every pair in a simplex ETF of K classes."""
        return -1 / (len(self.cosine) - 1) if len(self.cosine) > 1 else 0.0


def off_diagonal(cosine: np.ndarray) -> Float64[np.ndarray, " pair"]:
    """The cosines of all pairs, each once."""
    return np.asarray(cosine, np.float64)[np.triu_indices(len(cosine), 1)]


def read_cosines(run: Run, step: str | int | None = None) -> Cosines:
    """The matrix of one step, and the reach over all steps there are."""
    shot = run.snapshot(run.resolve(step))
    reach = max(_SMALLEST_RANGE, *(run.snapshot(other).once(_reach) for other in run.steps))
    labels = class_labels(run, shot["seen"].tolist())
    tasks = np.asarray(shot["task_of_class"], np.int64)
    return Cosines(shot.id, np.asarray(shot["cosine"], np.float64), tasks, tuple(labels), reach)


def _reach(shot: Snapshot) -> float:
    return reach_of(shot["cosine"])


def draw_cosine(data: Cosines, theme: Theme = "light") -> Picture:
    """A heat map whose neutral colour is -1/(K-1); the diagonal, always 1, is left out."""
    count, target = len(data.cosine), data.target
    if count < 2:
        return empty("cosine", "Cosines need at least two classes.", theme)
    figure, _ = grid(1, 1)
    part = shown(data.cosine, data.task_of_class, data.labels)
    ends = target - data.reach, target + data.reach
    pairs(figure, part, hover="cosine <b>%{z:.3f}</b>", ends=ends, theme=theme, colours=diverging(theme),
          colorbar=around(target, data.reach))  # fmt: skip
    style(figure, theme, name="cosine", height=440, margin={"t": 16})
    return Picture(
        figure,
        _sentence(data) + part.sentence,
        (ORACLE, "Means centred on their own average; the diagonal is left out.", MOVING_TARGET),
    )


def _sentence(data: Cosines) -> str:
    values = off_diagonal(data.cosine)
    gap = np.abs(values - data.target)
    worst = int(np.nanargmax(values))
    a, b = (int(index[worst]) for index in np.triu_indices(len(data.cosine), 1))
    return (
        f"{after(data.step).capitalize()}, the cosines of {len(values):,} pairs of classes lie on average"
        f" {number(float(np.nanmean(gap)))} from {SIMPLEX} = {number(data.target)}; the closest pair is"
        f" {data.labels[a]} and {data.labels[b]} with {number(float(values[worst]))}."
    )


@figure(
    title="All cosines, by task",
    page="collapse",
    part="ages",
    needs=("cosine",),
    quantities=("ideal_cosine", "maximal_angle"),
    width=640,
)
def cosine(run: Run, step: str | int | None = None, *, theme: Theme = "light") -> Picture:
    """Cosines of the class means of a run at `step` (default: the last)."""
    return with_notes(draw_cosine(read_cosines(run, step), theme), run, step)
