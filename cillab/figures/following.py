"""Figures of which a step changes little: their cursor, the heights of a few lines. What it changes, without drawing.

Drawing is what a figure costs. A page draws one of these once, and then moves what is called `cursor` and the lines,
and replaces the sentence. `moment` says the same as the whole figure at that step would; a test holds them together.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from cillab.figures.accuracy_matrix import NOTES, accuracy_matrix_sentence, row_frame
from cillab.figures.angles import Angles, angle_lines, angles_notes, angles_sentence, read_angles
from cillab.figures.collapse import Collapse, collapse_sentence, read_collapse
from cillab.figures.drift import Drift, drift_notes, drift_sentence, read_drift
from cillab.figures.panels import notes_of
from cillab.figures.words import place
from cillab.runs import Run, parse_step


@dataclass(frozen=True)
class Moment:
    """One step of a figure: the corners that its cursors have in common, its finding, and how to read it."""

    cursor: Mapping[str, float]  # x0 and x1, and where the cursor is a frame y0 and y1, in the units of the axes
    sentence: str
    notes: tuple[str, ...]
    lines: tuple[tuple[int, list[float]], ...] = ()  # number of a trace, its values on the vertical axis


class _Kind(NamedTuple):
    read: Callable[[Run], Any]  # once for the whole run
    at: Callable[[Run, Any, str], Moment]


def _line(step: str) -> dict[str, float]:
    return {"x0": place(step), "x1": place(step)}


def _collapse(run: Run, data: Collapse, step: str) -> Moment:
    return Moment(_line(step), collapse_sentence(data, step), data.notes)


def _drift(run: Run, data: Drift, step: str) -> Moment:
    return Moment(_line(step), drift_sentence(data, step), drift_notes(data))


def _accuracy_matrix(run: Run, matrix: Any, step: str) -> Moment:
    row = min((parse_step(step) or (0,))[0], len(matrix) - 1)
    return Moment(row_frame(row), accuracy_matrix_sentence(matrix, len(run.info.tasks), row), NOTES)


def _angles(run: Run, data: Angles, step: str) -> Moment:
    target = data.steps[step].target
    lines = tuple(enumerate(angle_lines(data, step)))
    return Moment({"x0": target, "x1": target}, angles_sentence(data, step), angles_notes(data, step), lines)


_KINDS = {
    "angles": _Kind(read_angles, _angles),
    "collapse": _Kind(read_collapse, _collapse),
    "drift": _Kind(read_drift, _drift),
    "accuracy_matrix": _Kind(lambda run: run.accuracy_matrix(), _accuracy_matrix),
}
_WITH_NOTES = ("angles", "collapse", "drift")  # of the step, as the figures have them
FOLLOWING = tuple(_KINDS)
BENT = ("angles",)  # those whose lines follow too: drawn at another step they would show what is not so


def read(name: str, run: Run) -> Any:
    """The arrays of the figure `name`, one of `FOLLOWING`, over the whole run."""
    return _KINDS[name].read(run)


def moment(name: str, run: Run, data: Any, step: str) -> Moment:
    """What the figure `name` says at a step, from what `read` gave."""
    found = _KINDS[name].at(run, data, step)
    notes = notes_of(run, step, *found.notes) if name in _WITH_NOTES else found.notes
    return replace(found, notes=notes)
