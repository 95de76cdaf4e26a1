"""Confusion: what the images of each class are taken for."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Int64
from plotly.colors import sequential

from cillab.figures.coarse import CLASSES_UP_TO
from cillab.figures.cosine import blocks
from cillab.figures.palette import Theme, see_through, style
from cillab.figures.picture import Picture
from cillab.figures.registry import figure
from cillab.figures.words import after, class_labels, empty, percent, plural, task_grid
from cillab.runs import Run

By = Literal["auto", "class", "task"]


@dataclass(frozen=True, eq=False)
class Confusion:
    """Counts of test images: rows = true class, columns = predicted class, in the order of the stream."""

    step: str
    counts: Int64[np.ndarray, "cls cls"]
    task_of_class: Int64[np.ndarray, " cls"]
    labels: tuple[str, ...]

    def by_task(self) -> "Confusion":
        """The same counts with the classes of each task added up."""
        tasks = np.unique(self.task_of_class)
        member = (self.task_of_class[:, None] == tasks[None]).astype(np.int64)
        names = tuple(f"task {task + 1}" for task in tasks)
        return Confusion(self.step, member.T @ self.counts @ member, tasks, names)


def read_confusion(run: Run, step: str | int | None = None) -> Confusion:
    """The counts of one step."""
    shot = run.snapshot(run.resolve(step))
    tasks = np.asarray(shot["task_of_class"], np.int64)
    return Confusion(
        shot.id, np.asarray(shot["confusion"], np.int64), tasks, tuple(class_labels(run, shot["seen"].tolist()))
    )


def _root_scale() -> list[tuple[float, str]]:
    """Colours by the square root of the share: errors of a few percent would be invisible otherwise."""
    colours = sequential.Cividis
    return [((index / (len(colours) - 1)) ** 2, colour) for index, colour in enumerate(colours)]


def draw_confusion(data: Confusion, by: By = "auto", theme: Theme = "light") -> Picture:
    """Shares of the images of the true class; every row adds up to 100 %."""
    shown = data.by_task() if by == "task" or (by == "auto" and len(data.counts) > CLASSES_UP_TO) else data
    total = shown.counts.sum(axis=1, keepdims=True)
    if not total.sum():
        return empty("confusion", "No test image has been classified yet.", theme)
    share = np.where(total > 0, shown.counts / np.maximum(total, 1), np.nan).astype(np.float32)
    figure = go.Figure(
        go.Heatmap(
            z=share,
            x=list(shown.labels),
            y=list(shown.labels),
            zmin=0,
            zmax=1,
            colorscale=_root_scale(),
            customdata=shown.counts.astype(np.int32),
            hovertemplate="%{y}<br>taken for %{x}<br><b>%{z:.1%}</b>, %{customdata} images<extra></extra>",
            colorbar={"tickformat": ".0%", "tickvals": [0, 0.04, 0.25, 1]},
        )
    )
    many = shown is not data and by == "auto"
    said = f" {len(data.counts):,} classes are too many to draw: they are added up by task." if many else ""
    style(figure, theme, name="confusion", height=440, margin={"t": 16})
    bounds, ticks, names = blocks(shown.task_of_class)
    if shown is data:
        task_grid(figure, bounds, len(share), see_through("#FFFFFF", 0.35))
    axis = {"tickvals": ticks, "ticktext": names, "showgrid": False, "type": "category", "constrain": "domain"}
    figure.update_xaxes(title_text="predicted class, by task", **axis)
    figure.update_yaxes(title_text="true class, by task", autorange="reversed", scaleanchor="x", **axis)
    return Picture(
        figure,
        _sentence(data) + said,
        ("Test images of all classes seen; each row adds up to 100 %. Colour follows the square root of the share.",),
    )


def _sentence(data: Confusion) -> str:
    wrong = data.counts - np.diag(np.diag(data.counts))
    total, errors = int(data.counts.sum()), int(wrong.sum())
    start = f"{after(data.step).capitalize()}, {percent(1 - errors / total)} of {plural(total, 'test image')} are right"
    if not errors:
        return start + "."
    a, b = divmod(int(wrong.argmax()), len(wrong))
    newest = data.task_of_class == data.task_of_class.max()
    most, every = int(wrong[a, b]), int(data.counts[a].sum())
    text = f"{start}; {most} of {every} images of {data.labels[a]} are taken for {data.labels[b]}"
    if newest.all():
        return text + "."
    return (
        f"{text}, and {percent(float(wrong[:, newest].sum() / errors))} of the errors name a class of the newest task."
    )


@figure(
    title="Confusion of classes",
    page="drift",
    needs=("confusion",),
    quantities=("prediction_bias",),
    width=640,
)
def confusion(run: Run, step: str | int | None = None, *, by: By = "auto", theme: Theme = "light") -> Picture:
    """Confusion matrix of a run at `step` (default: the last), by class or added up by task."""
    return draw_confusion(read_confusion(run, step), by, theme)
