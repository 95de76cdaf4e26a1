"""Numbers as people read them, and steps as places on an axis. Fractions come in, percent goes out."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float64

from cillab.figures.palette import MUTED, Theme, style
from cillab.figures.picture import Picture
from cillab.runs import Run, parse_step

MINUS = "\N{MINUS SIGN}"
SIMPLEX = f"{MINUS}1/(K{MINUS}1)"  # cosine of every pair in a simplex of K classes
ORACLE = "Train side: training images of all classes seen so far (an oracle probe; the learner may not keep them)."
NC1_GROWS = (
    "NC1 grows with the number of classes K by its definition, about in proportion, even where every class keeps its"
    " shape and its distance to the others: compare runs at the same K, or read the trace quotient."
)
MOVING_TARGET = f"The target {SIMPLEX} moves with the number of classes K; its jump at a new task is no forgetting."


def percent(fraction: float) -> str:
    """0.873 -> `87.3 %`; not a number -> `not measured`."""
    return f"{100 * fraction:.1f} %" if math.isfinite(fraction) else "not measured"


def points(fraction: float) -> str:
    """0.873 -> `87`, where the sign has no room and the axis has it."""
    return f"{100 * fraction:.0f}"


def number(value: float) -> str:
    """Three significant digits."""
    if not math.isfinite(value):
        return "not measured"
    if 1e3 <= abs(value) < 1e4:
        return f"{value:,.0f}".replace("-", MINUS)
    if value == 0 or 1e-3 <= abs(value) < 1e3:
        return f"{value:.3g}".replace("-", MINUS)
    return f"{value:.2e}".replace("-", MINUS)


def moved(name: str, before: float, after: float, shown=number) -> str:
    """`NC1 rose from 0.2 to 0.5`, from what is shown, so that a change below the digits is none."""
    first, last = shown(before), shown(after)
    if not (math.isfinite(before) or math.isfinite(after)):
        return f"{name} was not measured"
    if first == last:
        return f"{name} stayed at {last}"
    if not math.isfinite(before):
        return f"{name} is {last}"
    if not math.isfinite(after):
        return f"{name} was {first} and is no longer measured"
    return f"{name} {'rose' if after > before else 'fell'} from {first} to {last}"


def plural(count: int, noun: str) -> str:
    """`1 image`, `2 images`, `2 classes`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "es" if noun.endswith("s") else "s")


def after(step: str) -> str:
    """`after task 3`, counted from 1 on screen."""
    task, epoch = parse_step(step) or (0, None)
    return f"after task {task + 1}" if epoch is None else f"in task {task + 1}, epoch {epoch + 1}"


def end_of(step: str) -> str:
    """`the end of task 3`."""
    task, epoch = parse_step(step) or (0, None)
    return f"the end of task {task + 1}" if epoch is None else f"epoch {epoch + 1} of task {task + 1}"


def place(step: str) -> float:
    """Where a step stands on a task axis: the end of task t (counted from 0) at t + 1, its epochs before that.

    The number of epochs to come is not known while a run goes on, so epoch e stands at t + (e + 1) / (e + 2).
    """
    task, epoch = parse_step(step) or (0, None)
    return float(task + 1) if epoch is None else task + (epoch + 1) / (epoch + 2)


def places(steps: Sequence[str]) -> Float64[np.ndarray, " step"]:
    """`place` of every step."""
    return np.array([place(step) for step in steps], np.float64)


def task_axis(tasks: int) -> dict[str, Any]:
    """An axis over the tasks of the whole stream, the same at every step."""
    every = max(1, math.ceil(tasks / 12))
    ticks = list(range(1, tasks + 1, every))
    return {
        "title": {"text": "task"},
        "range": [0.6, tasks + 0.4],
        "tickvals": ticks,
        "ticktext": [str(t) for t in ticks],
    }


def class_labels(run: Run, classes: Sequence[int]) -> list[str]:
    """Names of classes, made unique with the id where two classes share one."""
    names = [run.info.name_of(c) for c in classes]
    times = Counter(names)
    return [name if times[name] == 1 else f"{name} ({c})" for name, c in zip(names, classes, strict=True)]


def images_note(run: Run) -> str:
    """How many images a class the train side has, if stated."""
    per_class = run.protocol.train_per_class
    return f"{plural(per_class, 'image')} a class; few images bias NC1 down." if per_class else "Images a class: all."


def empty(name: str, reason: str, theme: Theme) -> Picture:
    """An empty state that says why there is nothing to see."""
    figure = style(go.Figure(), theme, name=name, height=200, xaxis={"visible": False}, yaxis={"visible": False})
    figure.add_annotation(
        x=0.5, y=0.5, xref="paper", yref="paper", text=reason, font={"size": 14, "color": MUTED[theme]}
    )
    return Picture(figure, reason)


def task_grid(figure: go.Figure, bounds: Sequence[float], size: int, colour: str, **cell: int) -> None:
    """Thin lines between the tasks of a square matrix of classes."""
    for bound in bounds:
        for ends in ((bound, -0.5, bound, size - 0.5), (-0.5, bound, size - 0.5, bound)):
            x0, y0, x1, y1 = ends
            figure.add_shape(
                type="line", x0=x0, y0=y0, x1=x1, y1=y1, line={"color": colour, "width": 1}, name="task", **cell
            )
