"""The toy of `cillab.teaching.toy`: its frames, in space or in the plane, beside collapse over the steps taken."""

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from cillab.figures.palette import (
    ACCENT,
    CURSOR,
    GRID,
    MUTED,
    SECOND,
    TEXT,
    THIRD,
    Theme,
    style,
    task_colour,
    task_mark as mark_of,
)
from cillab.figures.panels import log_axis, title
from cillab.figures.picture import Picture
from cillab.figures.registry import figure
from cillab.figures.words import moved, number, percent

if TYPE_CHECKING:
    from cillab.teaching.toy import Toy

_SPACE = 4  # classes that still fit into three dimensions
_PATIENCE_MS = 60


def draw_toy(toy: "Toy", frame: int | None = None, theme: Theme = "light", *, play: bool = True) -> Picture:
    """Images, class means (large), head rows (lines) and the nearest simplex ETF (open); right NC1 to NC3 and accuracy.

    With `play`, every frame is in the figure, with a button and a slider; without, only `frame` (default: the last).
    """
    count = len(toy.step)
    at = count - 1 if frame is None else range(count)[frame]
    deep = len(toy.tasks) <= _SPACE and toy.features.shape[2] >= 3
    axes = toy.axes(3 if deep else 2)
    figure = make_subplots(
        4, 2, column_widths=[0.62, 0.38], horizontal_spacing=0.1, vertical_spacing=0.085,
        specs=[[{"type": "scene" if deep else "xy", "rowspan": 4}, {}], [None, {}], [None, {}], [None, {}]],
    )  # fmt: skip
    size = np.nanmax(np.abs(toy.features @ axes)) * 1.08
    scene = _scene(toy, at, axes, size, theme)
    for trace in scene:
        figure.add_trace(trace, row=1, col=1)
    _curves(figure, toy, theme)
    lines = [_cursor(toy, at, panel, theme) for panel in range(4)]
    for panel, trace in enumerate(lines):
        figure.add_trace(trace, row=panel + 1, col=2)
    style(figure, theme, name="toy", height=560, margin={"t": 30, "l": 10, "b": 40}, showlegend=False)
    _look(figure, deep, size, theme)
    if play:
        moving = [*range(len(scene)), *range(len(figure.data) - 4, len(figure.data))]  # pyright: ignore
        figure.frames = [
            go.Frame(
                name=str(f),
                traces=moving,
                data=[*_scene(toy, f, axes, size, theme), *(_cursor(toy, f, panel, theme) for panel in range(4))],
            )
            for f in range(count)
        ]
        _transport(figure, toy, at, theme)
    return Picture(figure, toy_sentence(toy, at))


def toy_sentence(toy: "Toy", frame: int) -> str:
    """What has happened by a frame, in one sentence."""
    start = 0
    text = f"After {toy.step[frame]} steps "
    if frame == start:
        text = "At the start "
        text += f"NC1 is {number(toy.nc1[0])}, the distance of the angles from a simplex {number(toy.nc2[0])}"
    else:
        text += moved("NC1", toy.nc1[start], toy.nc1[frame])
        text += ", " + moved("the distance of the angles from a simplex", toy.nc2[start], toy.nc2[frame])
        text += ", " + moved("the distance of head and means", toy.nc3[start], toy.nc3[frame])
    if toy.task[frame]:
        text += f"; old images are answered rightly at {percent(float(toy.accuracy(0)[frame]))},"
        text += f" those of the added task at {percent(float(toy.accuracy(1)[frame]))}"
    return text + "."


