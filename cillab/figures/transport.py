"""Stored Gaussians of old classes before and after calibration, beside what their images are now."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, Float64, Int64
from plotly.subplots import make_subplots

from cillab.figures.clouds import ellipse, outlines, spaced
from cillab.figures.palette import (
    ACCENT,
    CURSOR,
    GROUND,
    MUTED,
    SECOND,
    THIRD,
    Theme,
    cursor,
    see_through,
    task_colour,
    task_mark,
)
from cillab.figures.panels import Cell, finished, line, marks, missing, outline, reach, scalars, title
from cillab.figures.picture import Picture
from cillab.figures.registry import Nothing, figure
from cillab.figures.words import after, class_labels, number, percent, place, places, task_axis
from cillab.plane import along, box
from cillab.runs import Run, Snapshot

_MEAN, _FACTOR = "internals/gaussian/mean", "internals/gaussian/factor"
_BEFORE, _AFTER = "gaussian/w2/memory_before", "gaussian/w2/memory"
_LETTER, _LINE = 0.0125, 0.065  # of a label, as shares of the plane where it is narrowest: 450 pixels
_DRAWN = 5  # classes drawn in the plane: more outlines would hide each other
# Kind of Gaussian, name on screen, colours, dash, mark of its mean.
_KINDS = (
    ("before", "stored", MUTED, "dot", "circle-open"),
    ("calibrated", "calibrated", ACCENT, "solid", "circle"),
    ("now", "measured now", SECOND, "dash", "x"),
)


@dataclass(frozen=True, eq=False)
class Cloud:
    """One old class in the plane: centres, and outlines at one standard deviation where a spread is known."""

    label: str
    task: int
    centres: Mapping[str, Float64[np.ndarray, "2"]]
    shapes: Mapping[str, Float64[np.ndarray, "point 2"]]


@dataclass(frozen=True, eq=False)
class Transport:
    """W2 of stored Gaussians to the images of now, the map's eigenvalues, and the classes that moved most."""

    steps: tuple[str, ...]
    step: str
    tasks: int
    clouds: tuple[Cloud, ...]  # of `step`; empty in the first task
    reach: Float64[np.ndarray, "2 2"]
    before: Float64[np.ndarray, " old"]  # W2 at `step`, old classes
    after: Float64[np.ndarray, " old"]
    task_of_class: Int64[np.ndarray, " old"]
    labels: tuple[str, ...]  # of old classes
    series: Mapping[str, Float64[np.ndarray, " step"]]  # before, after, improved; of the run's own scalars
    eigenvalues: Float64[np.ndarray, " direction"] | None  # descending


def _old(shot: Snapshot) -> Int64[np.ndarray, " old"]:
    """Rows of the classes that had a Gaussian before this task."""
    if f"{_MEAN}_before" not in shot:
        return np.zeros(0, np.int64)
    return np.flatnonzero(np.isfinite(shot[f"{_MEAN}_before"]).all(axis=1))


def read_transport(run: Run, step: str | int | None = None) -> Transport:
    """What the steps recorded of calibration; nothing where the learner keeps no Gaussians in the space of features."""
    chosen = run.resolve(step)
    shot = run.snapshot(chosen)
    if _MEAN not in shot or shot[_MEAN].shape != shot["means/now"].shape:
        raise Nothing
    old = _old(shot)
    axes = _axes(run)
    none = np.full(len(shot["seen"]), np.nan)
    labels = class_labels(run, np.asarray(shot["seen"]).tolist())
    clouds = _clouds(shot, old, labels, axes)
    drawn = [p for c in clouds for p in (*c.shapes.values(), *(centre[None] for centre in c.centres.values()))]
    values = shot.get("internals/transport/eigenvalues")
    return Transport(
        run.steps, chosen, len(run.info.tasks), clouds, box(np.concatenate(drawn or [np.eye(2)]), 0.06),
        np.asarray(shot.get(_BEFORE, none), np.float64)[old], np.asarray(shot.get(_AFTER, none), np.float64)[old],
        np.asarray(shot["task_of_class"], np.int64)[old], tuple(labels[at] for at in old),
        scalars(run, {
            "before": "transport/w2/memory_before", "after": "transport/w2/memory", "improved": "transport/improved",
        }),
        None if values is None or not len(old) else np.sort(np.asarray(values, np.float64))[::-1],
    )  # fmt: skip


