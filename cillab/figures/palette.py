"""Colours, marks and the two templates. Colour is a function of the task, never of the order of drawing.

The ten hues start from Okabe & Ito (2008) and are completed from Paul Tol's muted scheme, both made to be told apart
with colour-blind eyes; yellow and black are left out because they vanish on white or on dark ground. Beyond ten tasks
hues repeat, but marks repeat with period seven, so hue and mark together are unique up to seventy tasks.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float64
from plotly.colors import get_colorscale

from cillab.core.errors import unknown_name

Theme = Literal["light", "dark"]

_HUES = {
    "light": (
        *("#0072B2", "#E08E00", "#009E73", "#C9629B", "#4AA8DE"),
        *("#D0500A", "#882255", "#8A8A2A", "#4B3AA8", "#6B7480"),
    ),
    "dark": (
        *("#3FA0E0", "#F0A830", "#2CC498", "#E08CBB", "#8CD0F5"),
        *("#F07A3C", "#C8628F", "#BDBD55", "#9587F0", "#A2ABB8"),
    ),
}
NAMED_UP_TO = 20  # tasks in a legend: of more it would take the room of the figure
HUES = len(_HUES["light"])  # before they repeat
MARKS = ("circle", "square", "diamond", "triangle-up", "cross", "triangle-down", "star")

TEXT = {"light": "#1F2933", "dark": "#E4E8EE"}
MUTED = {"light": "#616E7C", "dark": "#98A4B3"}
GRID = {"light": "#E9ECF0", "dark": "#2A313C"}
GROUND = {"light": "#FFFFFF", "dark": "#10151C"}  # figures are transparent; this is what they are meant to stand on
UNSEEN = {"light": "#C9D0D8", "dark": "#3C4653"}
ACCENT = {"light": "#0072B2", "dark": "#3FA0E0"}
SECOND = {"light": "#C64A07", "dark": "#F07A3C"}
THIRD = {"light": "#009E73", "dark": "#2CC498"}
# What a line is about, the same in every figure; none of these is the hue of a task.
ROLES = {
    "all": {"light": "#27313D", "dark": "#E4E8EE"},
    "old": {"light": "#0F6674", "dark": "#58C7CF"},
    "mixed": {"light": "#6A5D7B", "dark": "#B9A8D0"},  # pairs of an old and a new class
    "new": {"light": "#B0413E", "dark": "#FF9A8F"},
    "train": {"light": "#24407A", "dark": "#A3BCF5"},
    "test": {"light": "#8C6100", "dark": "#E2BC62"},
}
AGES = {"old": (ROLES["old"], "circle"), "new": (ROLES["new"], "square")}
SIDES = {"train": (ROLES["train"], "solid", "circle"), "test": (ROLES["test"], "dot", "diamond")}
CURSOR = {"light": "#111827", "dark": "#F3F4F6"}

SEQUENTIAL = "Cividis"
FONT = "Inter, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

_DIVERGING = {
    "light": ("#134B87", "#5E9BCB", "#F6F6F4", "#E9A35E", "#9A4A08"),
    "dark": ("#7CC0F4", "#2F6FA8", "#161C25", "#A9601F", "#FFB366"),
}


def check_theme(theme: str) -> Theme:
    """`theme` if it is one.

    Raises:
        UnknownNameError: with the valid names.
    """
    if theme not in _HUES:
        raise unknown_name("theme", theme, _HUES)
    return theme  # pyright: ignore[reportReturnType]


def task_colour(task: int, theme: Theme = "light") -> str:
    """The hue of a task."""
    hues = _HUES[check_theme(theme)]
    return hues[task % len(hues)]


def task_mark(task: int) -> str:
    """The marker of a task, so that colour is never the only sign."""
    return MARKS[task % len(MARKS)]


def see_through(colour: str, opacity: float) -> str:
    """`#RRGGBB` as rgba."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def inks(colours: str | Sequence[tuple[float, str]], shares: Float64[np.ndarray, " value"]) -> list[str]:
    """Black or white for words on each place of a scale (0 to 1), whichever has the larger contrast: at least 4.58.

    Contrast is that of WCAG 2, (L1 + 0.05) / (L2 + 0.05) with relative luminances L; both are equal at L = 0.179.
    """
    stops = get_colorscale(colours) if isinstance(colours, str) else colours
    known = np.array([_channels(colour) for _, colour in stops])
    ground = np.stack([np.interp(shares, [place for place, _ in stops], channel) for channel in known.T])
    linear = np.where(ground <= 0.04045, ground / 12.92, ((ground + 0.055) / 1.055) ** 2.4)
    luminance = np.array([0.2126, 0.7152, 0.0722]) @ linear
    return np.where((luminance + 0.05) ** 2 > 1.05 * 0.05, "#000000", "#FFFFFF").tolist()


