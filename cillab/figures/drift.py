"""Drift: how far the class means stored when a class was learnt have fallen behind the features of now."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float64

from cillab.figures.numbers import EACH_TASK
from cillab.figures.palette import HUES, NAMED_UP_TO, Theme, cursor, see_through, style, task_colour, task_mark
from cillab.figures.panels import gapped, of_hue, with_notes
from cillab.figures.picture import Picture
from cillab.figures.registry import figure
from cillab.figures.words import empty, number, place, places, task_axis
from cillab.geometry.rows import centre, cosine
from cillab.runs import Run

MANY_TASKS = (
    f"Of more than {NAMED_UP_TO} tasks, every {HUES}th has the same hue: point at a line to see whose it is.",
)


@dataclass(frozen=True, eq=False)
class Drift:
    """Cosine of stored and re-measured class means: mean, lowest and highest class of each task; NaN before it."""

    steps: tuple[str, ...]
    tasks: int  # of the whole stream
    mean: Float64[np.ndarray, "step task"]
    low: Float64[np.ndarray, "step task"]
    high: Float64[np.ndarray, "step task"]
    centred: bool


def read_drift(run: Run, *, centred: bool = True) -> Drift:
    """Cosines at every step there is."""
    steps, tasks = run.steps, len(run.info.tasks)
    mean, low, high = (np.full((len(steps), tasks), np.nan) for _ in range(3))
    for row, step in enumerate(steps):
        shot = run.snapshot(step)
        sides = shot["means/stored"], shot["means/now"]
        values = cosine(*(map(centre, sides) if centred else sides))
        of_class = shot["task_of_class"]
        for task in np.unique(of_class):
            own = values[of_class == task]
            own = own[np.isfinite(own)]
            if len(own):
                mean[row, task], low[row, task], high[row, task] = own.mean(), own.min(), own.max()
    return Drift(steps, tasks, mean, low, high, centred)


def _sets(tasks: int) -> list[list[int]]:
    """Which tasks share a pair of traces: none, or, where they are many, those of one hue. 200 traces draw slowly."""
    return [[t] for t in range(tasks)] if tasks <= NAMED_UP_TO else [list(range(h, tasks, HUES)) for h in range(HUES)]


def _add(figure: go.Figure, data: Drift, tasks: Sequence[int], theme: Theme) -> None:
    """Bands and lines of some tasks, with a gap between two of them."""
    x, alone = places(data.steps).astype(np.float32), data.tasks <= NAMED_UP_TO
    bands, lines = [], []
    for task in tasks:
        there = np.isfinite(data.mean[:, task])
        if not there.any():
            continue
        ends = np.concatenate([data.high[there, task], data.low[there, task][::-1]])
        bands.append((np.concatenate([x[there], x[there][::-1]]), ends))
        lines.append((x[there], data.mean[there, task], np.full(int(there.sum()), task + 1)))
    if not lines:
        return
    band, line = gapped(bands), gapped(lines)
    colour, group = task_colour(tasks[0], theme), str(tasks[0])
    figure.add_scatter(
        x=band[0],
        y=band[1],
        fill="toself",
        fillcolor=see_through(colour, 0.09),
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
        legendgroup=group,
    )
    one = {
        "name": f"task {tasks[0] + 1}",
        "mode": "lines+markers",
        "line": {"color": colour, "width": 2},
        "marker": {"color": colour, "symbol": task_mark(tasks[0]), "size": 7},
        "hovertemplate": f"classes of task {tasks[0] + 1}<br>at task %{{x}}<br>cosine <b>%{{y:.4f}}</b><extra></extra>",
    }
    many = {
        "name": of_hue(tasks[0]),
        "mode": "lines",
        "line": {"color": colour, "width": 1.4},
        "customdata": line[2],
        "meta": EACH_TASK,
        "showlegend": False,
        "hovertemplate": "classes of task %{customdata}<br>at task %{x}<br>cosine <b>%{y:.4f}</b><extra></extra>",
    }
    figure.add_scatter(x=line[0], y=line[1], legendgroup=group, **(one if alone else many))


def drift_notes(data: Drift) -> tuple[str, ...]:
    """How to read the figure."""
    how = "centred on their average over the classes seen" if data.centred else "not centred"
    return (
        f"Cosine of the training mean stored when the class was learnt and of the same images measured now, {how}.",
        "Line: mean over the classes of a task; band: lowest to highest class. This gap is drift, not collapse.",
        *(MANY_TASKS if data.tasks > NAMED_UP_TO else ()),
    )


def drift_sentence(data: Drift, step: str) -> str:
    """Which task has fallen behind most at a step, and how far all have on average."""
    row = data.mean[data.steps.index(step)]
    known = np.flatnonzero(np.isfinite(row))
    if not len(known):
        return "No class mean has been measured at this step."
    worst = int(known[np.argmin(row[known])])
    if row[worst] > 1 - 1e-4:
        return f"At task {place(step):g} every stored class mean is where it was, to 1e-4 in cosine."
    turned = np.degrees(np.arccos(np.clip(row[worst], -1, 1)))
    return (
        f"At task {place(step):g} the stored means of task {worst + 1} have a cosine of {number(float(row[worst]))}"
        f" to where the same images are now ({turned:.1f}°); the mean over {len(known)} tasks is"
        f" {number(float(row[known].mean()))}."
    )


@figure(
    title="Drift of class means since they were learnt",
    page="drift",
    part="means",
    needs=("means/stored", "means/now"),
    quantities=("cosine_drift",),
)
def drift(run: Run, step: str | int | None = None, *, theme: Theme = "light", centred: bool = True) -> Picture:
    """Drift of the class means of a run, with a cursor at `step` (default: the last).

    A line per task with a band from its lowest to its highest class; 1 = where it was when learnt.
    """
    data, step = read_drift(run, centred=centred), run.resolve(step)
    if not len(data.steps) or not np.isfinite(data.mean).any():
        return with_notes(empty("drift", "No class mean has been measured twice yet.", theme), run, step)
    figure = go.Figure()
    for tasks in _sets(data.tasks):
        _add(figure, data, tasks, theme)
    style(figure, theme, name="drift", height=360, legend={"font": {"size": 11}})
    figure.update_xaxes(**task_axis(data.tasks))
    lowest = min(float(np.nanmin(data.low)), 0.95)
    figure.update_yaxes(
        title_text="cosine to the stored mean", range=[lowest - 0.06 * (1 - lowest), 1 + 0.06 * (1 - lowest)]
    )
    cursor(figure, place(step), theme)
    return with_notes(Picture(figure, drift_sentence(data, step), drift_notes(data)), run, step)
