"""One image, all steps: where the learner looked as it went on, on one colour scale."""

from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float32, UInt8

from cillab.core.errors import InvalidRequestError
from cillab.figures.palette import MUTED, TEXT, Theme, see_through, style
from cillab.figures.picture import Picture
from cillab.figures.registry import Nothing, figure
from cillab.figures.words import after, number, place
from cillab.runs import Run

_UP_TO = 12  # steps side by side; of more, evenly spread ones and always the last


@dataclass(frozen=True, eq=False)
class Strip:
    """Maps of one probe image, in the unit of the score; NaN where there is none."""

    steps: tuple[str, ...]
    step: str
    image: UInt8[np.ndarray, "tile tile 3"]
    maps: Float32[np.ndarray, "step row column"]
    predictions: tuple[str, ...]
    right: tuple[bool, ...]
    label: str
    target: str
    chosen: int
    scale: float  # largest value over all steps of the run: one colour scale
    weak: tuple[bool, ...]  # maps that stay below the noise floor of their step, where it was measured


def read_strip(run: Run, step: str | int | None = None, point: int = 0, target: str = "predicted") -> Strip:
    """The maps of probe image `point`.

    Raises:
        InvalidRequestError: no such probe image.
    """
    every = [s for s in run.steps if f"cam/{target}" in run.snapshot(s)]
    if not every:
        raise Nothing
    if not 0 <= point < len(run.probe):
        raise InvalidRequestError(f"point = {point}. Valid: 0 to {len(run.probe) - 1}.")
    chosen = run.resolve(step)
    spread = np.unique(np.linspace(0, len(every) - 1, _UP_TO).round().astype(int)) if len(every) > _UP_TO else None
    steps = every if spread is None else [every[i] for i in spread]
    if chosen in every and chosen not in steps:
        steps = sorted({*steps, chosen}, key=every.index)
    maps, guesses, right, weak = [], [], [], []
    for one in every:
        shot = run.snapshot(one)
        scale = float(shot[f"cam_scale/{target}"][point])
        maps.append(shot[f"cam/{target}"][point].astype(np.float32) / 255 * scale)
        weak.append(bool(scale < shot.get(f"cam_floor/{target}", -np.inf)))
        guesses.append(run.info.name_of(int(shot["predictions"][point])))
        right.append(int(shot["predictions"][point]) == int(run.probe.labels[point]))
    largest = float(np.nanmax(np.stack(maps))) if np.isfinite(np.stack(maps)).any() else 0.0
    at = [every.index(one) for one in steps]
    return Strip(
        tuple(steps),
        chosen,
        run.probe.sprite(point),
        np.stack([maps[i] for i in at]),
        tuple(guesses[i] for i in at),
        tuple(right[i] for i in at),
        run.info.name_of(int(run.probe.labels[point])),
        target,
        point,
        largest,
        tuple(weak[i] for i in at),
    )


@figure(
    title="Grad-CAM of one image over the steps",
    page="grad_cam",
    needs=("cam/predicted",),
    lacks="This run was made without Grad-CAM maps.",
    quantities=("noise_floor",),
    per_image=True,
)
def cam_strip(
    run: Run, step: str | int | None = None, *, point: int = 0, target: str = "predicted", theme: Theme = "light"
) -> Picture:
    """Grad-CAM of probe image `point` over the steps of a run, the one at `step` framed.

    A picture per step: the image in grey, the map over it, the raw maximum and the prediction under it.
    """
    data = read_strip(run, step, point, target)
    columns = min(len(data.steps), 6)
    rows = -(-len(data.steps) // columns)
    tile, gap, text = 1.0, 0.08, 0.34
    figure = go.Figure()
    grey = data.image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    side = len(grey)
    for index, one in enumerate(data.steps):
        left, top = (index % columns) * (tile + gap), -(index // columns) * (tile + gap + text)
        middles = (np.arange(side, dtype=np.float32) + 0.5) / side
        figure.add_heatmap(
            z=grey[::-1].astype(np.float32), x=left + middles, y=top - tile + middles, zmin=-60, zmax=300,
            colorscale="Greys_r", showscale=False, hoverinfo="skip",
        )  # fmt: skip
        values = data.maps[index]
        high, wide = values.shape
        best = number(float(values.max())) if np.isfinite(values).any() else "no map"
        if data.weak[index]:
            best, values = f"{best}, below the noise floor", np.full_like(values, np.nan)
        figure.add_heatmap(
            z=values[::-1], x=left + (np.arange(wide, dtype=np.float32) + 0.5) / wide,
            y=top - tile + (np.arange(high, dtype=np.float32) + 0.5) / high, coloraxis="coloraxis", opacity=0.62,
            zsmooth="best" if min(high, wide) > 1 else False, hoverongaps=False,
            hovertemplate=f"{after(one)}<br>map <b>%{{z:.3g}}</b><extra></extra>",
        )  # fmt: skip
        now = one == data.step
        figure.add_shape(
            type="rect", x0=left, x1=left + tile, y0=top - tile, y1=top, name="cursor" if now else "frame",
            line={"color": TEXT[theme] if now else see_through(TEXT[theme], 0.18), "width": 2 if now else 1},
        )  # fmt: skip
        sign = "\N{CHECK MARK}" if data.right[index] else "\N{MULTIPLICATION SIGN}"
        guess = data.predictions[index]
        guess = guess if len(guess) <= 24 else f"{guess[:23]}\N{HORIZONTAL ELLIPSIS}"
        figure.add_annotation(
            x=left, y=top - tile, xanchor="left", yanchor="top", align="left", yshift=-3,
            font={"size": 10.5, "color": MUTED[theme]},
            text=f"<b style='color:{TEXT[theme]}'>task {place(one):g}</b>  max {best}<br>{sign} {guess}",
        )  # fmt: skip
    width = columns * (tile + gap) - gap
    bar = {"title": {"text": "map"}, "thickness": 10, "outlinewidth": 0, "len": 0.8, "tickformat": ".2g"}
    style(
        figure,
        theme,
        name="cam_strip",
        height=60 + round(rows * (tile + gap + text) * 146),
        margin={"l": 8, "t": 16, "b": 8},
        coloraxis={"cmin": 0, "cmax": max(data.scale, 1e-12), "colorscale": "Inferno", "colorbar": bar},
    )
    figure.update_xaxes(visible=False, range=[-0.02, width + 0.02], constrain="domain")
    figure.update_yaxes(visible=False, range=[-rows * (tile + gap + text) + gap, 0.02], scaleanchor="x")
    at = data.steps.index(data.step) if data.step in data.steps else len(data.steps) - 1
    peak = data.maps[at].max() / data.scale if data.scale > 0 else float("nan")
    how = "taken for what it is" if data.right[at] else f"taken for {data.predictions[at]}"
    sentence = f"{after(data.steps[at]).capitalize()}, this {data.label} is {how}; the map reaches"
    sentence += f" {100 * peak:.0f} % of its highest value over the run." if np.isfinite(peak) else " no value: no map."
    sentence += " It stays below the noise floor, so it says nothing." if data.weak[at] else ""
    notes = (
        f"Grad-CAM of the {data.target} class through the learner's own head, in the unit of the score; one colour"
        " scale for all steps, so that a dead map looks dead. What stays below the noise floor of its step, as"
        " 95 % of the maps of a random head do, is not drawn.",
    )
    return Picture(figure, sentence, notes)
