"""Confusion: what the images of each class are taken for."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int64
from plotly.colors import sequential

from cillab.figures.coarse import CLASSES_UP_TO, Shown, pairs
from cillab.figures.palette import Theme, see_through, style
from cillab.figures.panels import grid
from cillab.figures.picture import Picture
from cillab.figures.registry import figure
from cillab.figures.words import after, class_labels, empty, percent, plural
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
    """Confusion matrix of a run at `step` (default: the last), by class or added up by task.

    Shares of the images of the true class; every row adds up to 100 %.
    """
    data = read_confusion(run, step)
    shown = data.by_task() if by == "task" or (by == "auto" and len(data.counts) > CLASSES_UP_TO) else data
    total = shown.counts.sum(axis=1, keepdims=True)
    if not total.sum():
        return empty("confusion", "No test image has been classified yet.", theme)
    share = np.where(total > 0, shown.counts / np.maximum(total, 1), np.nan)
    figure, _ = grid(1, 1)
    pairs(figure, Shown(share, shown.task_of_class, list(shown.labels), "" if shown is data else "tasks"),
          of="%{y}<br>taken for %{x}", hover="<b>%{z:.1%}</b>, %{customdata} images", ends=(0.0, 1.0), theme=theme,
          diagonal=True, colours=_root_scale(), customdata=shown.counts.astype(np.int32), rows="true class, by task",
          lines=see_through("#FFFFFF", 0.35),
          colorbar={"tickformat": ".0%", "tickvals": [0, 0.04, 0.25, 1]})  # fmt: skip
    many = shown is not data and by == "auto"
    said = f" {len(data.counts):,} classes are too many to draw: they are added up by task." if many else ""
    style(figure, theme, name="confusion", height=440, margin={"t": 16})
    figure.update_xaxes(title_text="predicted class, by task")
    return Picture(
        figure,
        _sentence(data) + said,
        ("Test images of all classes seen; each row adds up to 100 %. Colour follows the square root of the share.",),
    )
