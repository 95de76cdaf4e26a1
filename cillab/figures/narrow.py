"""A figure for a narrow screen: its panels stand below each other, whatever grid they were drawn on."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import plotly.graph_objects as go

from cillab.figures.panels import HINT

_PLOTLY_PX = 450  # the height of a figure that states none
_GAP_PX = 92  # the ticks and the title of an axis, and the title of the panel below with its hint
_HINT_PX = 14  # the line of a hint
_NAME = 18  # letters of a name at a point
_LEAST_PX, _MOST_PX, _SQUARE_PX = 170.0, 300.0, 230.0  # heights; a panel is some 300 px wide, beside a colour bar 230


@dataclass
class _Panel:
    """A pair of axes; where it stood in the figure, and from where to where it shall stand, in shares of its height."""

    x: Any
    y: Any
    left: float
    right: float
    bottom: float
    top: float
    low: float = 0.0
    high: float = 1.0

    @property
    def names(self) -> tuple[str, str]:
        """As traces and annotations call the axes: `x2`, `y2`."""
        return self.x.plotly_name.replace("axis", ""), self.y.plotly_name.replace("axis", "")

    def height_px(self, whole: float) -> float:
        """How high it shall be, where all panels together had `whole` pixels; a square is as high as wide."""
        square = self.y.scaleanchor is not None
        return min(max((self.top - self.bottom) * whole, _LEAST_PX), _SQUARE_PX if square else _MOST_PX)

    def moved(self, y: float, scale: float) -> float:
        """A height of the old figure in the new one; `scale`: the height of the old one over that of the new."""
        if y >= self.top:
            return self.high + (y - self.top) * scale
        if y <= self.bottom:
            return self.low + (y - self.bottom) * scale
        return self.low + (y - self.bottom) / (self.top - self.bottom) * (self.high - self.low)


def stacked(figure: go.Figure) -> None:
    """Put the panels of a figure into one column, in reading order, each about as high as it was; changes the figure.

    The figure grows, its margins shrink. What belongs to a panel moves with it: its titles, its lines, its colour bar.
    Hints get a line of their own, names of points are shortened. Panels that stand in one column already stay where
    they are unless one of them is square, and so do those beside a three-dimensional scene.
    """
    layout: Any = figure.layout
    top, bottom = _margin(layout, "t"), _margin(layout, "b")
    before = (layout.height or _PLOTLY_PX) - top - bottom
    figure.update_layout(margin={"l": 44, "r": 10})  # axes ask for more where their numbers need it
    if _break_hints(layout) and layout.legend.y is not None:
        layout.legend.y += _HINT_PX / before
    _shorten_names(layout)
    panels = sorted(_panels(figure), key=lambda panel: (-round(panel.top, 3), panel.left))
    square = any(panel.y.scaleanchor for panel in panels)
    side_by_side = len({round(panel.left, 3) for panel in panels}) > 1
    if not (side_by_side or square) or layout.scene.domain.x is not None:
        return
    heights = [panel.height_px(before) for panel in panels]
    after = sum(heights) + _GAP_PX * (len(panels) - 1)
    edge = after
    for panel, height in zip(panels, heights, strict=True):
        panel.high, panel.low = edge / after, (edge - height) / after
        edge -= height + _GAP_PX
    _move_bars(figure, panels)
    _move_words(layout, panels, before / after)
    for panel in panels:
        panel.x.domain, panel.y.domain = (0.0, 1.0), (max(panel.low, 0.0), min(panel.high, 1.0))
    if layout.legend.y is not None:
        layout.legend.y = 1 + (layout.legend.y - 1) * before / after
    layout.height = round(after + top + bottom)


def _break_hints(layout: Any) -> bool:
    """Titles beside their hints would be wider than the panel. Are there any?"""
    hinted = [words for words in layout.annotations if HINT in (words.text or "")]
    for words in hinted:
        words.update(text=words.text.replace(HINT, "<br>" + HINT.lstrip()), align="left")
    return bool(hinted)


def _shorten_names(layout: Any) -> None:
    """Words at a point of the data; the card of the point says the whole name."""
    for words in layout.annotations:
        placed = f"{words.xref} {words.yref}"
        if "paper" not in placed and "domain" not in placed and len(words.text or "") > _NAME and "<" not in words.text:
            words.text = words.text[: _NAME - 1].rstrip() + "…"


def _margin(layout: Any, side: str) -> float:
    """Of the figure, of its template, or plotly's own."""
    asked = layout.margin[side], layout.template.layout.margin[side], {"t": 100, "b": 80}[side]
    return float(next(pixels for pixels in asked if pixels is not None))


def _panels(figure: go.Figure) -> list[_Panel]:
    out, axes, layout = [], cast(Iterable[Any], figure.select_xaxes()), cast(Any, figure.layout)
    for x in axes:
        y = layout[f"yaxis{(x.anchor or 'y')[1:]}"]
        if x.overlaying is None and y.overlaying is None:
            out.append(_Panel(x, y, *(x.domain or (0.0, 1.0)), *(y.domain or (0.0, 1.0))))
    return out


def _move_bars(figure: go.Figure, panels: list[_Panel]) -> None:
    """Each colour bar beside the panel of its trace."""
    places = {panel.names[0]: panel for panel in panels}
    for trace in cast(Iterable[Any], figure.data):
        panel = places.get(getattr(trace, "xaxis", None) or "x")
        if panel is None:
            continue
        bar = {"x": 1.01, "xanchor": "left", "y": (panel.low + panel.high) / 2, "len": panel.high - panel.low}
        if trace.type == "heatmap" and trace.coloraxis is None and trace.showscale is not False:
            trace.colorbar.update(bar)
        elif trace.type == "scatter" and trace.marker.showscale:
            trace.marker.colorbar.update(bar)


def _move_words(layout: Any, panels: list[_Panel], scale: float) -> None:
    """Annotations that were placed on the figure; those placed on a panel follow it by themselves."""
    for words in layout.annotations:
        if words.yref != "paper":
            continue
        panel = min(panels, key=lambda one: _away(one, words))
        if words.xref == "paper":
            words.x = (words.x - panel.left) / (panel.right - panel.left)
        words.y = panel.moved(words.y, scale)


def _away(panel: _Panel, words: Any) -> float:
    """How far an annotation stands from a panel, in shares of the figure; not at all where it names its axis."""
    if words.xref != "paper":
        return 0.0 if words.xref.split()[0] == panel.names[0] else 2.0
    across = max(panel.left - words.x, words.x - panel.right, 0.0)
    return across + max(panel.bottom - words.y, words.y - panel.top, 0.0)
