"""Which side of old and new the scores favour: the largest logit among each, for features of each."""

import numpy as np

from cillab.figures.palette import AGES, Theme, cursor
from cillab.figures.panels import OverSteps, finished, grid, line, reach, title
from cillab.figures.picture import Picture
from cillab.figures.registry import Nothing, figure
from cillab.figures.words import after, number, place, places, task_axis
from cillab.runs import Run

_NAME = "internals/text/logit_bias"


@figure(
    title="Which side the scores favour",
    page="text_transport",
    part="bias",
    needs=("internals/text/logit_bias",),
    lacks="No logits of old against new classes were recorded: it takes two tasks and remembered Gaussians.",
)
def logit_bias(run: Run, step: str | int | None = None, *, theme: Theme = "light") -> Picture:
    """Old and new classes in the logits of a run over its steps, with a cursor at `step` (default: the last).

    A panel per kind of features, a line per group of classes: the right group should be on top in both.
    """
    logits = np.full((len(run.steps), 2, 2), np.nan)  # by kind of features, then of classes: old, new
    for row, one in enumerate(run.steps):
        if _NAME in run.snapshot(one):
            logits[row] = np.asarray(run.snapshot(one)[_NAME], np.float64)
    if not np.isfinite(logits).any():
        raise Nothing
    data = OverSteps.of(run, step, {_NAME: logits})
    figure, cells = grid(2, 2)
    x = places(data.steps).astype(np.float32)
    (old, circle), (new, square) = AGES.values()
    looks = (("earlier classes", old, "solid", circle), ("newest classes", new, "dash", square))
    for row, cell in enumerate(cells):
        for column, (shown, colour, dash, mark) in enumerate(looks):
            line(figure, x, logits[:, row, column], f"best logit among {shown}", colour[theme], cell=cell,
                 dash=dash, mark=mark, legend=row == 0, width=2.2 if row == column else 1.6)  # fmt: skip
        title(figure, cell, f"features of {looks[row][0]}", f"{looks[row][0]} should be above", theme)
    finished(figure, theme, "logit_bias", 1, height=340)
    figure.update_xaxes(**task_axis(data.tasks))
    figure.update_yaxes(range=reach(logits))
    figure.update_yaxes(title_text="mean largest logit", row=1, col=1)
    cursor(figure, place(data.step), theme, rows=cells)
    return Picture(figure, _sentence(data), (
        "Features are drawn from the Gaussians that the learner keeps, as many for every class; logits are cosines"
        " times CLIP's own scale.",
        "Where features of earlier classes score higher among the newest ones, the network leans towards the newest.",
        "The best of many is higher than the best of few: with more earlier classes than new ones a lean towards the"
        " earlier is to be expected. Compare runs at the same step rather than steps of a run.",
    ))  # fmt: skip


def _sentence(data: OverSteps) -> str:
    of_old, of_new = data.values[_NAME][data.at]
    if not np.isfinite(of_old).all():
        return f"{after(data.step).capitalize()} there are no earlier classes yet that logits could favour or neglect."
    margins = float(of_old[0] - of_old[1]), float(of_new[1] - of_new[0])
    text = (
        f"{after(data.step).capitalize()}, features of earlier classes score {number(abs(margins[0]))}"
        f" {'higher' if margins[0] >= 0 else 'lower'} among their own than among the newest classes; features of the"
        f" newest score {number(abs(margins[1]))} {'higher' if margins[1] >= 0 else 'lower'} among theirs"
    )
    lean = margins[1] - margins[0]
    side = "newest" if lean > 0 else "earlier"
    return f"{text}: a lean of {number(abs(lean))} towards the {side} classes."
