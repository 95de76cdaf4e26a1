"""The page of the study "does collapse predict forgetting?": tables, figures and what they can and cannot say."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import plotly.graph_objects as go

from cillab.core.errors import CillabError
from cillab.figures.palette import style, task_colour
from cillab.figures.panels import finished, grid, title
from cillab.geometry.association import Correlation
from cillab.lab.study import (
    CONTROL,
    HEAD,
    MEASURES,
    OUTCOMES,
    Association,
    Observations,
    associations,
    observations,
    table,
)
from cillab.runs.files import csv_beside, write_page, write_text

_SHOWN = ("nc1_then", "nc3_now", "nc4_now", "angle_drift", "mean_drift", CONTROL)
_KINDS = (
    ("all", "all rows"), ("between", "between methods"), ("within", "within methods"),
    ("partial", "accuracy when new held fixed"),
)  # fmt: skip


def write_study(runs: Sequence[Path], out: Path, draws: int = 2000) -> list[Path]:
    """Write the page, its figures and its rows (CSV) beside it; returns what was written. Remarks below the mark stay.

    Figures need the extra `study` (kaleido, and a Chrome or Chromium); without it the page has its tables alone.

    Raises:
        InvalidRequestError: no usable run, runs of more than one protocol, or no room for the CSV.
    """
    rows = csv_beside(out, HEAD)
    data = observations(runs)
    found = {outcome: associations(data, outcome, draws) for outcome in OUTCOMES}
    drawn = {"forest": (forest(found["forgetting"]), sentence(found["forgetting"])),
             "scatter": (scatter(data), _SCATTER)}  # fmt: skip
    written, pictures = list[Path](), dict[str, str]()
    out.parent.mkdir(parents=True, exist_ok=True)
    if find_spec("kaleido") is not None:
        for name, (figure, said) in drawn.items():
            path = out.with_name(f"{out.stem}-{name}.svg")
            try:
                figure.write_image(path)
            except Exception as error:  # whatever a browser may say
                raise CillabError(f"{path} cannot be drawn: kaleido needs Chrome or Chromium ({error}).") from error
            pictures[name] = f"![{said}]({path.name})"
            written.append(path)
    write_page(out, page(data, found, pictures, runs))
    write_text(rows, table(data))
    return [out, rows, *written]


def page(
    data: Observations, found: dict[str, list[Association]], pictures: dict[str, str], runs: Sequence[Path]
) -> str:
    """Markdown."""
    count, orders = len(data.methods), len(set(data.seed.tolist()))
    lines = [
        "# Does collapse predict forgetting?",
        "",
        f"{len(data)} rows, one per run and task that is not its last: {count} methods of"
        f" {len(set(data.families))} families, {orders} class order(s); {data.protocol}. Everything is read from run"
        " folders; collapse is measured on training images, accuracy on test images.",
        "",
        sentence(found["forgetting"]),
        "",
        "## How to read this",
        "",
        "Numbers are Spearman's rank correlations; +1 means that more of the measure goes with more forgetting."
        " Intervals (95 %) come from a bootstrap over methods: tasks and orders of one method are no independent"
        " witnesses."
        f" With {count} methods an interval of width 1 is common. *Between methods* compares means of methods, *within"
        " methods* compares tasks and orders of the same method: one in which measure or outcome is constant has no say"
        " there, and a cell without all methods ends in how many it has. The partial correlation holds the accuracy on"
        " the task when just learnt fixed: a measure that only says how well a task was learnt loses its correlation"
        " there."
        " A correlation is no cause: a head that drifts moves NC3, NC4 and accuracy at once.",
        "",
    ]
    for outcome, (name, meaning) in OUTCOMES.items():
        lines += [f"## {name}", "", f"{meaning[0].upper()}{meaning[1:]}.", ""]
        if outcome == "forgetting" and "forest" in pictures:
            lines += [pictures["forest"], ""]
        lines += [*_table(found[outcome], count), ""]
    if "scatter" in pictures:
        lines += ["## Every method", "", pictures["scatter"], ""]
    lines += [
        "## Methods",
        "",
        *_methods(data),
        "",
        "## Fixed, growing and nearest simplices",
        "",
        *_simplices(data),
        "",
    ]
    lines += ["## Families, and the first task alone", "", *_families(found["forgetting"]), ""]
    lines += ["## What the measures mean", ""]
    lines += [f"* **{name}**: {meaning}." for name, meaning in (*MEASURES.values(), *OUTCOMES.values())]
    if data.left_out:
        lines += ["", "## Runs left out", "", *[f"* {line}" for line in data.left_out]]
    lines += ["", "Made by", "", f"    cillab study {' '.join(map(str, runs))}", ""]
    lines += ["Every row is in the CSV file of the same name, which the command takes in the place of run folders.", ""]
    return "\n".join(lines)


def sentence(found: Sequence[Association]) -> str:
    """The finding in one sentence: which measures go with forgetting beyond how well a task was learnt."""
    clear = [a for a in found if a.partial.low > 0 or a.partial.high < 0]
    if not clear:
        return (
            "Once the accuracy when just learnt is held fixed, no measure of collapse goes with forgetting here: every"
            " interval holds 0, or there are too few methods for one."
        )
    clear.sort(key=lambda a: -abs(a.partial.value))
    named = ", ".join(f"{MEASURES[a.measure][0]} ({_number(a.partial)})" for a in clear[:4])
    return f"With the accuracy when just learnt held fixed, forgetting goes with {named}."


_SCATTER = "Mean forgetting of every method over six measures, one point per method, coloured by family."


def forest(found: Sequence[Association]) -> go.Figure:
    """Correlations with their intervals, a panel for each kind."""
    figure, cells = grid(len(_KINDS), 2, horizontal_spacing=0.2, vertical_spacing=0.14)
    names = [MEASURES[a.measure][0] for a in found]
    for index, (cell, (kind, shown)) in enumerate(zip(cells, _KINDS, strict=True)):
        values: list[Correlation] = [getattr(a, kind) for a in found]
        x = np.array([v.value for v in values])
        figure.add_scatter(
            x=x, y=names, mode="markers", row=cell[0], col=cell[1], showlegend=False,
            marker={"color": task_colour(index), "size": 8},
            error_x={"type": "data", "symmetric": False, "array": [v.high - v.value for v in values],
                     "arrayminus": [v.value - v.low for v in values], "color": task_colour(index)},
        )  # fmt: skip
        figure.add_vline(x=0, line={"width": 1, "color": "#9ca3af"}, row=cell[0], col=cell[1])  # type: ignore[arg-type]
        title(figure, cell, shown)
        figure.update_xaxes(range=[-1.05, 1.05], row=cell[0], col=cell[1])
        figure.update_yaxes(autorange="reversed", row=cell[0], col=cell[1])
    figure.update_xaxes(title_text="rank correlation with forgetting", row=2)
    return finished(figure, "light", "forest", 2, height=720, width=1000)


def scatter(data: Observations) -> go.Figure:
    """Mean forgetting of every method over some measures."""
    figure, cells = grid(len(_SHOWN), 3, horizontal_spacing=0.07, vertical_spacing=0.16)
    y, families = 100 * data.of_methods("forgetting"), sorted(set(data.families))
    for cell, name in zip(cells, _SHOWN, strict=True):
        x = data.of_methods(name)
        for number, family in enumerate(families):
            mine = np.array([one == family for one in data.families])
            figure.add_scatter(
                x=x[mine], y=y[mine], mode="markers", name=family, legendgroup=family, showlegend=name == _SHOWN[0],
                text=[m for m, own in zip(data.methods, mine, strict=True) if own], row=cell[0], col=cell[1],
                marker={"color": task_colour(number), "size": 9},
                hovertemplate="%{text}<br>%{x:.3g}, %{y:.1f} points<extra></extra>",
            )  # fmt: skip
        title(figure, cell, MEASURES[name][0] if name in MEASURES else "Accuracy when new")
        if name.startswith("nc1") and np.nanmin(x, initial=np.inf) > 0:
            figure.update_xaxes(type="log", row=cell[0], col=cell[1])
        figure.update_yaxes(title_text="forgetting, points" if cell[1] == 1 else "", row=cell[0], col=cell[1])
    return style(finished(figure, "light", "scatter", 2, height=640), "light", name="scatter", height=640, width=1100)


def _table(found: Sequence[Association], methods: int) -> list[str]:
    lines = [f"| | {' | '.join(shown for _, shown in _KINDS)} |", "| --- |" + " --- |" * len(_KINDS)]
    for a in found:
        fewer = f" ({a.within.groups})" if 0 < a.within.groups < methods else ""
        cells = " | ".join(_number(getattr(a, kind)) + fewer * (kind == "within") for kind, _ in _KINDS)
        lines.append(f"| {MEASURES[a.measure][0]} | {cells} |")
    return lines


def _families(found: Sequence[Association]) -> list[str]:
    lines = [
        "Means of families, methods inside their families (of three methods or more, not all with the same mean), and"
        " all methods on the first task alone. A study of small networks trained from scratch (2026) reports for the"
        " first task of CIFAR-100 +0.86 (NC3), -0.92 (NC4) and"
        " +0.82 (drift of angles).",
        "",
        "| | between families | within families | first task |",
        "| --- | --- | --- | --- |",
    ]
    return lines + [
        f"| {MEASURES[a.measure][0]} | {_number(a.families)} | {_number(a.in_family)} | {_number(a.first_task)} |"
        for a in found
    ]


def _methods(data: Observations) -> list[str]:
    return _rows_of(data, np.argsort(data.of_methods("forgetting")))


def _simplices(data: Observations) -> list[str]:
    chosen = [m for m in np.argsort(data.of_methods("forgetting")) if data.simplex[m]]
    if not chosen:
        return ["No method here has a head with one vertex of a simplex per class."]
    return _rows_of(data, np.array(chosen))


def _rows_of(data: Observations, order: np.ndarray) -> list[str]:
    shown = (CONTROL, "forgetting", "deep", "shallow", "nc1_then", "nc1_now", "nc3_now", "nc4_now", "angle_drift")
    heads = [{CONTROL: "accuracy when new"}.get(n, (MEASURES | OUTCOMES).get(n, (n,))[0]) for n in shown]
    values = {name: data.of_methods(name) for name in shown}
    percent = {CONTROL, *OUTCOMES}
    lines = [f"| method | family | rows | {' | '.join(heads)} |", "| --- | --- | --- |" + " --- |" * len(shown)]
    for m in order:
        cells = [
            "" if np.isnan(values[n][m]) else f"{100 * values[n][m]:.1f}" if n in percent else f"{values[n][m]:.3g}"
            for n in shown
        ]
        rows = int((data.method == m).sum())
        lines.append(f"| {data.methods[m]} | {data.families[m]} | {rows} | {' | '.join(cells)} |")
    return lines


def _number(found: Correlation) -> str:
    if not np.isfinite(found.value):
        return ""
    interval = "" if not np.isfinite(found.low) else f" [{found.low:+.2f}, {found.high:+.2f}]"
    return f"{found.value:+.2f}{interval}"
