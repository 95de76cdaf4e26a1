"""Calibration on old and new classes: is the learner right as often as it says?"""

import numpy as np

from cillab.figures.palette import AGES, CURSOR, Theme, cursor, see_through
from cillab.figures.panels import OverSteps, finished, grid, line, missing, reach, scalars, title
from cillab.figures.picture import Picture
from cillab.figures.registry import figure
from cillab.figures.words import after, percent, place, places, task_axis
from cillab.runs import Run

_SIDES = (("old", "old classes", *AGES["old"], "solid"), ("new", "new classes", *AGES["new"], "dash"))


@figure(
    title="Confidence against accuracy",
    page="drift",
    needs=("calibration/new",),
    quantities=("calibration_error",),
)
def calibration(run: Run, step: str | int | None = None, *, theme: Theme = "light") -> Picture:
    """Calibration on old and new classes of a run at `step` (default: the last).

    Left accuracy against confidence, area of a mark = images; right the error over the steps.
    """
    data = OverSteps.of(run, step, scalars(run, {side: f"calibration/{side}" for side, *_ in _SIDES}))
    shot = run.snapshot(data.step)
    bins = {
        side: np.asarray(shot[f"calibration/{side}"], np.float64)  # mean confidence, accuracy, images
        for side, *_ in _SIDES
        if f"calibration/{side}" in shot
    }
    figure, cells = grid(2, 2)
    line(figure, np.arange(2), np.arange(2), "calibrated", see_through(CURSOR[theme], 0.5), width=1.3, dash="dot",
         mark="", legend=False, hovertemplate=None, hoverinfo="skip")  # fmt: skip
    most = max((float(b[2].max()) for b in bins.values()), default=1.0)
    for side, shown, colour, mark, dash in _SIDES:
        if side in bins:
            confidence, accuracy, count = bins[side][:, bins[side][2] > 0]
            line(figure, confidence, accuracy, shown, colour[theme], width=1.2, customdata=count.astype(np.int32),
                 marker={"color": see_through(colour[theme], 0.75), "symbol": mark, "line": {"width": 0},
                         "size": (5 + 17 * np.sqrt(count / most)).astype(np.float32)},
                 where="says %{x:.0%}", form="right %{y:.1%}</b><br>%{customdata} images<b>")  # fmt: skip
        line(figure, places(data.steps), data.values[side], shown, colour[theme], cell=cells[1], dash=dash, mark=mark,
             legend=side not in bins, form="ECE %{y:.1%}")  # fmt: skip
    if not bins:
        missing(figure, cells[0])
    title(figure, cells[0], "reliability", "on the dots = calibrated", theme)
    title(figure, cells[1], "expected calibration error", "\N{RIGHTWARDS ARROW} 0", theme)
    finished(figure, theme, "calibration", 1, height=370)
    figure.update_xaxes(title_text="confidence", range=[0, 1.03], tickformat=".0%", row=1, col=1)
    figure.update_yaxes(title_text="accuracy", range=[0, 1.05], tickformat=".0%", row=1, col=1)
    figure.update_xaxes(**task_axis(data.tasks), row=1, col=2)
    figure.update_yaxes(range=reach(*data.values.values(), low=0.0), tickformat=".0%", row=1, col=2)
    cursor(figure, place(data.step), theme, rows=[(1, 2)])
    notes = (
        "Test images of all classes seen; confidence = largest softmax probability, 15 equal bins.",
        "Similarities (cosine, distance, ridge) are no log-probabilities: their error tells how they would do as such.",
    )
    return Picture(figure, _sentence(data, bins), notes)


def _sentence(data: OverSteps, bins: dict[str, np.ndarray]) -> str:
    parts = []
    for side, shown, *_ in _SIDES:
        if side in bins:
            confidence, accuracy, count = bins[side]
            gap = float(np.nansum((confidence - accuracy) * count) / count.sum())
            error = data.now(side)
            how = "over-confident" if gap > 0 else "under-confident"
            parts.append(f"{percent(error)} on {shown} ({how} by {percent(abs(gap))})")
    text = f"{after(data.step).capitalize()}, the expected calibration error is"
    return f"{text} {' and '.join(parts)}." if parts else "Calibration was not measured at this step."
