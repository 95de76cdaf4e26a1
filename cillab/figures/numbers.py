"""The numbers behind a figure as CSV: one row per point, as plotted."""

import csv
import io
import math
from collections.abc import Iterator
from itertools import product, repeat
from typing import Any

import numpy as np
import plotly.graph_objects as go

COLUMNS = ("trace", "panel", "x", "y", "z")
WRITTEN = "written"  # `meta` of a trace that only writes the numbers of another one
LOGGED = "logged"  # `meta` of a map whose colours are logarithms, the numbers themselves in `customdata`
EACH_TASK = "each task"  # `meta` of a trace that holds several tasks, their numbers in `customdata`


def as_csv(figure: go.Figure) -> str:
    """One row per point of every trace that shows numbers: trace, panel, x, y and, for maps and space, z.

    Panels are counted from 1 in the order of the figure's axes. Gaps in a line and cells without a value are left out.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    traces: tuple[Any, ...] = figure.data  # pyright: ignore[reportAssignmentType]
    for index, trace in enumerate(traces):
        if trace.meta == WRITTEN:
            continue
        name = _plain(trace.name) or f"trace {index + 1}"
        names = _names(trace) or repeat(_text(name))
        writer.writerows((one, _panel(trace), *map(_text, p)) for one, p in zip(names, _points(trace), strict=False))
    return buffer.getvalue()


def _names(trace: Any) -> list[str]:
    """A name per point that is known, where a trace stands for several tasks."""
    if trace.meta != EACH_TASK:
        return []
    return [f"task {task:.0f}" for task in np.asarray(trace.customdata).tolist() if _known(task)]


def _points(trace: Any) -> Iterator[tuple[Any, Any, Any]]:
    kind = trace.type
    if kind in ("heatmap", "contour", "surface") and trace.z is not None:
        z = np.asarray(trace.customdata if trace.meta == LOGGED else trace.z)
        x = _values(trace.x) if trace.x is not None else list(range(z.shape[1]))
        y = _values(trace.y) if trace.y is not None else list(range(z.shape[0]))
        for row, column in product(range(z.shape[0]), range(z.shape[1])):
            if _is_number(z[row, column]):
                yield x[column], y[row], z[row, column].item()
        return
    if kind == "scatter3d":
        yield from (p for p in zip(*(_values(getattr(trace, a)) for a in "xyz"), strict=True) if all(map(_known, p)))
        return
    x = _values(getattr(trace, "x", None))
    y = _values(getattr(trace, "y", None))
    if not x and y:
        x = list(range(len(y)))
    for a, b in zip(x, y, strict=False):
        if _known(a) and _known(b):
            yield a, b, ""


def _values(values: Any) -> list[Any]:
    return [] if values is None else np.asarray(values).tolist()


def _known(value: Any) -> bool:
    return value is not None and (not isinstance(value, float) or math.isfinite(value))


def _text(value: Any) -> Any:
    """Names come from data that anybody can write: none may be read as a formula by a spreadsheet."""
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value


def _is_number(value: Any) -> bool:
    return value is not None and bool(np.isfinite(value))


def _panel(trace: Any) -> int:
    axis = getattr(trace, "scene", None) or getattr(trace, "xaxis", None) or "x"
    return int("".join(c for c in axis if c.isdecimal()) or 1)


def _plain(text: str | None) -> str:
    """A name without the marks that plotly reads."""
    out, inside = [], False
    for character in text or "":
        inside = character == "<" or (inside and character != ">")
        if not inside and character != ">":
            out.append(character)
    return "".join(out).strip()