def _scene(toy: "Toy", at: int, axes: np.ndarray, size: float, theme: Theme) -> list[Any]:
    """Images, means, head rows and ideal of one frame; classes still to come are empty."""
    flat = axes.shape[1] == 2
    kind: Any = go.Scatter if flat else go.Scatter3d
    names = "xy" if flat else "xyz"

    def where(points: np.ndarray) -> dict[str, np.ndarray]:
        shown = (points @ axes).astype(np.float32)
        return {name: shown[:, i] for i, name in enumerate(names)}

    colours = [task_colour(c, theme) for c in range(len(toy.tasks))]
    means = toy.means[at]
    here = toy.present(at)
    reach = np.linalg.norm(means[here] - means[here].mean(axis=0), axis=1).mean()
    length = np.linalg.norm(toy.weight[at][here], axis=1).mean()
    rows = toy.weight[at] * (reach / max(length, 1e-12)) * 1.12
    spokes = np.full((3 * len(rows), rows.shape[1]), np.nan)
    spokes[0::3], spokes[1::3] = 0, rows
    return [
        kind(
            **where(spokes), mode="lines", hoverinfo="skip", connectgaps=False,
            line={"color": MUTED[theme], "width": 2 if flat else 4}, name="head rows",
        ),
        kind(
            **where(toy.ideal[at]), mode="markers", hoverinfo="skip", name="nearest simplex",
            marker={"symbol": "circle-open", "size": 18 if flat else 13, "color": MUTED[theme], "line": {"width": 1.5}},
        ),
        kind(
            **where(toy.features[at]), mode="markers", name="images", hoverinfo="skip",
            marker={"size": 6 if flat else 3.5, "color": [colours[c] for c in toy.labels], "opacity": 0.65},
        ),
        kind(
            **where(means), mode="markers", name="class means", customdata=np.arange(len(means)),
            hovertemplate="mean of class %{customdata}<extra></extra>",
            marker={
                "size": 13 if flat else 8, "color": colours, "line": {"width": 1.5, "color": TEXT[theme]},
                "symbol": [mark_of(c) for c in range(len(means))] if flat else "circle",
            },
        ),
    ]  # fmt: skip


def _panels(toy: "Toy", theme: Theme) -> list[tuple[str, str, list[tuple[str, np.ndarray, str, str]]]]:
    old, new = toy.accuracy(0), toy.accuracy(1)
    answered = [("all", toy.accuracy(), ACCENT[theme], "solid")]
    if toy.task.any():
        answered = [("first task", old, ACCENT[theme], "solid"), ("added task", new, SECOND[theme], "dash")]
    return [
        ("NC1", "within / between, to 0", [("NC1", toy.nc1, ACCENT[theme], "solid")]),
        ("NC2", "angles (blue), lengths (green), to 0", [
            ("angles", toy.nc2, ACCENT[theme], "solid"), ("lengths", toy.equinorm, THIRD[theme], "dash"),
        ]),
        ("NC3", "head against means, to 0", [("NC3", toy.nc3, ACCENT[theme], "solid")]),
        ("Right answers", "first task, added task (orange)" if toy.task.any() else "of training images", answered),
    ]  # fmt: skip


def _curves(figure: go.Figure, toy: "Toy", theme: Theme) -> None:
    x = np.arange(len(toy.step), dtype=np.float32)
    for index, (name, hint, lines) in enumerate(_panels(toy, theme)):
        cell: dict[str, Any] = {"row": index + 1, "col": 2}
        for label, values, colour, dash in lines:
            figure.add_scatter(
                x=x, y=np.maximum(values, 1e-12) if name == "NC1" else values, mode="lines", name=label,
                line={"color": colour, "width": 2.2, "dash": dash}, customdata=toy.step,
                hovertemplate=f"{label} %{{y:.3g}}, step %{{customdata}}<extra></extra>", **cell,
            )  # fmt: skip
        title(figure, (index + 1, 2), name, hint, theme)
        low, high = _limits(toy, index)
        first, ends = int((toy.task == 0).sum()), (10.0**low, 10.0**high) if name == "NC1" else (low, high)
        if first < len(x):
            line = {"color": MUTED[theme], "width": 1}
            figure.add_scatter(x=[first - 0.5] * 2, y=ends, mode="lines", line=line, hoverinfo="skip", **cell)
        axis: dict[str, Any] = log_axis(low, high) if name == "NC1" else {"range": [low, high], "nticks": 4}
        axis |= {"tickformat": ".0%", "dtick": 0.5} if name == "Right answers" else {}
        figure.update_yaxes(**axis, **cell)
        figure.update_xaxes(showticklabels=False, range=[-0.5, len(x) - 0.5], showgrid=False, **cell)
    ticks = np.linspace(0, len(x) - 1, 5).round().astype(int)
    figure.update_xaxes(
        showticklabels=True, tickvals=ticks, ticktext=[str(toy.step[t]) for t in ticks], row=4, col=2,
        title_text="gradient steps",
    )  # fmt: skip


