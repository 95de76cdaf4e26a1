"""The accuracy curve: all classes seen so far, and old and new ones apart; one run or several."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from cillab.figures.palette import MUTED, ROLES, Theme, cursor, style, task_colour, task_mark
from cillab.figures.panels import grid, line
from cillab.figures.picture import Picture
from cillab.figures.registry import figure
from cillab.figures.words import MINUS, empty, percent, plural
from cillab.protocol.ledger import curve_of, parted
from cillab.runs import Run, parse_step

_line = partial(line, where="%{x:.0f} classes seen", form="%{y:.1%}")


@dataclass(frozen=True, eq=False)
class Curve:
    """Accuracy of one run at the end of each task, as fractions; NaN where there is no such class."""

    name: str
    classes: Float64[np.ndarray, " task"]  # number of classes seen
    seen: Float64[np.ndarray, " task"]
    old: Float64[np.ndarray, " task"]
    new: Float64[np.ndarray, " task"]


def read_curve(run: Run, name: str | None = None) -> Curve:
    """The curve of a run, as far as it has come."""
    steps, metrics = run.task_steps, run.metrics()
    counts = np.cumsum(run.info.sizes)[[parse_step(step)[0] for step in steps]] if steps else np.zeros(0)  # pyright: ignore
    values = (metrics.over(f"accuracy/{which}", steps) for which in ("seen", "old", "new"))
    return Curve(name or run.name, counts.astype(np.float64), *values)


def read_published(name: str | Path) -> Curve:
    """A curve of the ledger, of a CSV file with the classes seen and the accuracy, or of a row of a sweep's CSV.

    Raises:
        UnknownNameError, InvalidRequestError: as `cillab.protocol.ledger.curve_of`.
    """
    classes, seen = curve_of(name)
    path, row = parted(name)
    whole = path.stem if path.suffix.lower() == ".csv" else str(name)
    label = f"{row} ({path.stem})" if row else whole
    return Curve(f"published: {label}", classes, seen, np.full_like(seen, np.nan), np.full_like(seen, np.nan))


def _against(other: Curve) -> str:
    end, mean = percent(float(other.seen[-1])), percent(float(other.seen.mean()))
    return f"{other.name[:1].upper()}{other.name[1:]} ends at {end} (A_avg {mean})."


def _sentence(curves: Sequence[Curve]) -> str:
    if len(curves) > 1:
        parts = [
            f"{c.name} ends at {percent(float(c.seen[-1]))} (A_avg {percent(float(c.seen.mean()))})" for c in curves
        ]
        return "; ".join(parts) + "."
    curve = curves[0]
    end = f"{percent(float(curve.seen[-1]))} on {plural(int(curve.classes[-1]), 'class')}"
    if len(curve.seen) == 1:
        return f"After the first task the accuracy is {end}."
    text = f"Accuracy went from {percent(float(curve.seen[0]))} on {plural(int(curve.classes[0]), 'class')} to {end}"
    text += f" (A_avg {percent(float(curve.seen.mean()))})"
    if np.isfinite(curve.old[-1]) and np.isfinite(curve.new[-1]):
        gap = 100 * float(curve.new[-1] - curve.old[-1])
        text += f"; at the end new classes are at {percent(float(curve.new[-1]))}, old ones at"
        text += f" {percent(float(curve.old[-1]))}, a gap of {gap:.1f} points".replace("-", MINUS)
    return text + "."


@figure(
    title="Accuracy over the tasks",
    page="drift",
    needs=("accuracy/seen",),
    quantities=("a_seen", "a_avg", "a_last"),
)
def accuracy(
    run: Run | Sequence[Run] | Mapping[str, Run],
    step: str | int | None = None,
    *,
    theme: Theme = "light",
    published: str | Path | Sequence[str | Path] = (),
) -> Picture:
    """The accuracy curve of one run, or of several by name; the cursor stands at `step` of the first.

    One curve: seen, old and new classes. Several: seen classes only, one line per run. `published` lays curves of the
    ledger (`cillab reproduce` lists them), of CSV files or of rows of a sweep (`field.csv:lda`) behind them, grey and
    dashed.
    """
    names = [published] if isinstance(published, str | Path) else published
    others = [read_published(name) for name in names]
    named = run if isinstance(run, Mapping) else {r.name: r for r in ([run] if isinstance(run, Run) else run)}
    curves = [curve for name, one in named.items() if len((curve := read_curve(one, name)).seen)]
    if not curves:
        return empty("accuracy", "No task has been tested yet.", theme)
    figure, _ = grid(1, 1)
    for index, other in enumerate(others):
        dash, mark = ("dash", "dot", "dashdot")[index % 3], ("diamond-open", "circle-open", "square-open")[index % 3]
        _line(figure, other.classes, other.seen, other.name, MUTED[theme], dash=dash, mark=mark, width=2.0)
    if len(curves) == 1:
        for values, name, role, dash, mark, width in (
            (curves[0].new, "new classes", "new", "dash", "triangle-up", 1.6),
            (curves[0].old, "old classes", "old", "dot", "square", 1.6),
            (curves[0].seen, "all classes seen", "all", "solid", "circle", 2.8),
        ):
            _line(figure, curves[0].classes, values, name, ROLES[role][theme], dash=dash, mark=mark, width=width)
    else:
        for index, curve in enumerate(curves):
            look = {"mark": task_mark(index), "width": 2.4}
            _line(figure, curve.classes, curve.seen, curve.name, task_colour(index, theme), **look)
    style(
        figure, theme, name="accuracy", height=340, legend={"traceorder": "reversed" if len(curves) == 1 else "normal"}
    )
    classes = max(*(len(one.order) for one in named.values()), *(int(c.classes[-1]) for c in others), 0)
    pad = 0.03 * classes
    ticks = curves[0].classes if len(curves[0].classes) <= 12 else None
    figure.update_xaxes(
        title_text="classes seen", range=[-pad + min(c.classes[0] for c in (*curves, *others)), classes + pad]
    )
    if ticks is not None and len(curves) == 1:
        figure.update_xaxes(tickvals=ticks.astype(np.float32))
    figure.update_yaxes(title_text="accuracy", range=[0, 1.02], tickformat=".0%", dtick=0.2)
    if step is not None:
        first = next(iter(named.values()))
        task = (parse_step(first.resolve(step)) or (0,))[0]
        cursor(figure, float(np.cumsum(first.info.sizes)[task]), theme)
    notes = ["Test images, weighted by image; A_avg is the mean over tasks and includes the first."]
    if others:
        notes.append("Published curves have other weights, transforms and orders unless the runs say the same.")
    return Picture(figure, " ".join([_sentence(curves), *map(_against, others)]), tuple(notes))