def _channels(colour: str) -> list[float]:
    """`#RRGGBB` or `rgb(r, g, b)` as fractions."""
    if colour.startswith("#"):
        return [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return [float(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]


def diverging(theme: Theme = "light") -> list[tuple[float, str]]:
    """Blue below, orange above, the ground in the middle: give it a range that is symmetric about its centre."""
    colours = _DIVERGING[check_theme(theme)]
    return [(index / (len(colours) - 1), colour) for index, colour in enumerate(colours)]


def template(theme: Theme = "light") -> go.layout.Template:
    """One look for all figures: transparent ground, thin grid, room only where it is needed."""
    check_theme(theme)
    axis = {
        "gridcolor": GRID[theme],
        "gridwidth": 1,
        "griddash": "solid",
        "zeroline": False,
        "showline": False,
        "ticks": "",
        "ticklen": 4,
        "tickfont": {"size": 11.5, "color": MUTED[theme]},
        "title": {"font": {"size": 12.5, "color": MUTED[theme]}, "standoff": 8},
        "automargin": True,
        "exponentformat": "power",  # 10^-4, never 100µ: most quantities here have no unit
    }
    bar = {
        "outlinewidth": 0,
        "ticks": "",
        "thickness": 10,
        "len": 0.9,
        "tickfont": axis["tickfont"],
        "exponentformat": "power",
    }
    bar["title"] = {"font": {"size": 11.5, "color": MUTED[theme]}}
    return go.layout.Template(
        layout={
            "font": {"family": FONT, "size": 13, "color": TEXT[theme]},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "colorway": list(_HUES[theme]),
            "margin": {"l": 56, "r": 18, "t": 34, "b": 46},
            "xaxis": axis,
            "yaxis": axis,
            "legend": {
                "orientation": "h",
                "x": 0,
                "y": 1.02,
                "xanchor": "left",
                "yanchor": "bottom",
                "font": {"size": 12, "color": TEXT[theme]},
                "bgcolor": "rgba(0,0,0,0)",
            },
            "hoverlabel": {
                "font": {"family": FONT, "size": 12.5, "color": TEXT[theme]},
                "bgcolor": {"light": "#FFFFFF", "dark": "#1B222C"}[theme],
                "bordercolor": GRID[theme],
                "align": "left",
            },
            "hovermode": "closest",
            "coloraxis": {"colorbar": bar},
            "annotationdefaults": {"font": {"size": 12, "color": MUTED[theme]}, "showarrow": False},
        },
        data={"heatmap": [{"colorbar": bar, "xgap": 0, "ygap": 0}]},
    )


def style(figure: go.Figure, theme: Theme, *, name: str, height: int = 360, **layout: Any) -> go.Figure:
    """Put the look on a figure. `uirevision` is constant, so that zoom and hidden traces survive a change of step."""
    figure.update_layout(
        template=template(theme), height=height, uirevision=name, meta={"figure": name, "theme": theme}, **layout
    )
    return figure


def cursor(figure: go.Figure, x: float, theme: Theme, *, rows: Sequence[tuple[int, int]] = ()) -> None:
    """A thin vertical line at a step, in the given cells of a grid of plots, or in the only plot."""
    line = {"color": see_through(CURSOR[theme], 0.55), "width": 1.4, "dash": "dot"}
    if not rows:
        figure.add_vline(x=x, line=line, name="cursor", layer="above")
    for row, column in rows:
        figure.add_vline(x=x, line=line, name="cursor", layer="above", row=row, col=column)  # pyright: ignore
