"""The mixture of noise: weights of the generators over tasks, how strong they are in each layer, which are dead."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Bool, Float64
from plotly.subplots import make_subplots

from cillab.figures.numbers import LOGGED
from cillab.figures.palette import GRID, MUTED, SECOND, Theme, cursor, see_through, style, task_colour
from cillab.figures.panels import heat, line, log_colours, marks, missing, title
from cillab.figures.picture import Picture
from cillab.figures.registry import Nothing, figure
from cillab.figures.words import after, number, percent, place, places, plural, task_axis
from cillab.runs import Run


@dataclass(frozen=True, eq=False)
class Mixing:
    """Mixing weights at every step (mean over layers), and the state of every generator at one step."""

    steps: tuple[str, ...]
    step: str
    tasks: int  # of the whole stream
    weights: Float64[np.ndarray, "step task"]  # NaN for generators that did not exist
    ratio: Float64[np.ndarray, "layer generator"]  # norm of the noise over norm of the signal; 0 columns if unknown
    dead: Bool[np.ndarray, "layer generator"]
    similarity: Float64[np.ndarray, "generator generator"]
    ends: tuple[float, float]  # smallest positive and largest ratio over all steps: one colour scale for all of them


def read_mixing(run: Run, step: str | int | None = None) -> Mixing:
    """The noise arrays of a run."""
    steps = tuple(s for s in run.steps if "internals/noise/weights" in run.snapshot(s))
    if not steps:
        raise Nothing
    chosen = run.resolve(step)
    shot = run.snapshot(chosen if chosen in steps else steps[-1])
    tasks = len(run.info.tasks)
    weights, ratios = np.full((len(steps), tasks), np.nan), [np.zeros(0)]
    for row, one in enumerate(steps):
        values = np.asarray(run.snapshot(one)["internals/noise/weights"], np.float64).mean(axis=0)
        weights[row, : len(values)] = values[:tasks]
        ratios.append(np.ravel(run.snapshot(one).get("internals/noise/ratio", ratios[0])))
    some = np.concatenate(ratios)
    some = some[some > 0]
    ends = (max(float(some.min()), 1e-3 * float(some.max())), float(some.max())) if len(some) else (1e-6, 1e-3)
    none = np.zeros((0, 0))
    ratio = np.asarray(shot.get("internals/noise/ratio", none), np.float64)
    dead = np.asarray(shot.get("internals/noise/dead", np.zeros(ratio.shape)), bool)
    similarity = np.asarray(shot.get("internals/noise/similarity", none), np.float64)
    return Mixing(steps, shot.id, tasks, weights, ratio, dead, similarity, ends)


@figure(
    title="Weights, strength and likeness",
    page="noise_mixing",
    needs=("internals/noise/weights",),
    lacks="This learner adds no noise, so there is nothing to mix.",
)
def mixing(run: Run, step: str | int | None = None, *, theme: Theme = "light") -> Picture:
    """Noise mixing of a run at `step` (default: the last).

    Above, shares of the generators over tasks; below, noise over signal by layer, and likeness of the prototypes.
    """
    data = read_mixing(run, step)
    figure = make_subplots(
        2, 2, specs=[[{"colspan": 2}, None], [{}, {}]], row_heights=[0.46, 0.54], vertical_spacing=0.19,
        horizontal_spacing=0.2,
    )  # fmt: skip
    _weights(figure, data, theme)
    _ratio(figure, data, theme)
    _similarity(figure, data, theme)
    style(figure, theme, name="mixing", height=632, margin={"t": 72})
    figure.update_xaxes(**task_axis(data.tasks), row=1, col=1)
    cursor(figure, place(data.step), theme, rows=[(1, 1)])
    for cell, text in {
        (1, 1): "mixing weights of the generators, mean over layers",
        (2, 1): "noise / signal on images of the task",
        (2, 2): "cosine of task prototypes",
    }.items():
        title(figure, cell, text, theme=theme)
    figure.update_layout(legend={"y": 1 + 34 / (632 - 46 - 72), "font": {"size": 11}})
    notes = (
        "Noise over signal: norm of what a generator adds over the norm of what it is added to, mean over images of the"
        " newest task.",
        "A cross marks a dead generator: it puts out nothing, so its mixing weight has no effect.",
    )
    return Picture(figure, _sentence(data), notes)


def _weights(figure: go.Figure, data: Mixing, theme: Theme) -> None:
    x = places(data.steps)
    stacked = float(np.nanmin(data.weights)) >= 0  # shares can be stacked, signed weights cannot
    for task in range(data.tasks):
        y = data.weights[:, task]
        if not np.isfinite(y).any():
            continue
        colour = task_colour(task, theme)
        filled: dict[str, Any] = {"stackgroup": "weights", "fillcolor": see_through(colour, 0.55)} if stacked else {}
        hover = f"generator of task {task + 1}<br>at task %{{x}}<br>weight <b>%{{y:.3f}}</b><extra></extra>"
        line(figure, x, np.nan_to_num(y) if stacked else y, f"task {task + 1}", colour, mark="", hovertemplate=hover,
             width=1.2 if stacked else 2.0, **filled)  # fmt: skip
    top = float(np.nansum(data.weights, axis=1).max()) if stacked else float(np.nanmax(data.weights))
    low = 0.0 if stacked else 1.1 * float(np.nanmin(data.weights))
    figure.update_yaxes(range=[low, 1.02 * max(top, 1e-3)], row=1, col=1)


def _ratio(figure: go.Figure, data: Mixing, theme: Theme) -> None:
    layers, generators = data.ratio.shape
    figure.update_xaxes(
        title_text="generator of task", showgrid=False, range=[0.5, data.tasks + 0.5], dtick=1, row=2, col=1
    )
    figure.update_yaxes(title_text="layer", showgrid=False, range=[max(layers, 1) + 0.5, 0.5], row=2, col=1)
    if data.tasks > 12:
        figure.update_xaxes(dtick=5, row=2, col=1)
    if not data.ratio.size:
        missing(figure, (2, 1))
        return
    columns, rows = np.arange(1, generators + 1), np.arange(1, layers + 1)
    ends, bar = log_colours(*data.ends)  # a mixture of ten has a tenth of the strength that the first one had
    heat(
        figure, np.log10(np.maximum(data.ratio, data.ends[0])), x=columns, y=rows, ends=ends, cell=(2, 1),
        hover="generator of task %{x}, layer %{y}<br>noise / signal <b>%{customdata:.3g}</b>", meta=LOGGED,
        customdata=data.ratio.astype(np.float32), colorbar={"x": 0.41, "len": 0.46, "y": 0.22, "thickness": 8} | bar,
        xgap=1, ygap=1,
    )  # fmt: skip
    cross = {"symbol": "x-thin", "size": 10, "line": {"width": 2, "color": SECOND[theme]}}
    marks(figure, np.argwhere(data.dead)[:, ::-1] + 1, "dead", cross, cell=(2, 1), showlegend=False,
          hover="generator of task %{x}, layer %{y}: dead")  # fmt: skip


def _similarity(figure: go.Figure, data: Mixing, theme: Theme) -> None:
    axis = {"showgrid": False, "dtick": 1 if data.tasks <= 12 else 5, "row": 2, "col": 2}
    figure.update_xaxes(title_text="task", range=[0.5, data.tasks + 0.5], **axis)
    figure.update_yaxes(title_text="task", range=[data.tasks + 0.5, 0.5], **axis)
    if not data.similarity.size:
        missing(figure, (2, 2))
        return
    tasks = np.arange(1, len(data.similarity) + 1)
    low = GRID[theme] if theme == "light" else "#1A212B"
    heat(
        figure, data.similarity, x=tasks, y=tasks, ends=(-1.0, 1.0), cell=(2, 2), xgap=1, ygap=1,
        colours=[(0, MUTED[theme]), (0.5, low), (1, task_colour(0, theme))],
        hover="tasks %{y} and %{x}<br>cosine <b>%{z:.3f}</b>",
        colorbar={"x": 1.01, "len": 0.46, "y": 0.22, "thickness": 8, "tickvals": [-1, 0, 1]},
    )  # fmt: skip


def _sentence(data: Mixing) -> str:
    weights = data.weights[data.steps.index(data.step)]
    there = np.flatnonzero(np.isfinite(weights))
    top = int(there[np.argmax(weights[there])])
    total = float(np.abs(weights[there]).sum()) or 1.0
    text = (
        f"{after(data.step).capitalize()}, {plural(len(there), 'generator')}: that of task {top + 1} has the largest"
        f" weight, {percent(float(abs(weights[top])) / total)} of all"
    )
    if data.ratio.size:
        text += f"; noise over signal is {number(float(np.nanmean(data.ratio)))} on average"
        dead, every = int(data.dead.sum()), data.dead.size
        text += f", and {dead} of {every} generators (layers x tasks) {'is' if dead == 1 else 'are'} dead"
    return text + "."
