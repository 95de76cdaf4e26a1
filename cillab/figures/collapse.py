"""NC1 to NC4 over the steps of a run, on training and on test images."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float64

from cillab.figures.palette import ACCENT, ROLES, SECOND, Theme, cursor, style
from cillab.figures.panels import grid, line, log_axis, missing, title as write, with_notes
from cillab.figures.picture import Picture
from cillab.figures.registry import figure
from cillab.figures.words import (
    MOVING_TARGET,
    NC1_GROWS,
    ORACLE,
    after,
    end_of,
    images_note,
    moved,
    number,
    percent,
    place,
    places,
    task_axis,
)
from cillab.runs import Run

# Panel: title, value under full collapse, and its scalars with their names on screen.
PANELS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("NC1", "0, log scale", {"nc1": "within / between"}),
    ("NC2", "0", {"equinorm": "norms", "equiangular": "angles"}),
    ("NC3", "0", {"nc3": "head against means"}),
    ("NC4", "100 %", {"nc4": "head agrees with nearest mean"}),
)
_SIDES = (("train", "solid", "circle"), ("test", "dot", "circle-open"))  # here colour tells lengths from angles


@dataclass(frozen=True, eq=False)
class Collapse:
    """Scalars over steps, by `train/nc1` and so on; NaN where not measured."""

    steps: tuple[str, ...]
    tasks: int  # of the whole stream
    series: Mapping[str, Float64[np.ndarray, " step"]]
    notes: tuple[str, ...] = ()


def read_collapse(run: Run) -> Collapse:
    """The collapse scalars of a run, as far as it has come."""
    steps, metrics = run.steps, run.metrics()
    names = [f"{side}/{name}" for side, _, _ in _SIDES for _, _, scalars in PANELS for name in scalars]
    series = {name: metrics.over(f"nc/{name}", steps) for name in names}
    return Collapse(steps, len(run.info.tasks), series, (ORACLE, images_note(run), MOVING_TARGET, NC1_GROWS))


def line_hue(title: str, name: str, side: str) -> Mapping[Any, str]:
    """Hue of a line by theme: that of its side, or in a panel of two scalars that of the scalar."""
    scalars = next(scalars for one, _, scalars in PANELS if one == title)
    return ROLES[side] if len(scalars) == 1 else (ACCENT, SECOND)[list(scalars).index(name)]


def _panel(figure: go.Figure, index: int, cell: tuple[int, int], data: Collapse, theme: Theme) -> None:
    title, goal, scalars = PANELS[index]
    found = []
    for name, shown in scalars.items():
        for side, dash, mark in _SIDES:
            y = data.series[f"{side}/{name}"]
            y = np.where(y > 0, y, np.nan) if name == "nc1" else y  # zero has no place on a log axis
            found.append(y[np.isfinite(y)])
            colour = line_hue(title, name, side)[theme]
            whose = "test images" if side == "test" else "training images"
            line(figure, places(data.steps), y, whose, colour, cell=cell, dash=dash, mark=mark,
                 width=2.2 if side == "train" else 1.5, legend=index == 0, where=f"{title} {shown}<br>at task %{{x}}",
                 form="%{y:.1%}" if name == "nc4" else "%{y:.3g}")  # fmt: skip
    hues = {name: line_hue(title, name, "train")[theme] for name in scalars}
    names = ", ".join(f"<span style='color:{hues[name]}'>{shown}</span>" for name, shown in scalars.items())
    said = f"{title}</b>  {names}<b>" if len(scalars) > 1 else title
    write(figure, cell, said, f"\N{RIGHTWARDS ARROW} {goal}", theme)
    values = np.concatenate(found)
    if not len(values):
        missing(figure, cell)
    figure.update_yaxes(**_range(title, values), row=cell[0], col=cell[1])


def _range(title: str, values: np.ndarray) -> dict[str, Any]:
    """The axis of a panel from all its values over the run, so that it does not move with the step."""
    if not len(values):
        return {"range": [0, 1]}
    if title == "NC1":
        low, high = np.log10(values.min()) - 0.15, np.log10(values.max()) + 0.15
        return log_axis(low, high)
    if title == "NC4":
        low = min(float(values.min()), 0.9)
        return {"range": [low - 0.05 * (1 - low), 1 + 0.06 * (1 - low)], "tickformat": ".0%"}
    return {"range": [0, 1.12 * max(float(values.max()), 0.05)]}


def collapse_sentence(data: Collapse, step: str) -> str:
    """How NC1, the angles and NC4 went from the first step to this one."""
    index = data.steps.index(step)
    one = {name: values[index] for name, values in data.series.items()}
    if index == 0:
        text = f"{after(step).capitalize()}: NC1 {number(one['train/nc1'])}, spread of the angles"
        return f"{text} {number(one['train/equiangular'])}, NC4 {percent(one['train/nc4'])}, on training images."
    start = {name: values[0] for name, values in data.series.items()}
    return (
        f"From {end_of(data.steps[0])} to {end_of(step)}, on training images, "
        + moved("NC1", start["train/nc1"], one["train/nc1"])
        + ", "
        + moved("the spread of the angles", start["train/equiangular"], one["train/equiangular"])
        + " and "
        + moved("NC4", start["train/nc4"], one["train/nc4"], percent)
        + "."
    )


@figure(
    title="Neural collapse over the tasks",
    page="collapse",
    part="overview",
    needs=("nc/train/nc1",),
    quantities=("nc1_pinv", "equinorm", "equiangularity", "nc3", "nc4"),
)
def collapse(run: Run, step: str | int | None = None, *, theme: Theme = "light", columns: int = 2) -> Picture:
    """NC1 to NC4 of a run over its steps, with a cursor at `step` (default: the last).

    Four small plots on one task axis: training images solid, test images dotted.
    """
    data, step = read_collapse(run), run.resolve(step)
    rows = -(-len(PANELS) // columns)
    figure, cells = grid(len(PANELS), columns)
    for index, cell in enumerate(cells):
        _panel(figure, index, cell, data, theme)
    style(figure, theme, name="collapse", height=60 + 220 * rows, margin={"t": 72}, legend={"y": 1.1})
    figure.update_xaxes(**task_axis(data.tasks))
    for row, column in cells[:-columns]:
        figure.update_xaxes(title_text="", row=row, col=column)
    cursor(figure, place(step), theme, rows=cells)
    return with_notes(Picture(figure, collapse_sentence(data, step), data.notes), run, step)
