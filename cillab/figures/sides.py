"""Collapse on training images against collapse on test images: is what was fitted what is asked?"""

import numpy as np

from cillab.figures.palette import ROLES, Theme, cursor, see_through
from cillab.figures.panels import (
    OverSteps,
    finished,
    grid,
    line,
    log_reach,
    missing,
    notes_of,
    reach,
    scalars,
    share_reach,
    title,
)
from cillab.figures.picture import Picture
from cillab.figures.registry import figure
from cillab.figures.words import ORACLE, after, images_note, number, percent, place, places, task_axis
from cillab.runs import Run

# Scalar, title, what collapse would be, how its axis runs.
_PANELS = (
    ("nc1_quotient", "NC1, trace quotient", "0, log scale", "log"),
    ("cdnv", "CDNV", "0, log scale", "log"),
    ("equinorm", "NC2, lengths", "0", "zero"),
    ("max_angle", "NC2, angle off the simplex", "0", "zero"),
    ("nc3", "NC3", "0", "zero"),
    ("nc4", "NC4", "100 %", "share"),
)
_SIDES = (
    ("train", "training images", ROLES["train"], "solid", "circle"),
    ("test", "test images", ROLES["test"], "dot", "diamond"),
)


@figure(
    title="Training side and test side",
    page="collapse",
    needs=("nc/train/nc1_quotient",),
    quantities=("nc1_quotient", "cdnv", "equinorm", "maximal_angle", "nc3", "nc4"),
)
def sides(run: Run, step: str | int | None = None, *, theme: Theme = "light") -> Picture:
    """Six measures of collapse of a run on both sides, with a cursor at `step` (default: the last).

    Six panels, two lines each, with the gap between them shaded.
    """
    names = {f"{side}/{name}": f"nc/{side}/{name}" for side, *_ in _SIDES for name, *_ in _PANELS}
    notes = notes_of(
        run, run.resolve(step), ORACLE, images_note(run),
        "Test side: test images of the same classes, around their own means. The shaded gap is what training images"
        " alone would hide.",
    )  # fmt: skip
    data = OverSteps.of(run, step, scalars(run, names), *notes)
    figure, cells = grid(len(_PANELS), 3, horizontal_spacing=0.07, vertical_spacing=0.18)
    x = places(data.steps).astype(np.float32)
    for index, (cell, (name, shown, goal, kind)) in enumerate(zip(cells, _PANELS, strict=True)):
        both = [data.values[f"{side}/{name}"] for side, *_ in _SIDES]
        both = [np.where(y > 0, y, np.nan) for y in both] if kind == "log" else both  # zero has no place on a log axis
        known = np.isfinite(both[0]) & np.isfinite(both[1])
        if known.sum() > 1:
            line(figure, np.concatenate([x[known], x[known][::-1]]),
                 np.concatenate([both[0][known], both[1][known][::-1]]), "gap", "rgba(0,0,0,0)", cell=cell, mark="",
                 width=0.0, legend=False, fill="toself", fillcolor=see_through(ROLES["test"][theme], 0.1),
                 hovertemplate=None, hoverinfo="skip")  # fmt: skip
        for y, (_, words, colour, dash, mark) in zip(both, _SIDES, strict=True):
            form = "%{y:.1%}" if kind == "share" else "%{y:.3g}"
            line(figure, x, y, words, colour[theme], cell=cell, dash=dash, mark=mark, legend=index == 0, form=form,
                 where=f"{shown}<br>at task %{{x}}")  # fmt: skip
        title(figure, cell, shown, f"\N{RIGHTWARDS ARROW} {goal}", theme)
        if not any(np.isfinite(y).any() for y in both):
            missing(figure, cell, "no head in the space of the features" if name == "nc3" else "not measured")
        axis = {
            "zero": lambda *both: {"range": reach(*both, low=0.0)},
            "share": share_reach,
            "log": lambda *both: log_reach(np.concatenate(both)),
        }[kind]
        figure.update_yaxes(**axis(*both), row=cell[0], col=cell[1])
    finished(figure, theme, "sides", 2, height=520)
    figure.update_xaxes(**task_axis(data.tasks))
    for row, column in cells[:3]:
        figure.update_xaxes(title_text="", row=row, col=column)
    cursor(figure, place(data.step), theme, rows=cells)
    return Picture(figure, _sentence(data), data.notes)


def _sentence(data: OverSteps) -> str:
    train, test, agree, asked = (data.now(f"{side}/{name}") for name in ("nc1_quotient", "nc4") for side, *_ in _SIDES)
    if not (np.isfinite(train) and np.isfinite(test)):
        return f"{after(data.step).capitalize()}, the two sides were not both measured."
    text = f"{after(data.step).capitalize()}, NC1 (trace quotient) is {number(train)} on training images and"
    text += f" {number(test)} on test images"
    text += f", {number(test / train)} times as much" if train > 0 else ""
    return f"{text}; NC4 is {percent(agree)} and {percent(asked)}."
