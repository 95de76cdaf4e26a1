"""Drift: how far the class means stored when a class was learnt have fallen behind the features of now."""

from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float64

from cillab.figures.palette import Theme, cursor, see_through, style, task_colour, task_mark
from cillab.figures.panels import with_notes
from cillab.figures.picture import Picture
from cillab.figures.words import empty, number, place, places, task_axis
from cillab.runs import Run


@dataclass(frozen=True, eq=False)
class Drift:
    """Cosine of stored and re-measured class means: mean, lowest and highest class of each task; NaN before it."""

    steps: tuple[str, ...]
    tasks: int  # of the whole stream
    mean: Float64[np.ndarray, "step task"]
    low: Float64[np.ndarray, "step task"]
    high: Float64[np.ndarray, "step task"]
    centred: bool


def row_cosines(a: np.ndarray, b: np.ndarray, centred: bool) -> Float64[np.ndarray, " row"]:
    """cos(a_c, b_c) per row, each side centred on its own average if asked; NaN for a row of zeros."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if centred:
        a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def read_drift(run: Run, *, centred: bool = True) -> Drift:
    """Cosines at every step there is."""
    steps, tasks = run.steps, len(run.info.tasks)
    mean, low, high = (np.full((len(steps), tasks), np.nan) for _ in range(3))
    for row, step in enumerate(steps):
        shot = run.snapshot(step)
        values = row_cosines(shot["means/stored"], shot["means/now"], centred)
        for task in np.unique(shot["task_of_class"]):
            own = values[shot["task_of_class"] == task]
            own = own[np.isfinite(own)]
            if len(own):
                mean[row, task], low[row, task], high[row, task] = own.mean(), own.min(), own.max()
    return Drift(steps, tasks, mean, low, high, centred)


def draw_drift(data: Drift, step: str | None = None, theme: Theme = "light") -> Picture:
    """One line per task with a band from its lowest to its highest class; 1 = where it was when learnt."""
    if not len(data.steps) or not np.isfinite(data.mean).any():
        return empty("drift", "No class mean has been measured twice yet.", theme)
    figure, x = go.Figure(), places(data.steps).astype(np.float32)
    for task in range(data.tasks):
        there = np.isfinite(data.mean[:, task])
        if not there.any():
            continue
        colour = task_colour(task, theme)
        band = np.concatenate([data.high[there, task], data.low[there, task][::-1]]).astype(np.float32)
        figure.add_scatter(
            x=np.concatenate([x[there], x[there][::-1]]),
            y=band,
            fill="toself",
            fillcolor=see_through(colour, 0.09),
            line={"width": 0},
            mode="lines",
            hoverinfo="skip",
            showlegend=False,
            legendgroup=str(task),
        )
        figure.add_scatter(
            x=x[there],
            y=data.mean[there, task].astype(np.float32),
            name=f"task {task + 1}",
            legendgroup=str(task),
            mode="lines+markers",
            line={"color": colour, "width": 2},
            marker={"color": colour, "symbol": task_mark(task), "size": 7},
            hovertemplate=f"classes of task {task + 1}<br>at task %{{x}}<br>cosine <b>%{{y:.4f}}</b><extra></extra>",
        )
    style(figure, theme, name="drift", height=360, legend={"font": {"size": 11}})
    figure.update_xaxes(**task_axis(data.tasks))
    lowest = min(float(np.nanmin(data.low)), 0.95)
    figure.update_yaxes(
        title_text="cosine to the stored mean", range=[lowest - 0.06 * (1 - lowest), 1 + 0.06 * (1 - lowest)]
    )
    cursor(figure, place(step or data.steps[-1]), theme)
    how = "centred on their average over the classes seen" if data.centred else "not centred"
    notes = (
        f"Cosine of the training mean stored when the class was learnt and of the same images measured now, {how}.",
        "Line: mean over the classes of a task; band: lowest to highest class. This gap is drift, not collapse.",
    )
    return Picture(figure, _sentence(data, step or data.steps[-1]), notes)


def _sentence(data: Drift, step: str) -> str:
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


def drift(run: Run, step: str | int | None = None, *, theme: Theme = "light", centred: bool = True) -> Picture:
    """Drift of the class means of a run, with a cursor at `step` (default: the last)."""
    data = read_drift(run, centred=centred)
    return with_notes(draw_drift(data, run.resolve(step) if data.steps else None, theme), run, step)
