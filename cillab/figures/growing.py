"""A head that is made anew whenever classes come: its accuracy on the way, and how far a fixed frame has to turn."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from cillab.figures.palette import ACCENT, SECOND, Theme
from cillab.figures.panels import finished, grid, line, reach, title
from cillab.figures.picture import Picture
from cillab.figures.words import MINUS, empty, percent, plural

NOTES = (
    "Turn: cos(angle) = sqrt(K2 (K1 - 1) / (K1 (K2 - 1))) from K1 to K2 classes; it depends on their numbers only.",
)
TRACES = {"recorded": 0, "here": 2}  # where `draw_growing` with both of them has their accuracy


@dataclass(frozen=True, eq=False)
class Path:
    """Accuracy after each task of one order; `turn` is the angle in degrees by which an ETF turned when it grew."""

    classes: Float64[np.ndarray, " task"]  # classes seen
    accuracy: Float64[np.ndarray, " task"]  # of all classes seen
    turn: Float64[np.ndarray, " task"]  # NaN at the first task


def draw_growing(here: Path, recorded: Path | None, theme: Theme = "light") -> Picture:
    """Left accuracy over classes seen in this order, and in that of the run; right the turn of a growing ETF."""
    if len(here.classes) == 0:
        return empty("growing", "No task has two classes.", theme)
    figure, cells = grid(2, 2)
    shown = [("this order", here, ACCENT[theme], "solid", "circle")]
    if recorded is not None:
        shown.insert(0, ("the order of the run", recorded, SECOND[theme], "dot", "square"))
    for name, path, colour, dash, mark in shown:
        for cell, values, digits in (
            (cells[0], path.accuracy, "%{y:.1%}"),
            (cells[1], path.turn, "%{y:.2f} degrees"),
        ):
            line(figure, path.classes, values, name, colour, cell=cell, dash=dash, mark=mark, width=2.2, form=digits,
                 where="%{x:.0f} classes seen", legend=cell == cells[0])  # fmt: skip
    title(figure, cells[0], "Accuracy on the classes seen", "", theme)
    title(figure, cells[1], "Turn of a growing ETF", "degrees", theme)
    turns = [path.turn for _, path, *_ in shown]
    figure.update_yaxes(range=[0, 1.02], tickformat=".0%", row=1, col=1)
    figure.update_yaxes(range=reach(*turns, low=0.0), row=1, col=2)
    figure.update_xaxes(title_text="classes seen", range=[1, 1.04 * float(here.classes[-1])])
    finished(figure, theme, "growing", 1, height=300)
    return Picture(figure, growing_sentence(here, recorded), NOTES)


def growing_sentence(here: Path, recorded: Path | None) -> str:
    """How accurate the head is on the way, and how far a frame turns."""
    text = (
        f"On the way to {plural(int(here.classes[-1]), 'class')} the accuracy averages {percent(here.accuracy.mean())}"
    )
    if recorded is not None:
        gap = 100 * float(here.accuracy.mean() - recorded.accuracy.mean())
        text += f", {gap:+.1f} points against the order of the run".replace("-", MINUS)
        text += (
            f"; it ends at {percent(float(here.accuracy[-1]))} in both"
            if np.isclose(here.accuracy[-1], recorded.accuracy[-1])
            else ""
        )
    turned = here.turn[np.isfinite(here.turn)]
    if len(turned):
        text += f"; an ETF that grows along turns its old vertices by {turned[0]:.1f} degrees at first"
        text += f" and {turned[-1]:.1f} at the end" if len(turned) > 1 else ""
    return text + "."
