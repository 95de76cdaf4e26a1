"""Cosines between class means, ordered by task, against the value of a simplex ETF."""

from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float64, Int64

from cillab.figures.coarse import shown
from cillab.figures.palette import TEXT, Theme, diverging, see_through, style
from cillab.figures.panels import with_notes
from cillab.figures.picture import Picture
from cillab.figures.registry import figure
from cillab.figures.words import MOVING_TARGET, ORACLE, SIMPLEX, after, class_labels, empty, number, task_grid
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
    """How far nearly all pairs of one step lie from the target."""
    pairs = off_diagonal(shot["cosine"])
    pairs = pairs[np.isfinite(pairs)]
    return float(np.quantile(np.abs(pairs + 1 / (len(shot["cosine"]) - 1)), 0.995)) if len(pairs) else 0.0


def draw_cosine(data: Cosines, theme: Theme = "light") -> Picture:
    """A heat map whose neutral colour is -1/(K-1); the diagonal, always 1, is left out."""
    count, target = len(data.cosine), data.target
    if count < 2:
        return empty("cosine", "Cosines need at least two classes.", theme)
    part = shown(data.cosine, data.task_of_class, data.labels)
    z = part.cells.astype(np.float32)
    if not part.means:
        np.fill_diagonal(z, np.nan)
    figure = go.Figure(
        go.Heatmap(
            z=z,
            x=part.labels,
            y=part.labels,
            zmin=target - data.reach,
            zmax=target + data.reach,
            colorscale=diverging(theme),
            hoverongaps=False,
            hovertemplate=f"%{{y}}<br>%{{x}}<br>{part.of}cosine <b>%{{z:.3f}}</b><extra></extra>",
            colorbar={
                "tickvals": [target - data.reach, target, target + data.reach],
                "ticktext": [f"{target - data.reach:.2f}", f"{target:.2f}<br>target", f"{target + data.reach:.2f}"],
            },
        )
    )
    style(figure, theme, name="cosine", height=440, margin={"t": 16})
    bounds, ticks, names = blocks(part.groups)
    if not part.means:
        task_grid(figure, bounds, count, see_through(TEXT[theme], 0.75))
    axis = {"tickvals": ticks, "ticktext": names, "showgrid": False, "type": "category", "constrain": "domain"}
    figure.update_xaxes(title_text=part.axis, **axis)
    figure.update_yaxes(title_text=part.axis, autorange="reversed", scaleanchor="x", **axis)
    return Picture(
        figure,
        _sentence(data) + part.sentence,
        (ORACLE, "Means centred on their own average; the diagonal is left out.", MOVING_TARGET),
    )


def blocks(task_of_class: np.ndarray) -> tuple[list[float], list[int], list[str]]:
    """Lines between tasks, and ticks with labels (the task, counted from 1) in the middle of tasks, at most 20."""
    starts = [0, *(np.flatnonzero(np.diff(task_of_class)) + 1).tolist()]
    ends = [*starts[1:], len(task_of_class)]
    middles = [(start + end - 1) // 2 for start, end in zip(starts, ends, strict=True)]
    ticks = middles[:: -(-len(middles) // 20)]
    return [start - 0.5 for start in starts[1:]], ticks, [str(int(task_of_class[m]) + 1) for m in ticks]


def _sentence(data: Cosines) -> str:
    pairs = off_diagonal(data.cosine)
    gap = np.abs(pairs - data.target)
    worst = int(np.nanargmax(pairs))
    a, b = (int(index[worst]) for index in np.triu_indices(len(data.cosine), 1))
    return (
        f"{after(data.step).capitalize()}, the cosines of {len(pairs):,} pairs of classes lie on average"
        f" {number(float(np.nanmean(gap)))} from {SIMPLEX} = {number(data.target)}; the closest pair is"
        f" {data.labels[a]} and {data.labels[b]} with {number(float(pairs[worst]))}."
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
