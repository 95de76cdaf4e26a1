"""Images against class names in the joint space: how far apart the two clouds lie, and which name is nearest."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, Float64, Int64

from cillab.figures.clouds import ellipse, outlines, spaced
from cillab.figures.palette import ACCENT, MUTED, SECOND, TEXT, THIRD, Theme, cursor, see_through, task_colour
from cillab.figures.panels import finished, grid, line, marks, outline, reach, title
from cillab.figures.picture import Picture
from cillab.figures.registry import Nothing, figure
from cillab.figures.words import after, class_labels, number, percent, place, places, task_axis
from cillab.geometry.rows import unit
from cillab.plane import along, box
from cillab.runs import Run, Snapshot

_LEARNT, _FROZEN, _MEAN, _FACTOR = (
    f"internals/{name}" for name in ("text/prototypes", "text/frozen", "gaussian/mean", "gaussian/factor")
)
_CLASSES_WITH_LINES = 60  # beyond, lines between a class and its name cover everything
_CLASSES_WITH_OUTLINES = 40


@dataclass(frozen=True, eq=False)
class ModalityGap:
    """Series over the steps, and one step in the plane. Everything is on the unit sphere, where cosines are read."""

    steps: tuple[str, ...]
    step: str
    tasks: int
    series: Mapping[str, Float64[np.ndarray, " step"]]  # learnt, frozen: distance of centres; own, other: cosines
    images: Float64[np.ndarray, "cls 2"]  # class means
    learnt: Float64[np.ndarray, "cls 2"]
    frozen: Float64[np.ndarray, "cls 2"]
    shapes: tuple[Float64[np.ndarray, "point 2"], ...]  # outlines of the stored Gaussians, one a class, or none
    reach: Float64[np.ndarray, "2 2"]  # ranges over all steps
    nearest: float  # share of classes whose own name is the nearest to their mean
    task_of_class: Int64[np.ndarray, " cls"]
    labels: tuple[str, ...]


def gap(images: Float[np.ndarray, "row feature"], texts: Float[np.ndarray, "cls feature"]) -> float:
    """|| mean of unit image vectors - mean of unit text vectors ||, from 0 to 2.

    Source: the modality gap of Liang et al., NeurIPS 2022, arXiv:2203.02053.
    """
    return float(np.linalg.norm(unit(images).mean(axis=0) - unit(texts).mean(axis=0)))


def own_and_other(
    images: Float[np.ndarray, "cls feature"], texts: Float[np.ndarray, "cls feature"]
) -> tuple[Float64[np.ndarray, " cls"], Float64[np.ndarray, " cls"]]:
    """Cosine of every class mean to its own name, and to the nearest other name (NaN for a single class)."""
    cosines = unit(images) @ unit(texts).T
    own = np.diag(cosines).copy()
    np.fill_diagonal(cosines, -np.inf)
    other = cosines.max(axis=1)
    return own, np.where(np.isfinite(other), other, np.nan)


def _clouds(shot: Snapshot) -> dict[str, np.ndarray]:
    return {
        "images": unit(shot["means/now"]), "learnt": unit(shot[_LEARNT]), "frozen": unit(shot[_FROZEN]),
    }  # fmt: skip


def _fits(shot: Snapshot) -> bool:
    """Are names and images there, in one space?"""
    return _LEARNT in shot and _FROZEN in shot and shot[_LEARNT].shape == shot["means/now"].shape


def read_modality_gap(run: Run, step: str | int | None = None) -> ModalityGap:
    """Gaps and cosines of all steps, and the plane."""
    chosen = run.resolve(step)
    if not _fits(run.snapshot(chosen)):
        raise Nothing
    series = {name: np.full(len(run.steps), np.nan) for name in ("learnt", "frozen", "own", "other")}
    for row, one in enumerate(run.steps):
        shot = run.snapshot(one)
        if not _fits(shot):
            continue
        clouds = _clouds(shot)
        for name in ("learnt", "frozen"):
            series[name][row] = gap(clouds["images"], clouds[name])
        own, other = own_and_other(clouds["images"], clouds["learnt"])
        series["own"][row], series["other"][row] = own.mean(), np.nan if len(own) < 2 else other.mean()
    known = [_clouds(run.snapshot(one)) for one in spaced(run.steps) if _fits(run.snapshot(one))]
    between = np.stack([c["images"].mean(axis=0) - c["learnt"].mean(axis=0) for c in known])
    inside = [c[name] - c[name].mean(axis=0) for c in known for name in ("images", "learnt")]
    axes = along(between, np.concatenate(inside))
    ranges = box(np.concatenate([cloud @ axes.T for c in known for cloud in c.values()]), 0.1)
    shot, clouds = run.snapshot(chosen), _clouds(run.snapshot(chosen))
    own, other = own_and_other(clouds["images"], clouds["learnt"])
    return ModalityGap(
        steps=run.steps, step=chosen, tasks=len(run.info.tasks), series=series, images=clouds["images"] @ axes.T,
        learnt=clouds["learnt"] @ axes.T, frozen=clouds["frozen"] @ axes.T, shapes=_shapes(shot, axes), reach=ranges,
        nearest=float((~(own < other)).mean()), task_of_class=np.asarray(shot["task_of_class"], np.int64),
        labels=tuple(class_labels(run, np.asarray(shot["seen"]).tolist())),
    )  # fmt: skip


def _shapes(shot: Snapshot, axes: Float64[np.ndarray, "2 feature"]) -> tuple[Float64[np.ndarray, "point 2"], ...]:
    """Stored Gaussians, scaled by the length of their mean: what they look like on the sphere, to first order."""
    if _MEAN not in shot or _FACTOR not in shot or len(shot["seen"]) > _CLASSES_WITH_OUTLINES:
        return ()
    means, factors = np.asarray(shot[_MEAN], np.float64), np.asarray(shot[_FACTOR], np.float64)
    lengths = np.maximum(np.linalg.norm(means, axis=1), 1e-12)
    return tuple(
        ellipse(axes @ mean / length, factor @ axes.T / length)
        for mean, factor, length in zip(means, factors, lengths, strict=True)
    )


@figure(
    title="Images against names",
    page="text_transport",
    part="gap",
    needs=("internals/text/prototypes", "internals/text/frozen"),
    lacks="This learner keeps no text prototypes.",
)
def modality_gap(run: Run, step: str | int | None = None, *, theme: Theme = "light") -> Picture:
    """Images against class names of a run over its steps, and in a fixed plane at `step` (default: the last).

    Left the gap and the cosines over the steps, right both clouds in a plane that holds the gap.
    """
    data = read_modality_gap(run, step)
    figure, cells = grid(
        3, 2, specs=[[{}, {"rowspan": 2}], [{}, None]], column_widths=[0.46, 0.54], vertical_spacing=0.24,
        horizontal_spacing=0.09,
    )  # fmt: skip
    upper, large, lower = cells
    looks = (
        ("learnt", "to learnt names", ACCENT[theme], "solid", "circle", upper),
        ("frozen", "to frozen names", MUTED[theme], "dot", "circle-open", upper),
        ("own", "to the own name", THIRD[theme], "solid", "square", lower),
        ("other", "to the nearest other name", SECOND[theme], "dash", "diamond", lower),
    )
    x = places(data.steps).astype(np.float32)
    for name, shown, colour, dash, mark, cell in looks:
        line(figure, x, data.series[name], shown, colour, cell=cell, dash=dash, mark=mark, form="%{y:.4f}")
    title(figure, upper, "modality gap", "distance of centres", theme)
    title(figure, lower, "cosine of class means", "", theme)
    title(figure, large, after(data.step), "across: the gap; up: where classes differ most", theme)
    _plane(figure, data, theme)
    finished(figure, theme, "modality_gap", 2, height=560)
    figure.update_layout(legend={"y": 1.07})
    for row, column in (upper, lower):
        figure.update_xaxes(**task_axis(data.tasks), row=row, col=column)
    figure.update_xaxes(title_text="", row=1, col=1)
    figure.update_yaxes(range=reach(data.series["learnt"], data.series["frozen"], low=0.0), row=1, col=1)
    figure.update_yaxes(range=reach(data.series["own"], data.series["other"]), row=2, col=1)
    cursor(figure, place(data.step), theme, rows=[upper, lower])
    kept = (
        "Ellipses are the stored Gaussians at one standard deviation, from their eight leading directions."
        if data.shapes
        else f"Stored Gaussians are drawn for up to {_CLASSES_WITH_OUTLINES} classes, where the learner keeps some."
    )
    return Picture(figure, _sentence(data), (
        "All vectors have length 1, as the scores compare them. Class means are of training images of all classes seen"
        " (an oracle probe; the learner may not keep them).",
        "The plane is fitted once on all steps, so that motion on screen is motion of features.",
        kept,
        "A gap does no harm by itself: what counts is that the own name is nearer than any other.",
    ))  # fmt: skip


def _plane(figure: go.Figure, data: ModalityGap, theme: Theme) -> None:
    cell = (1, 2)
    if len(data.labels) <= _CLASSES_WITH_LINES:
        pairs = outlines([np.stack([a, b]) for a, b in zip(data.images, data.learnt, strict=True)])
        outline(figure, pairs, "class to name", see_through(MUTED[theme], 0.28), cell=cell, width=1.0)
    thin = {"symbol": "x-thin", "size": 6, "line": {"color": MUTED[theme], "width": 1.2}}
    marks(figure, data.frozen, "frozen name", thin, cell=cell, hover="%{customdata}<br>frozen name",
          customdata=list(data.labels), showlegend=False)  # fmt: skip
    for task in np.unique(data.task_of_class).tolist():
        mine, colour = np.flatnonzero(data.task_of_class == task), task_colour(task, theme)
        if data.shapes:
            drawn = outlines([data.shapes[at] for at in mine])
            outline(figure, drawn, f"Gaussians of task {task + 1}", see_through(colour, 0.55), cell=cell, width=1.1)
        for points, what, symbol in ((data.images, "image mean", "circle"), (data.learnt, "learnt name", "diamond")):
            look = {"symbol": symbol, "size": 7, "color": colour, "line": {"color": TEXT[theme], "width": 0.4}}
            marks(
                figure, points[mine], f"{what}, task {task + 1}", look, cell=cell, showlegend=False,
                customdata=[data.labels[at] for at in mine], hover=f"%{{customdata}}, task {task + 1}<br>{what}",
            )  # fmt: skip
    for what, symbol in (("images", "circle"), ("learnt names", "diamond"), ("frozen names", "x-thin")):
        figure.add_scatter(
            x=[None], y=[None], mode="markers", name=what, row=1, col=2,
            marker={"symbol": symbol, "size": 8, "color": MUTED[theme], "line": {"color": MUTED[theme], "width": 1.2}},
        )  # fmt: skip
    figure.update_xaxes(range=data.reach[0].tolist(), showticklabels=False, constrain="domain", row=1, col=2)
    figure.update_yaxes(range=data.reach[1].tolist(), showticklabels=False, scaleanchor="x2", row=1, col=2)


def _sentence(data: ModalityGap) -> str:
    at = data.steps.index(data.step)
    learnt, frozen, own, other = (float(data.series[name][at]) for name in ("learnt", "frozen", "own", "other"))
    text = f"{after(data.step).capitalize()}, the centre of the images lies {number(learnt)} from that of the names"
    text += f" ({number(frozen)} with frozen text)" if number(learnt) != number(frozen) else ""
    text += f"; a class mean has a cosine of {number(own)} with its own name"
    text += f" and {number(other)} with the nearest other" if np.isfinite(other) else ""
    return f"{text}. The own name is the nearest for {percent(data.nearest)} of the classes."