def _limits(toy: "Toy", panel: int) -> tuple[float, float]:
    """Bottom and top of a panel; NC1 in powers of ten, cut where nobody can see a difference any more."""
    if panel == 0:
        good = toy.nc1[np.isfinite(toy.nc1) & (toy.nc1 > 0)]
        low, high = (np.log10(good.min()), np.log10(good.max())) if len(good) else (-1.0, 0.0)
        return max(low - 0.2, -6.0), max(high + 0.3, -5.0)
    if panel == 3:
        return -0.06, 1.06
    values = np.concatenate([toy.nc2, toy.equinorm]) if panel == 1 else toy.nc3
    return 0.0, 1.1 * max(float(np.nanmax(values, initial=0.0)), 0.1)


def _cursor(toy: "Toy", at: int, panel: int, theme: Theme) -> go.Scatter:
    """A line at the frame, as a trace: shapes cannot be animated."""
    low, high = _limits(toy, panel)
    ends = (10.0**low, 10.0**high) if panel == 0 else (low, high)
    line = {"color": CURSOR[theme], "width": 1.4, "dash": "dot"}
    return go.Scatter(x=[at, at], y=ends, mode="lines", line=line, hoverinfo="skip", name="frame")


def _look(figure: go.Figure, deep: bool, size: float, theme: Theme) -> None:
    toy_ticks = {"showticklabels": False, "title": {"text": ""}, "zeroline": False}
    if deep:
        axis = {
            "range": [-size, size], "showbackground": False, "gridcolor": GRID[theme], "showspikes": False, **toy_ticks,
        }  # fmt: skip
        figure.update_scenes(
            xaxis=axis, yaxis=axis, zaxis=axis, aspectmode="cube", uirevision="toy",
            camera={"eye": {"x": 0.98, "y": 0.82, "z": 0.6}},
        )  # fmt: skip
    else:
        figure.update_xaxes(range=[-size, size], constrain="domain", row=1, col=1, **toy_ticks)
        figure.update_yaxes(range=[-size, size], scaleanchor="x", row=1, col=1, **toy_ticks)


def _transport(figure: go.Figure, toy: "Toy", at: int, theme: Theme) -> None:
    """Play, pause and a slider: everything happens in the browser."""
    now = {"mode": "immediate", "transition": {"duration": 0}, "frame": {"duration": 0, "redraw": True}}
    go_on = {
        "mode": "immediate", "fromcurrent": True, "transition": {"duration": 0},
        "frame": {"duration": _PATIENCE_MS, "redraw": True},
    }  # fmt: skip
    buttons = [
        {"label": "Play", "method": "animate", "args": [None, go_on]},
        {"label": "Pause", "method": "animate", "args": [[None], now]},
    ]
    look = {"bgcolor": "rgba(0,0,0,0)", "bordercolor": MUTED[theme], "font": {"color": TEXT[theme], "size": 12}}
    figure.update_layout(
        margin={"b": 96},
        updatemenus=[
            {
                "type": "buttons", "direction": "right", "x": 0, "y": -0.1, "xanchor": "left", "yanchor": "top",
                "showactive": False, "buttons": buttons, "pad": {"t": 6}, **look,
            }
        ],
        sliders=[
            {
                "active": at, "x": 0.2, "y": -0.075, "len": 0.8, "xanchor": "left", "yanchor": "top", "ticklen": 0,
                "tickcolor": "rgba(0,0,0,0)",
                "currentvalue": {"prefix": "step ", "font": {"color": TEXT[theme], "size": 12}},
                "font": {"color": "rgba(0,0,0,0)", "size": 1}, "bordercolor": GRID[theme], "bgcolor": GRID[theme],
                "steps": [
                    {"label": str(step), "method": "animate", "args": [[str(f)], now]}
                    for f, step in enumerate(toy.step)
                ],
            }
        ],
    )  # fmt: skip


@figure(
    title="The toy",
    page="toy_collapse",
    of="toy",
)
def toy(run: "Toy", step: int | None = None, *, theme: Theme = "light", play: bool = True) -> Picture:
    """The frames of a toy: play them, or look at one (by position; default: the last)."""
    return draw_toy(run, step, theme, play=play)
