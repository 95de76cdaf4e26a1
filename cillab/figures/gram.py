"""The Gram matrix of the class means beside that of a simplex ETF: lengths on the diagonal, angles off it."""

import numpy as np
from jaxtyping import Float, Float64

from cillab.figures.coarse import around, few, pairs, reach_of, shown
from cillab.figures.palette import Theme, diverging
from cillab.figures.panels import finished, grid, notes_of, spread, title
from cillab.figures.picture import Picture
from cillab.figures.registry import figure
from cillab.figures.words import MOVING_TARGET, ORACLE, SIMPLEX, after, class_labels, empty, number
from cillab.geometry.etf import ideal_cosine
from cillab.geometry.nc2 import gram_distance
from cillab.geometry.rows import centre
from cillab.runs import Run, Snapshot

_SMALLEST_RANGE = 0.1


def scaled_gram(means: Float[np.ndarray, "cls feature"]) -> Float64[np.ndarray, "cls cls"]:
    """G = M M^T / mean_c ||M_c||^2, M = rows mu_c - mu_G; NaN where all means are equal."""
    rows = centre(means)
    gram = rows @ rows.T
    with np.errstate(invalid="ignore", divide="ignore"):
        return gram / np.diag(gram).mean()


def simplex_gram(classes: int) -> Float64[np.ndarray, "cls cls"]:
    """K/(K-1) (I - 11^T/K): 1 on the diagonal, -1/(K-1) off it."""
    return (np.eye(classes) - 1 / classes) * classes / max(classes - 1, 1)


def _reach(shot: Snapshot) -> float:
    rows = centre(shot["means/now"])
    some = rows[few(len(rows))]
    with np.errstate(invalid="ignore", divide="ignore"):
        return reach_of(some @ some.T / np.square(rows).sum(axis=1).mean(), len(rows))


@figure(
    title="Gram matrix of the means beside the ideal",
    page="collapse",
    part="angles",
    needs=("means/now",),
    quantities=("simplex_gram_distance", "equinorm", "ideal_cosine"),
    width=1040,
)
def gram(run: Run, step: str | int | None = None, *, theme: Theme = "light") -> Picture:
    """Gram matrix of the class means of a run at `step` (default: the last), beside the ideal.

    Left what was measured, right the simplex of as many classes, on one scale centred at -1/(K-1).
    """
    shot = run.snapshot(run.resolve(step))
    measured = scaled_gram(shot["means/now"])
    count = len(measured)
    if count < 2:
        return empty("gram", "A Gram matrix needs at least two classes.", theme)
    if not np.isfinite(measured).all():
        return empty("gram", "All class means are equal: there is no arrangement to show.", theme)
    figure, cells = grid(2, 2, horizontal_spacing=0.09)
    tasks, labels = np.asarray(shot["task_of_class"], np.int64), class_labels(run, shot["seen"].tolist())
    parts = [shown(matrix, tasks, labels) for matrix in (measured, simplex_gram(count))]
    target = ideal_cosine(count)
    # One colour scale for all steps: the largest distance from the target off the diagonal.
    reach = max(_SMALLEST_RANGE, *(run.snapshot(other).once(_reach) for other in spread(run)))
    ends = target - reach, target + reach
    for cell, part, what in zip(cells, parts, (f"measured {after(shot.id)}", "a simplex"), strict=True):
        pairs(figure, part, hover=f"<b>%{{z:.3f}}</b><extra>{what}</extra>", ends=ends, theme=theme, cell=cell,
              diagonal=True, colours=diverging(theme), colorbar=around(target, reach))  # fmt: skip
        title(figure, cell, what, f"K = {count}" if cell[1] == 1 else f"{SIMPLEX} = {number(target)}", theme)
    figure.data[0].showscale = False
    finished(figure, theme, "gram", 1, top=40, height=430)
    figure.update_yaxes(title_text="", row=1, col=2)
    lengths = np.sqrt(np.diag(measured))
    long, short = int(lengths.argmax()), int(lengths.argmin())
    far = number(gram_distance(measured))
    sentence = (
        f"{after(shot.id).capitalize()}, the Gram matrix of {count} class means is {far} from that of a simplex (0 is"
        f" equal, \N{SQUARE ROOT}2 the most); the longest mean is that of {labels[long]},"
        f" {number(float(lengths[long] / lengths[short]))} times the shortest, {labels[short]}."
    )
    notes = notes_of(
        run,
        shot.id,
        ORACLE,
        "Centred class means times themselves, scaled to a mean squared length of 1. The diagonal holds squared lengths"
        " (the ideal is 1) and is darkest by design; both matrices share one scale, the same at every step.",
        MOVING_TARGET,
    )
    return Picture(figure, sentence + parts[0].sentence, notes)
