"""CDNV of every pair of classes: which two clouds are close for their size."""

import numpy as np

from cillab.figures.coarse import few, pairs, shown
from cillab.figures.numbers import LOGGED
from cillab.figures.palette import Theme, style
from cillab.figures.panels import grid, log_colours, notes_of, spread
from cillab.figures.picture import Picture
from cillab.figures.registry import figure
from cillab.figures.words import ORACLE, after, class_labels, empty, images_note, number
from cillab.geometry.nc1 import cdnv
from cillab.runs import Run, Snapshot


def _ends(shot: Snapshot) -> tuple[float, float]:
    """Between what nearly all pairs of one step lie; NaN where there is none."""
    some = few(len(shot["means/now"]))
    pairs = cdnv(shot["nc/within"][some], shot["means/now"][some]).pairs
    pairs = pairs[np.isfinite(pairs) & (pairs > 0)]
    return (float(np.quantile(pairs, 0.005)), float(np.quantile(pairs, 0.995))) if len(pairs) else (np.nan, np.nan)


@figure(
    title="Pair by pair: CDNV",
    page="collapse",
    part="classes",
    needs=("means/now", "nc/within"),
    quantities=("cdnv",),
    width=640,
)
def variability(run: Run, step: str | int | None = None, *, theme: Theme = "light") -> Picture:
    """CDNV of the pairs of classes of a run at `step` (default: the last).

    A heat map, bright where two classes are easily confused by the nearest mean.
    """
    shot = run.snapshot(run.resolve(step))
    values = cdnv(shot["nc/within"], shot["means/now"]).pairs
    if len(values) < 2:
        return empty("variability", "CDNV needs at least two classes.", theme)
    found = np.array([run.snapshot(s).once(_ends) for s in spread(run)])
    found = found[np.isfinite(found).all(axis=1)]
    least, most = (float(found[:, 0].min()), float(found[:, 1].max())) if len(found) else (1e-3, 1.0)
    ends, bar = log_colours(least, most)
    labels = class_labels(run, shot["seen"].tolist())
    part = shown(values, np.asarray(shot["task_of_class"], np.int64), labels)
    with np.errstate(divide="ignore"):
        z = np.log10(part.cells)
    figure, _ = grid(1, 1)
    logs = part._replace(cells=np.where(np.isneginf(z), ends[0], z))
    pairs(figure, logs, hover="CDNV <b>%{customdata:.3g}</b>", ends=ends, theme=theme,
          customdata=part.cells.astype(np.float32), meta=LOGGED, colorbar=bar)  # fmt: skip
    style(figure, theme, name="variability", height=440, margin={"t": 16})
    upper = np.where(np.triu(np.ones_like(values), 1) > 0, values, np.nan)
    a, b = np.unravel_index(int(np.nanargmax(upper)), upper.shape)
    sentence = (
        f"{after(shot.id).capitalize()}, CDNV is {number(float(np.nanmean(upper)))} on average over pairs; the"
        f" hardest pair is {labels[a]} and {labels[b]} with {number(float(upper[a, b]))}."
    )
    notes = notes_of(run, shot.id, ORACLE, images_note(run), "Colour is logarithmic and the same at every step.")
    return Picture(figure, sentence + part.sentence, notes)
