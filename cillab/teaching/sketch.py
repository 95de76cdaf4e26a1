"""Small plots of a few series in the look of `cillab.figures`, for what a notebook has just measured."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from cillab.figures.palette import CURSOR, GROUND, MARKS, Theme, diverging, see_through, style, task_colour
from cillab.figures.panels import log_reach

_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
_MARKED = 30  # points; with more, marks would cover the line
Series = Mapping[str, Sequence[float] | np.ndarray]


def lines(
    x: Sequence[float] | np.ndarray,
    series: Series,
    *,
    x_title: str,
    y_title: str,
    levels: Mapping[str, float] | None = None,
    log_x: bool = False,
    log_y: bool = False,
    percent: bool = False,
    errors: Series | None = None,
    theme: Theme = "light",
) -> go.Figure:
    """One line per series over `x`, told apart by colour, dash and mark; `levels` are horizontal lines with a name.

    `errors` holds half-widths of intervals by the name of the series.
    """
    figure = go.Figure()
    for index, (name, values) in enumerate(series.items()):
        figure.add_scatter(
            x=np.asarray(x, np.float32),
            y=np.asarray(values, np.float32),
            name=name,
            mode="lines+markers" if len(values) <= _MARKED else "lines",
            line={"color": task_colour(index, theme), "width": 2, "dash": _DASHES[index % len(_DASHES)]},
            marker={"color": task_colour(index, theme), "symbol": MARKS[index % len(MARKS)], "size": 6},
            error_y=_whiskers(errors, name, theme),
        )
    _level_lines(figure, levels or {}, theme)
    _look(figure, theme, "lines", x_title, y_title)
    if log_x:
        figure.update_xaxes(type="log", tickvals=list(x), ticktext=[f"{value:g}" for value in x])
    if log_y:
        figure.update_yaxes(**log_reach(np.concatenate([np.asarray(v, np.float64) for v in series.values()])))
    figure.update_yaxes(tickformat=".0%" if percent else None)
    ends = [
        f"{name} goes from {_said(v[0], percent)} to {_said(v[-1], percent)}" for name, v in series.items() if len(v)
    ]
    return told(figure, f"Lines over {x_title}: {', '.join(ends)}.")


def bars(
    groups: Sequence[str],
    series: Series,
    *,
    y_title: str,
    x_title: str = "",
    stacked: bool = False,
    percent: bool = False,
    levels: Mapping[str, float] | None = None,
    errors: Series | None = None,
    theme: Theme = "light",
) -> go.Figure:
    """One group of bars per name in `groups`, beside each other or stacked; `errors` as in `lines`."""
    figure = go.Figure()
    for index, (name, values) in enumerate(series.items()):
        figure.add_bar(
            x=list(groups),
            y=np.asarray(values, np.float32),
            name=name,
            text=[_said(value, percent) for value in values],
            textposition="none" if stacked else "inside" if errors and name in errors else "outside",
            insidetextanchor="start",  # at the foot of the bar: a whisker would cross it at the top
            error_y=_whiskers(errors, name, theme),
            cliponaxis=False,
            marker={"color": task_colour(index, theme), "cornerradius": 3},
        )
    _level_lines(figure, levels or {}, theme)
    _look(figure, theme, "bars", x_title, y_title)
    figure.update_layout(barmode="relative" if stacked else "group", bargap=0.3, showlegend=len(series) > 1)
    figure.update_yaxes(tickformat=".0%" if percent else None, zeroline=stacked)
    pairs = [[f"{g} {_said(v, percent)}" for g, v in zip(groups, values, strict=True)] for values in series.values()]
    named = [f"{name}: {', '.join(pair)}" for name, pair in zip(series, pairs, strict=True)]
    return told(figure, f"Bars. {'; '.join(named)}.")


def heat(
    matrix: np.ndarray,
    names: Sequence[str] | None = None,
    *,
    middle: float = 0.0,
    x_title: str = "",
    y_title: str = "",
    borders: Sequence[int] = (),
    theme: Theme = "light",
) -> go.Figure:
    """A square heat map whose neutral colour means `middle`; `borders` are the rows before which a new group begins."""
    values = np.asarray(matrix, np.float64)
    reach = float(np.nanmax(np.abs(values - middle))) or 1.0
    labels = list(names) if names is not None else [str(i + 1) for i in range(len(values))]
    figure = go.Figure(
        go.Heatmap(
            z=values.astype(np.float32),
            x=labels,
            y=labels,
            zmin=middle - reach,
            zmax=middle + reach,
            colorscale=diverging(theme),
            hovertemplate="%{y}<br>%{x}<br><b>%{z:.3f}</b><extra></extra>",
        )
    )
    _look(figure, theme, "heat", x_title, y_title)
    figure.update_xaxes(showgrid=False, type="category", constrain="domain")
    figure.update_yaxes(showgrid=False, type="category", autorange="reversed", scaleanchor="x", constrain="domain")
    line = {"color": CURSOR[theme], "width": 1.4}
    for at in borders:  # a category is one unit wide, and its middle is its index
        figure.add_hline(y=at - 0.5, line=line)
        figure.add_vline(x=at - 0.5, line=line)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    said = f"A map of {len(labels)} by {len(labels)} values from {low:.2f} to {high:.2f}: {x_title or y_title}."
    if len(borders):
        said = f"{said[:-1]}, in {len(borders) + 1} groups."
    return told(figure.update_layout(height=420), said)


def _level_lines(figure: go.Figure, levels: Mapping[str, float], theme: Theme) -> None:
    line: dict[str, Any] = {"color": see_through(CURSOR[theme], 0.55), "width": 1.4, "dash": "dot"}
    for name, level in levels.items():
        figure.add_hline(
            y=level, line=line, annotation_text=name, annotation_position="top right", annotation_font_size=11.5,
            annotation_bgcolor=see_through(GROUND[theme], 0.8),  # bars may stand there
        )  # fmt: skip


def told(figure: go.Figure, sentence: str) -> go.Figure:
    """The figure with its alternative text, where a page finds it."""
    layout: Any = figure.layout
    return figure.update_layout(meta={**layout.meta, "alt": sentence})


def _said(value: float, percent: bool) -> str:
    if percent:
        return f"{float(value):.1%}"
    return f"{float(value):,.0f}" if abs(value) >= 1000 else f"{float(value):.3g}"


def _whiskers(errors: Series | None, name: str, theme: Theme) -> dict[str, Any] | None:
    if errors is None or name not in errors:
        return None
    colour = see_through(CURSOR[theme], 0.75)
    return {
        "type": "data",
        "array": np.asarray(errors[name], np.float32),
        "color": colour,
        "thickness": 1.3,
        "width": 4,
    }


def _look(figure: go.Figure, theme: Theme, name: str, x_title: str, y_title: str) -> None:
    style(figure, theme, name=name, height=340, margin={"t": 46})
    figure.update_xaxes(title_text=x_title)
    figure.update_yaxes(title_text=y_title)
