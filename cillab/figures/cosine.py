"""Cosines between class means, ordered by task, against the value of a simplex ETF."""

import numpy as np

from cillab.figures.coarse import around, few, pairs, reach_of, shown
from cillab.figures.palette import Theme, diverging, style
from cillab.figures.panels import grid, spread, with_notes
from cillab.figures.picture import Picture
from cillab.figures.registry import figure
from cillab.figures.words import MOVING_TARGET, ORACLE, SIMPLEX, after, class_labels, empty, number
from cillab.geometry.etf import ideal_cosine
from cillab.geometry.rows import pairs as pairs_of
from cillab.runs import Run, Snapshot

_SMALLEST_RANGE = 0.1  # so that a collapsed matrix looks flat instead of showing its rounding errors


def _reach(shot: Snapshot) -> float:
    cosine = shot["cosine"]
    some = few(len(cosine))
    return reach_of(cosine[some, some], len(cosine))


@figure(
    title="All cosines, by task",
    page="collapse",
    part="ages",
    needs=("cosine",),
    quantities=("ideal_cosine", "maximal_angle"),
    width=640,
)
def cosine(run: Run, step: str | int | None = None, *, theme: Theme = "light") -> Picture:
    """Cosines of the class means of a run at `step` (default: the last).

    A heat map whose neutral colour is -1/(K-1); the diagonal, always 1, is left out.
    """
    shot = run.snapshot(run.resolve(step))
    matrix = np.asarray(shot["cosine"], np.float64)
    if len(matrix) < 2:
        return with_notes(empty("cosine", "Cosines need at least two classes.", theme), run, step)
    target = ideal_cosine(len(matrix))
    # One colour scale for all steps: the largest distance from the target.
    reach = max(_SMALLEST_RANGE, *(run.snapshot(other).once(_reach) for other in spread(run)))
    labels = class_labels(run, shot["seen"].tolist())
    figure, _ = grid(1, 1)
    part = shown(matrix, np.asarray(shot["task_of_class"], np.int64), labels)
    pairs(figure, part, hover="cosine <b>%{z:.3f}</b>", ends=(target - reach, target + reach), theme=theme,
          colours=diverging(theme), colorbar=around(target, reach))  # fmt: skip
    style(figure, theme, name="cosine", height=440, margin={"t": 16})
    values = pairs_of(matrix)
    worst = int(np.nanargmax(values))
    a, b = (int(index[worst]) for index in np.triu_indices(len(matrix), 1))
    sentence = (
        f"{after(shot.id).capitalize()}, the cosines of {len(values):,} pairs of classes lie on average"
        f" {number(float(np.nanmean(np.abs(values - target))))} from {SIMPLEX} = {number(target)}; the closest pair is"
        f" {labels[a]} and {labels[b]} with {number(float(values[worst]))}."
    )
    notes = (ORACLE, "Means centred on their own average; the diagonal is left out.", MOVING_TARGET)
    return with_notes(Picture(figure, sentence + part.sentence, notes), run, step)
