"""Small multiples: the pieces that figures with several panels share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float32, Float64
from plotly.subplots import make_subplots

from cillab.figures.numbers import EACH_TASK, WRITTEN
from cillab.figures.palette import (
    HUES,
    MUTED,
    NAMED_UP_TO,
    SEQUENTIAL,
    TEXT,
    Theme,
    inks,
    style,
    task_colour,
    task_mark,
)
from cillab.figures.picture import Picture
from cillab.figures.words import MINUS, number, places
from cillab.runs import Run
from cillab.runs.run import sorted_steps

Cell = tuple[int, int]
HINT = "  <span style='font-size:11px;"  # between the title of a panel and what to wish for
_ROUND = (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)  # where a log axis of little more than a decade may have ticks
_FINE, _MOST_TICKS = 1.2, 6
MARKS = 40  # points on a line that each have a mark
SPREAD = 24  # steps of a long run at which something slow is measured


@dataclass(frozen=True, eq=False)
class OverSteps:
    """Values over the steps of a run by name, NaN where they are not defined, and the step that is looked at."""

    steps: tuple[str, ...]
    step: str
    tasks: int  # of the whole stream
    values: Mapping[str, Float64[np.ndarray, "step ..."]]
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        run: Run,
        step: str | int | None,
        values: Mapping[str, np.ndarray],
        *notes: str,
        steps: Sequence[str] | None = None,
    ) -> "OverSteps":
        """The values of a run at all of its steps, or at the `steps` that were looked at."""
        seen = run.steps if steps is None else tuple(steps)
        said = (f"Measured after {len(seen)} of {len(run.steps):,} steps.",) if len(seen) < len(run.steps) else ()
        return cls(seen, run.resolve(step), len(run.info.tasks), values, (*notes, *said))

    @property
    def at(self) -> int:
        """The row of the step."""
        return self.steps.index(self.step)

    def now(self, name: str) -> float:
        """A value at the step."""
        return float(self.values[name][self.at])


def spread(run: Run, *also: str) -> tuple[str, ...]:
    """The steps at which something slow is measured: all up to 24; of more 24 in equal distances, and `also`.

    The first and the last are among them. A scale from them is the same whichever step is looked at.
    """
    steps = run.steps
    places = np.linspace(0, len(steps) - 1, min(len(steps), SPREAD)).round().astype(int)
    return sorted_steps(iter({*(steps[at] for at in places), *also}))


def grid(panels: int, columns: int, **options: Any) -> tuple[go.Figure, list[Cell]]:
    """A grid of panels and where each stands."""
    rows = -(-panels // columns)
    options = {"horizontal_spacing": 0.11, "vertical_spacing": 0.2} | options
    return make_subplots(rows, columns, **options), [(i // columns + 1, i % columns + 1) for i in range(panels)]


def title(figure: go.Figure, cell: Cell, text: str, hint: str = "", theme: Theme = "light") -> None:
    """What a panel shows, above its top left corner; the hint says what to wish for."""
    more = f"{HINT}color:{MUTED[theme]}'>{hint}</span>" if hint else ""
    figure.add_annotation(
        text=f"<b>{text}</b>{more}",
        x=0,
        y=1,
        xref="x domain",
        yref="y domain",
        xanchor="left",
        yanchor="bottom",
        yshift=6,
        font={"size": 12.5, "color": TEXT[theme]},
        row=cell[0],
        col=cell[1],
    )


def missing(figure: go.Figure, cell: Cell, text: str = "not measured") -> None:
    """Say so in an empty panel."""
    where = {"xref": "x domain", "yref": "y domain"}
    figure.add_annotation(text=text, x=0.5, y=0.5, **where, row=cell[0], col=cell[1])


def line(
    figure: go.Figure,
    x: np.ndarray,
    y: np.ndarray,
    name: str,
    colour: str,
    *,
    cell: Cell = (1, 1),
    dash: str = "solid",
    mark: str = "circle",
    width: float = 2.0,
    size: int = 6,
    form: str = "%{y:.3g}",
    where: str = "at task %{x}",
    legend: bool = True,
    **trace: Any,
) -> None:
    """A line with marks; without `mark` it has none. `form` is what the hover says of the value, `where` of the place.

    A name is one entry of the legend, however many panels it stands in: in all but one of them `legend` is False.
    Of more than 40 marks some 20 are drawn: they would touch each other, and each costs the browser time.
    """
    crowd = {"maxdisplayed": MARKS // 2} if len(x) > MARKS and "mode" not in trace else {}
    figure.add_scatter(**{
        "x": np.asarray(x).astype(np.float32), "y": np.asarray(y).astype(np.float32), "name": name,
        "legendgroup": name, "showlegend": legend, "mode": "lines+markers" if mark else "lines",
        "line": {"color": colour, "width": width, "dash": dash},
        "marker": {"symbol": mark or "circle", "size": size, "color": colour} | crowd,
        "hovertemplate": f"{name}<br>{where}<br><b>{form}</b><extra></extra>", "row": cell[0], "col": cell[1],
    } | trace)  # fmt: skip


def outline(figure: go.Figure, xy: np.ndarray, name: str, colour: str, *, width: float, **look: Any) -> None:
    """A thin line that only shows a shape: rows of `xy`, without hover and legend."""
    line(figure, xy[:, 0], xy[:, 1], name, colour, width=width, mark="", legend=False,
         **{"hoverinfo": "skip", "hovertemplate": None} | look)  # fmt: skip


def marks(
    figure: go.Figure,
    xy: np.ndarray,
    name: str,
    marker: Mapping[str, Any],
    *,
    cell: Cell | None = None,
    hover: str = "%{x:.3g}, %{y:.3g}",
    **trace: Any,
) -> None:
    """Points without a line: rows of `xy`, each with what `hover` says of it."""
    where = {} if cell is None else {"row": cell[0], "col": cell[1]}
    figure.add_scatter(**{
        "x": xy[:, 0].astype(np.float32), "y": xy[:, 1].astype(np.float32), "name": name, "mode": "markers",
        "marker": dict(marker), "hovertemplate": f"{hover}<extra></extra>", **where,
    } | trace)  # fmt: skip


def heat(
    figure: go.Figure,
    z: np.ndarray,
    *,
    hover: str,
    ends: tuple[float, float],
    colours: Any = SEQUENTIAL,
    cell: Cell = (1, 1),
    numbers: Callable[[float], str] | None = None,
    **trace: Any,
) -> None:
    """A heat map on the scale `ends`, with its values as `numbers` writes them where they can still be read."""
    z = np.asarray(z).astype(np.float32)
    figure.add_heatmap(**{
        "z": z, "zmin": ends[0], "zmax": ends[1], "colorscale": colours, "hoverongaps": False,
        "hovertemplate": f"{hover}<extra></extra>", "row": cell[0], "col": cell[1],
    } | trace)  # fmt: skip
    if numbers and max(z.shape) <= NAMED_UP_TO:
        _write_numbers(figure, z, numbers, ends, colours, cell, trace)


def _write_numbers(
    figure: go.Figure, z: np.ndarray, form: Callable[[float], str], ends, colours, cell: Cell, trace
) -> None:
    """The numbers of a heat map, black or white, whichever can be read on the ground of its cell.

    Plotly's own choice is white or a dark grey, which falls to a contrast of 2.9 on the middle of a scale.
    """
    rows, columns = np.nonzero(np.isfinite(z))
    values = z[rows, columns].astype(np.float64)
    x, y = trace.get("x", range(z.shape[1])), trace.get("y", range(z.shape[0]))
    font = {"size": 12, "color": inks(colours, (values - ends[0]) / ((ends[1] - ends[0]) or 1.0))}
    figure.add_scatter(
        x=[x[c] for c in columns], y=[y[r] for r in rows], text=[form(value) for value in values], mode="text",
        textfont=font, hoverinfo="skip", showlegend=False, cliponaxis=False, name="numbers", meta=WRITTEN, row=cell[0],
        col=cell[1],
    )  # fmt: skip


def log_colours(least: float, most: float) -> tuple[tuple[float, float], dict[str, Any]]:
    """A logarithmic colour scale between two positive values: its ends as powers of ten, and its bar."""
    low, high = float(np.log10(least)), float(np.log10(max(most, 1.01 * least)))
    ticks = np.linspace(low, high, 4)
    return (low, high), {"tickvals": ticks, "ticktext": [number(10**tick) for tick in ticks]}


def task_lines(
    figure: go.Figure,
    steps: Sequence[str],
    values: Float64[np.ndarray, "step task"],
    hover: str,
    theme: Theme,
    *,
    cell: Cell = (1, 1),
    legend: bool = True,
) -> None:
    """One line per task over the steps, in the colour and with the mark of the task; of many those of a hue are one."""
    x, tasks = places(steps).astype(np.float32), values.shape[1]
    there = np.isfinite(values)
    for task in range(tasks) if tasks <= NAMED_UP_TO else ():
        if there[:, task].any():
            own = there[:, task]
            line(figure, x[own], values[own, task], f"task {task + 1}", task_colour(task, theme), cell=cell,
                 mark=task_mark(task), width=1.8, legend=legend,
                 hovertemplate=f"task {task + 1}, at task %{{x}}<br>{hover}<extra></extra>")  # fmt: skip
    for hue in range(HUES) if tasks > NAMED_UP_TO else ():  # without marks: so many hide each other
        lines = [(x[own], values[own, task], np.full(own.sum(), task + 1.0))
                 for task in range(hue, tasks, HUES) if (own := there[:, task]).any()]  # fmt: skip
        if lines:
            at, value, names = gapped(lines)
            line(figure, at, value, of_hue(hue), task_colour(hue, theme), cell=cell, mark="", width=1.0, legend=False,
                 customdata=names, meta=EACH_TASK,
                 hovertemplate=f"task %{{customdata}}, at task %{{x}}<br>{hover}<extra></extra>")  # fmt: skip


def gapped(lines: Sequence[Sequence[np.ndarray]]) -> Float32[np.ndarray, "row point"]:
    """Lines (each some rows of equal length) as one, with a gap between two: hundreds of traces draw slowly."""
    parts = [part for one in lines for part in (np.stack(one), np.full((len(one), 1), np.nan))]
    return np.concatenate(parts[:-1], axis=1).astype(np.float32)


def of_hue(hue: int) -> str:
    """Name of a trace that holds all tasks of one hue."""
    return f"tasks {hue + 1}, {hue + 1 + HUES} ..."


def matrix_axes(figure: go.Figure, cell: Cell, text: str, **axis: Any) -> None:
    """Both axes of a square matrix: what its rows are, the first of them on top, cells that are squares."""
    options = {"title_text": text, "showgrid": False, "type": "category", "constrain": "domain"} | axis
    across = figure.get_subplot(*cell).xaxis.plotly_name.replace("axis", "")  # pyright: ignore
    figure.update_xaxes(**options, row=cell[0], col=cell[1])
    figure.update_yaxes(**options, autorange="reversed", scaleanchor=across, row=cell[0], col=cell[1])


def finished(figure: go.Figure, theme: Theme, name: str, rows: int, *, top: int = 72, **layout: Any) -> go.Figure:
    """The look, with room for a legend above the titles of the panels."""
    height = layout.pop("height", 70 + 215 * rows)
    legend = {"y": 1 + 34 / (height - 46 - top), "font": {"size": 11}} | layout.pop("legend", {})
    return style(figure, theme, name=name, height=height, margin={"t": top}, legend=legend, **layout)


def reach(*values: np.ndarray, low: float | None = None, high: float | None = None, pad: float = 0.08) -> list[float]:
    """An axis range over all values there are, the same at every step; `low` and `high` widen it."""
    finite = np.concatenate([np.ravel(v)[np.isfinite(np.ravel(v))] for v in values]) if values else np.zeros(0)
    ends = [*finite.tolist(), *(v for v in (low, high) if v is not None)]
    if not ends:
        return [0.0, 1.0]
    bottom, top = min(ends), max(ends)
    margin = pad * ((top - bottom) or max(abs(top), 1e-3))
    return [bottom - (0.3 * margin if low == 0 and bottom == 0 else margin), top + margin]


def share_reach(*values: np.ndarray) -> dict[str, Any]:
    """An axis of shares over all values there are: it ends at 100 %, and has no tick above."""
    bottom, _ = reach(*values, high=1.0)
    bottom = min(bottom, 0.9)
    return {"range": [bottom, 1 + 0.06 * (1 - bottom)], "tickformat": ".0%"}


def log_reach(values: np.ndarray) -> dict[str, Any]:
    """A log axis over all positive values there are."""
    good = values[np.isfinite(values) & (values > 0)]
    if not len(good):
        return {"range": [0, 1]}
    low, high = np.log10(good.min()) - 0.12, np.log10(good.max()) + 0.12
    return log_axis(low, high)


def log_axis(low: float, high: float) -> dict[str, Any]:
    """A log axis between two powers of ten, with at most six ticks in the type of all other axes."""
    inside: list[float] = []
    for steps in (_ROUND, (1, 2, 5), (1,)) if high - low <= _FINE else ((1, 2, 5), (1,)):
        ticks = [m * 10.0**e for e in range(int(np.floor(low)), int(np.ceil(high)) + 1) for m in steps]
        inside = [tick for tick in ticks if low <= np.log10(tick) <= high]
        if len(inside) <= _MOST_TICKS:
            break
    shown = inside[:: -(-len(inside) // _MOST_TICKS) or 1]  # all of them would print over each other
    return {"type": "log", "range": [low, high], "tickvals": shown, "ticktext": [_power(tick) for tick in shown]}


def _power(tick: float) -> str:
    return f"{tick:g}" if 1e-4 <= tick < 1e4 else f"10<sup>{np.log10(tick):.0f}</sup>".replace("-", MINUS)


def notes_of(run: Run, step: str | None, *own: str, side: str = "train") -> tuple[str, ...]:
    """A figure's own notes, then those that the run carries for this step: how to read the numbers of its collapse."""
    given = run.snapshot(run.resolve(step)).notes(side) if step or run.steps else ()
    return tuple(dict.fromkeys((*own, *given)))


def with_notes(picture: Picture, run: Run, step: str | int | None) -> Picture:
    """The picture with the notes that the run carries for this step after its own."""
    return replace(picture, notes=notes_of(run, run.resolve(step), *picture.notes)) if run.steps else picture


def scalars(run: Run, names: Mapping[str, str]) -> dict[str, Float64[np.ndarray, " step"]]:
    """Series of scalars over the steps there are, by a name of one's own."""
    metrics, steps = run.metrics(), run.steps
    return {ours: metrics.over(theirs, steps) for ours, theirs in names.items()}