def _axes(run: Run) -> Float64[np.ndarray, "2 feature"]:
    """Across: where old classes moved most, over all steps; up: where classes differ most beside that."""
    moved, means = [], []
    for one in spaced(run.steps):
        shot = run.snapshot(one)
        if _MEAN in shot and shot[_MEAN].shape == shot["means/now"].shape:
            old = _old(shot)
            means.append(np.asarray(shot["means/now"], np.float64))
            if len(old):
                moved.append(means[-1][old] - np.asarray(shot[f"{_MEAN}_before"], np.float64)[old])
    moves = np.concatenate(moved) if moved else np.zeros((1, means[-1].shape[1]))
    return along(moves, np.concatenate(means))


def _clouds(
    shot: Snapshot, old: Int64[np.ndarray, " old"], labels: list[str], axes: Float64[np.ndarray, "2 feature"]
) -> tuple[Cloud, ...]:
    """The old classes whose images moved furthest from where they were stored, relative to their spread."""
    if not len(old):
        return ()
    means = {
        "before": np.asarray(shot[f"{_MEAN}_before"], np.float64), "calibrated": np.asarray(shot[_MEAN], np.float64),
        "now": np.asarray(shot["means/now"], np.float64),
    }  # fmt: skip
    factors = {"before": shot.get(f"{_FACTOR}_before"), "calibrated": shot.get(_FACTOR)}
    with np.errstate(invalid="ignore", divide="ignore"):
        far = np.linalg.norm(means["now"][old] - means["before"][old], axis=1) / np.sqrt(shot["nc/within"][old])
    shared, found = _pooled(shot, axes), []
    for at in old[np.argsort(-np.nan_to_num(far), kind="stable")[:_DRAWN]].tolist():
        spreads = {k: np.asarray(f[at], np.float64) @ axes.T for k, f in factors.items() if f is not None}
        if shared is not None and np.isfinite(shot["nc/within"][at]):
            spreads["now"] = shared * np.sqrt(float(shot["nc/within"][at]))
        centres = {kind: axes @ mean[at] for kind, mean in means.items()}
        shapes = {kind: ellipse(centres[kind], spread) for kind, spread in spreads.items()}
        found.append(Cloud(labels[at], int(shot["task_of_class"][at]), centres, shapes))
    return tuple(found)


def _pooled(shot: Snapshot, axes: Float64[np.ndarray, "2 feature"]) -> Float[np.ndarray, "rank 2"] | None:
    """Shape of the spread inside classes now, pooled over them, for a class whose variance adds up to 1."""
    directions, spectrum = shot.get("nc/axes_within"), shot.get("nc/spectrum_within")
    if directions is None or spectrum is None:
        return None
    values = np.asarray(spectrum, np.float64).clip(min=0)
    if not values.sum() > 0:
        return None
    roots = np.sqrt(values[: len(directions)] / values.sum())
    return (roots[:, None] * np.asarray(directions, np.float64)) @ axes.T


