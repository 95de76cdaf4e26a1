"""Two more small plots: clouds in the plane with their ellipses, and pictures with maps over them."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from cillab.figures.palette import MARKS, MUTED, Theme, see_through, style, task_colour
from cillab.teaching.sketch import told

_DASHES = ("solid", "dash", "dot", "dashdot")
_RING = np.stack([np.cos(np.linspace(0, 2 * np.pi, 73)), np.sin(np.linspace(0, 2 * np.pi, 73))])
_HEAT = ((0.0, "rgba(255,90,0,0)"), (0.35, "rgba(255,150,0,0.35)"), (1.0, "rgba(255,40,0,0.85)"))


def clouds(
    points: Mapping[str, np.ndarray], *, joined: tuple[str, str] | None = None, theme: Theme = "light"
) -> go.Figure:
    """Points in the plane, each cloud with its ellipse of two standard deviations; `joined` draws who went where."""
    figure = go.Figure()
    if joined is not None:
        a, b = (np.asarray(points[name], np.float64)[:40] for name in joined)
        path = np.stack([a, b, np.full_like(a, np.nan)], axis=1).reshape(-1, 2)
        line = {"color": see_through(MUTED[theme], 0.45), "width": 1}
        figure.add_scatter(x=path[:, 0], y=path[:, 1], mode="lines", line=line, hoverinfo="skip", showlegend=False)
    for index, (name, cloud) in enumerate(points.items()):
        figure.add_traces(_cloud(name, cloud, index, theme))
    style(figure, theme, name="clouds", height=400, margin={"t": 46})
    return told(figure.update_yaxes(scaleanchor="x"), f"Clouds in the plane. {_places(points)}")


def cloud_panels(panels: Mapping[str, Mapping[str, np.ndarray]], *, theme: Theme = "light") -> go.Figure:
    """The same clouds side by side on equal axes, one panel for each way; a cloud looks the same in all of them."""
    figure = make_subplots(1, len(panels), subplot_titles=list(panels), horizontal_spacing=0.08)
    for column, points in enumerate(panels.values(), start=1):
        for index, (name, cloud) in enumerate(points.items()):
            for trace in _cloud(name, cloud, index, theme, legend=column == 1):
                figure.add_trace(trace, row=1, col=column)
    every = np.concatenate([np.asarray(cloud, np.float64) for points in panels.values() for cloud in points.values()])
    middle, reach = (every.max(axis=0) + every.min(axis=0)) / 2, 0.58 * float(np.ptp(every, axis=0).max())
    style(figure, theme, name="cloud panels", height=430, margin={"t": 46, "b": 76})
    figure.update_layout(legend={"orientation": "h", "x": 0, "y": -0.12, "yanchor": "top"})  # the titles stand on top
    figure.update_xaxes(range=[middle[0] - reach, middle[0] + reach], constrain="domain")
    for column in range(1, len(panels) + 1):
        figure.update_yaxes(
            range=[middle[1] - reach, middle[1] + reach], scaleanchor=f"x{column if column > 1 else ''}", col=column
        )
    return told(figure, " ".join(f"Panel {name}: {_places(points)}" for name, points in panels.items()))


def _cloud(name: str, cloud: np.ndarray, index: int, theme: Theme, *, legend: bool = True) -> list[go.Scatter]:
    """Points and ellipse; later clouds have smaller marks, so that one that lies on another leaves it visible."""
    x, colour = np.asarray(cloud, np.float64), task_colour(index, theme)
    values, vectors = np.linalg.eigh(np.cov(x.T))
    ring = x.mean(axis=0)[:, None] + 2 * (vectors * np.sqrt(np.maximum(values, 0))) @ _RING
    mark = {"color": see_through(colour, 0.5), "symbol": MARKS[index % len(MARKS)], "size": max(3, 9 - 2 * index)}
    dots = go.Scatter(
        x=np.float32(x[:, 0]), y=np.float32(x[:, 1]), mode="markers", name=name, legendgroup=name, marker=mark,
        showlegend=legend,
    )  # fmt: skip
    line = {"color": colour, "width": 2, "dash": _DASHES[index % len(_DASHES)]}
    edge = go.Scatter(
        x=np.float32(ring[0]), y=np.float32(ring[1]), mode="lines", legendgroup=name, showlegend=False,
        line=line, hoverinfo="skip",
    )  # fmt: skip
    return [dots, edge]


def _places(points: Mapping[str, np.ndarray]) -> str:
    means = {name: np.asarray(cloud, np.float64).mean(axis=0) for name, cloud in points.items()}
    return "; ".join(f"{name} around ({x:.1f}, {y:.1f})" for name, (x, y) in means.items()) + "."


def tiles(
    images: np.ndarray,
    maps: np.ndarray | None = None,
    captions: Sequence[str] = (),
    *,
    scale: float | None = None,
    columns: int = 6,
    theme: Theme = "light",
) -> go.Figure:
    """Images [n, 3, h, w] in a row or more, with maps [n, row, column] over grey ones; all on one colour scale.

    `scale` is the value of the strongest colour, by default the largest of all maps; maps that are zero stay invisible.
    """
    count = len(images)
    columns = min(columns, count)
    rows = -(-count // columns)
    titles = [captions[i] if i < len(captions) else "" for i in range(count)]
    figure = make_subplots(rows, columns, subplot_titles=titles, horizontal_spacing=0.015, vertical_spacing=0.22 / rows)
    top = float(np.nanmax(maps)) if maps is not None and scale is None else scale
    side = images.shape[-1]
    for index, picture in enumerate(np.asarray(images)):
        row, column = index // columns + 1, index % columns + 1
        shown: np.ndarray = picture.transpose(1, 2, 0).astype(np.float32)
        if maps is not None:
            grey = shown @ np.array([0.299, 0.587, 0.114], np.float32)
            shown = np.repeat(grey[..., None], 3, axis=2)
        figure.add_trace(go.Image(z=shown.astype(np.uint8), hoverinfo="skip"), row=row, col=column)
        if maps is not None:
            grid = np.asarray(maps[index], np.float32)
            centres = (np.arange(grid.shape[0]) + 0.5) * side / grid.shape[0] - 0.5
            heat = go.Heatmap(
                z=grid, x=centres, y=centres, zmin=0, zmax=top or 1.0, colorscale=_HEAT, showscale=False,
                zsmooth="best", hovertemplate="%{z:.3g}<extra></extra>",
            )  # fmt: skip
            figure.add_trace(heat, row=row, col=column)
    style(figure, theme, name="tiles", height=60 + 150 * rows, margin={"t": 40, "b": 8, "l": 8, "r": 8})
    figure.update_annotations(font_size=11.5)
    figure.update_xaxes(visible=False, range=[-0.5, side - 0.5], constrain="domain")
    figure.update_yaxes(visible=False, range=[side - 0.5, -0.5], constrain="domain")
    what = f"{count} pictures" + ("" if maps is None else f", grey, with maps over them up to {top or 0:.3g}")
    return told(figure, f"{what}: {', '.join(title for title in titles if title) or 'no captions'}.")