@figure(
    title="Stored, calibrated and measured Gaussians",
    page="text_transport",
    needs=("internals/gaussian/mean",),
    lacks="This learner keeps no Gaussians of old classes in the space of its features.",
    quantities=("bures_wasserstein",),
)
def transport(run: Run, step: str | int | None = None, *, theme: Theme = "light") -> Picture:
    """Calibration of the stored Gaussians of a run at `step` (default: the last), and W2 over its steps.

    The plane, W2 class by class and over the steps, and the eigenvalues of the map.
    """
    data = read_transport(run, step)
    figure, cells = _frame()
    large, *small = cells
    _draw_plane(figure, data, theme)
    _draw_classes(figure, data, small[0], theme)
    _draw_steps(figure, data, small[1], theme)
    _draw_eigenvalues(figure, data, small[2], theme)
    title(figure, large, f"old classes {after(data.step)}", "across: where they moved most", theme)
    title(figure, small[0], "change of W2 by calibration", "by class; below the line: nearer", theme)
    title(figure, small[1], "W2 to the images of now", "mean over old classes \N{RIGHTWARDS ARROW} 0", theme)
    title(figure, small[2], "eigenvalues of the map A", "1 = as wide as before", theme)
    finished(figure, theme, "transport", 3, height=690)
    figure.update_layout(legend={"y": 1.05})
    cursor(figure, place(data.step), theme, rows=[small[1]])
    return Picture(figure, _sentence(data), (
        f"The up to {_DRAWN} old classes are drawn whose images moved furthest for their spread, at one standard"
        " deviation; the plane is fitted once on all steps, its scale is that of the step.",
        "Stored and calibrated: what the learner keeps, from its eight leading directions. Measured now: training"
        " images of the class through the encoder of now (an oracle probe); their spread has the size of the class"
        " and the shape pooled over all classes.",
        "W2: Wasserstein distance of two Gaussians, in the unit of the features. A few images span few directions, so"
        " it does not fall to 0 even for a Gaussian that is right: read the difference.",
    ))  # fmt: skip


def _frame() -> tuple[go.Figure, list[Cell]]:
    figure = make_subplots(
        3, 2, column_widths=[0.58, 0.42], specs=[[{"rowspan": 3}, {}], [None, {}], [None, {}]], vertical_spacing=0.13,
        horizontal_spacing=0.09,
    )  # fmt: skip
    return figure, [(1, 1), (1, 2), (2, 2), (3, 2)]


def _draw_plane(figure: go.Figure, data: Transport, theme: Theme) -> None:
    if not data.clouds:
        missing(figure, (1, 1), "no class is old yet: calibration begins with the second task")
    for kind, shown, colours, dash, mark in _KINDS:
        shapes = [cloud.shapes[kind] for cloud in data.clouds if kind in cloud.shapes]
        if shapes:
            outline(figure, outlines(shapes), f"{shown}, outline", colours[theme], width=1.8, dash=dash,
                    legendgroup=kind)  # fmt: skip
        if data.clouds:
            centres = np.stack([cloud.centres[kind] for cloud in data.clouds])
            look = {"symbol": mark, "size": 7, "color": colours[theme], "line": {"width": 1.3}}
            marks(figure, centres, shown, look, cell=(1, 1), legendgroup=kind, hover=f"%{{customdata}}<br>{shown}",
                  customdata=[f"{cloud.label}, task {cloud.task + 1}" for cloud in data.clouds])  # fmt: skip
    for cloud in _apart(data):
        x, y = _top(cloud)
        figure.add_annotation(
            x=float(x), y=float(y), text=cloud.label, yanchor="bottom", yshift=2, font={"size": 11},
            bgcolor=see_through(GROUND[theme], 0.75), borderpad=1, row=1, col=1,
        )  # fmt: skip
    figure.update_xaxes(range=data.reach[0].tolist(), showticklabels=False, constrain="domain", row=1, col=1)
    figure.update_yaxes(range=data.reach[1].tolist(), showticklabels=False, scaleanchor="x", row=1, col=1)


def _top(cloud: Cloud) -> Float64[np.ndarray, "2"]:
    """The highest point of its outlines, where its label stands."""
    points = [*cloud.shapes.values()] or [cloud.centres["now"][None]]
    every = np.concatenate(points)
    return every[every[:, 1].argmax()]


def _apart(data: Transport) -> list[Cloud]:
    """Classes whose labels do not print over each other; the others tell their name when pointed at."""
    kept: list[Cloud] = []
    (left, right), (bottom, top) = data.reach
    for cloud in data.clouds:
        for other in kept:
            x, y = np.abs(_top(cloud) - _top(other))
            letters = (len(cloud.label) + len(other.label)) / 2
            if x < (_LETTER * letters + 0.02) * (right - left) and y < _LINE * (top - bottom):
                break
        else:
            kept.append(cloud)
    return kept


def _draw_classes(figure: go.Figure, data: Transport, cell: Cell, theme: Theme) -> None:
    change = data.after - data.before
    known = np.isfinite(change)
    figure.update_xaxes(title_text="W2 as stored", row=cell[0], col=cell[1])
    if not known.any():
        missing(figure, cell)
        return
    edge = {"color": see_through(CURSOR[theme], 0.5), "width": 1, "dash": "dash"}
    figure.add_hline(y=0, line=edge, name="as far as before", row=cell[0], col=cell[1])  # pyright: ignore
    for task in np.unique(data.task_of_class).tolist():
        mine = np.flatnonzero(known & (data.task_of_class == task))
        line(figure, data.before[mine], change[mine], f"classes of task {task + 1}", task_colour(task, theme),
             cell=cell, mark=task_mark(task), mode="markers", legend=False, customdata=[data.labels[at] for at in mine],
             where=f"%{{customdata}}, task {task + 1}<br>stored %{{x:.4g}}", form="change %{y:+.3g}")  # fmt: skip
    figure.update_xaxes(range=reach(data.before[known]), row=cell[0], col=cell[1])
    figure.update_yaxes(range=reach(change[known], low=0.0, high=0.0, pad=0.12), row=cell[0], col=cell[1])


def _draw_steps(figure: go.Figure, data: Transport, cell: Cell, theme: Theme) -> None:
    x = places(data.steps).astype(np.float32)
    looks = (("before", "stored", MUTED, "dot", "circle-open"), ("after", "calibrated", ACCENT, "solid", "circle"))
    for name, shown, colours, dash, mark in looks:
        there = np.isfinite(data.series[name])
        share = np.nan_to_num(data.series["improved"][there], nan=-1)
        more = [f"<br>{percent(v)} of old classes nearer" if v >= 0 and name == "after" else "" for v in share]
        line(figure, x[there], data.series[name][there], f"W2, {shown}", colours[theme], cell=cell, dash=dash,
             mark=mark, legend=False, customdata=more, form="%{y:.4g}</b>%{customdata}<b>")  # fmt: skip
    figure.update_xaxes(**task_axis(data.tasks), row=cell[0], col=cell[1])
    figure.update_yaxes(range=reach(data.series["before"], data.series["after"], pad=0.2), row=cell[0], col=cell[1])


def _draw_eigenvalues(figure: go.Figure, data: Transport, cell: Cell, theme: Theme) -> None:
    figure.update_xaxes(title_text="direction", row=cell[0], col=cell[1])
    if data.eigenvalues is None:
        missing(figure, cell, "no map yet")
        return
    count = len(data.eigenvalues)
    line(figure, np.arange(1, count + 1), data.eigenvalues, "eigenvalues of A", THIRD[theme], cell=cell, mark="",
         legend=False, where="direction %{x}", form="stretched by %{y:.4g}")  # fmt: skip
    edge = {"color": see_through(CURSOR[theme], 0.5), "width": 1, "dash": "dash"}
    figure.add_hline(y=1, line=edge, name="unchanged", row=cell[0], col=cell[1])  # pyright: ignore
    figure.update_xaxes(range=[0, count + 1], row=cell[0], col=cell[1])
    figure.update_yaxes(range=reach(data.eigenvalues, low=0.95, high=1.05), row=cell[0], col=cell[1])


def _sentence(data: Transport) -> str:
    if not len(data.labels):
        return f"{after(data.step).capitalize()} no stored Gaussian is old: calibration begins with the second task."
    known = np.isfinite(data.before) & np.isfinite(data.after)
    if not known.any():
        return (
            f"{after(data.step).capitalize()}, the distance of stored Gaussians to the images of now was not measured."
        )
    before, later = data.before[known], data.after[known]
    nearer = int((later < before).sum())
    text = (
        f"{after(data.step).capitalize()}, calibration brought {nearer} of {len(before)} old Gaussians nearer to the"
        f" images of now; W2 went from {number(float(before.mean()))} to {number(float(later.mean()))} on average"
    )
    if data.eigenvalues is not None:
        low, high = float(data.eigenvalues[-1]), float(data.eigenvalues[0])
        text += f". The map stretches directions by {number(low)} to {number(high)}"
    return f"{text}."
