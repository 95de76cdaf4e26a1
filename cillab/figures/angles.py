"""How the angles between class means are spread: old with old, old with new, new with new, against the simplex."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from cillab.figures.palette import CURSOR, ROLES, Theme, see_through, style
from cillab.figures.panels import grid, line, spread, with_notes
from cillab.figures.picture import Picture
from cillab.figures.registry import figure
from cillab.figures.words import MOVING_TARGET, ORACLE, SIMPLEX, after, empty, number
from cillab.geometry.rows import pairs
from cillab.runs import Run, Snapshot

_BINS = (12, 50)  # fewest and most
_NOWHERE = -2.0  # a cosine outside of every axis: one class has no simplex
_TOO_FEW = "Angles need at least two classes."
PAIRS = {  # by the ages of the two classes: role, dash, mark
    "old with old": ("old", "solid", "circle"),
    "old with new": ("mixed", "dash", "square"),
    "new with new": ("new", "dot", "diamond"),
}
_AGES = tuple(PAIRS)


@dataclass(frozen=True, eq=False)
class OfStep:
    """Cosines of the pairs of classes at one step, by the age of the two; zeros and NaN where an age has no pair."""

    shares: Float64[np.ndarray, "3 bin"]  # of the pairs of each age
    pairs: tuple[int, int, int]
    means: tuple[float, float, float]
    target: float


@dataclass(frozen=True, eq=False)
class Angles:
    """Histograms of cosines at every step of a run, in the same bins."""

    edges: Float64[np.ndarray, " edge"]
    highest: float  # over all steps: one axis for all of them
    steps: dict[str, OfStep]


def split_pairs(cosine: np.ndarray, task_of_class: np.ndarray) -> list[Float64[np.ndarray, " pair"]]:
    """Cosines of the pairs old/old, old/new and new/new; classes of the newest task are new."""
    values = np.asarray(cosine, np.float64)
    new = np.asarray(task_of_class) == np.max(task_of_class, initial=0)
    old, mixed, both = pairs(values[~new][:, ~new]), values[~new][:, new].ravel(), pairs(values[new][:, new])
    return [found[np.isfinite(found)] for found in (old, mixed, both)]


def read_angles(run: Run, at: Sequence[str] | None = None) -> Angles:
    """Histograms of every step, or of the steps `at` which one looks."""
    shots = {step: run.snapshot(step) for step in run.steps if at is None or step in at}
    found = {step: shot.once(_extent) for step, shot in shots.items()}
    low, high = min(one[0] for one in found.values()), max(one[1] for one in found.values())
    low, high = (low, high) if low <= high else (-1.0, 1.0)
    margin = max(0.02, 0.03 * (high - low))
    most = max(one[2] for one in found.values())
    bins = int(np.clip(2.5 * most ** (1 / 3), *_BINS))  # Rice's rule, a little finer
    low, high = max(-1.0, low - margin), min(1.0, high + margin)
    steps = {}
    for step, shot in shots.items():
        *_, pairs, means = found[step]
        count = len(shot["cosine"])
        target = -1 / (count - 1) if count > 1 else _NOWHERE
        steps[step] = OfStep(shot.once(_shares, low, high, bins), pairs, means, target)
    highest = max(float(one.shares.max()) for one in steps.values())
    return Angles(np.linspace(low, high, bins + 1), highest, steps)


def _extent(shot: Snapshot) -> tuple[float, float, int, tuple[int, int, int], tuple[float, float, float]]:
    """Smallest and largest cosine of one step, how many pairs there are, and by age how many and their mean."""
    groups = split_pairs(shot["cosine"], shot["task_of_class"])
    values = np.concatenate(groups)
    ends = (float(values.min()), float(values.max())) if len(values) else (np.inf, -np.inf)
    (a, b, c), (x, y, z) = (len(g) for g in groups), (float(g.mean()) if len(g) else np.nan for g in groups)
    return *ends, len(values), (a, b, c), (x, y, z)


def _shares(shot: Snapshot, low: float, high: float, bins: int) -> Float64[np.ndarray, "3 bin"]:
    """Of the pairs of each age at one step, the share in each of `bins` equal bins; zeros where there is no pair."""
    groups = split_pairs(shot["cosine"], shot["task_of_class"])
    return np.stack([np.histogram(values, bins, (low, high))[0] / max(len(values), 1) for values in groups])


def angles_sentence(data: Angles, step: str) -> str:
    """The mean cosines of a step, against a simplex."""
    one = data.steps[step]
    if not sum(one.pairs):
        return _TOO_FEW
    parts = [f"{age} {number(mean)}" for age, mean, n in zip(_AGES, one.means, one.pairs, strict=True) if n]
    return f"{after(step).capitalize()}, the mean cosine is {', '.join(parts)}; a simplex has {number(one.target)}."


def angles_notes(data: Angles, step: str) -> tuple[str, ...]:
    """How to read a step, and how many pairs there are."""
    counts = (f"{n:,} {age}" for age, n in zip(_AGES, data.steps[step].pairs, strict=True))
    return ORACLE, MOVING_TARGET, f"Pairs of classes: {', '.join(counts)}."


@figure(
    title="Angles between class means",
    page="collapse",
    needs=("cosine",),
    quantities=("equiangularity", "maximal_angle", "ideal_cosine"),
)
def angles(run: Run, step: str | int | None = None, *, theme: Theme = "light") -> Picture:
    """Spread of the angles between class means of a run at `step` (default: the last).

    Three outlines over one axis of cosines and a line at -1/(K-1).
    """
    step = run.resolve(step)
    data = read_angles(run, spread(run, step))
    if not any(sum(one.pairs) for one in data.steps.values()):
        return with_notes(empty("angles", _TOO_FEW, theme), run, step)
    (figure, _), target = grid(1, 1), data.steps[step].target
    middles = (data.edges[:-1] + data.edges[1:]) / 2
    degrees = np.degrees(np.arccos(np.clip(middles, -1, 1))).astype(np.float32)
    for (age, (role, dash, _)), share in zip(PAIRS.items(), data.steps[step].shares, strict=True):
        colour = ROLES[role][theme]
        line(figure, middles, share, age, colour, mark="", customdata=degrees, fill="tozeroy",
             fillcolor=see_through(colour, 0.16), line={"color": colour, "width": 1.8, "shape": "hvh", "dash": dash},
             where="cosine %{x:.2f} (%{customdata:.0f}°)", form="%{y:.1%} of its pairs")  # fmt: skip
    style(figure, theme, name="angles", height=340)
    figure.update_xaxes(title_text="cosine of two class means", range=[float(data.edges[0]), float(data.edges[-1])])
    figure.update_yaxes(title_text="share of its pairs", range=[0, 1.1 * data.highest], tickformat=".0%")
    figure.add_vline(x=target, line={"color": CURSOR[theme], "width": 1.5, "dash": "dash"}, name="cursor")
    figure.add_annotation(
        x=target, y=1, yref="paper", yanchor="top", xanchor="left", xshift=6, text=SIMPLEX, name="cursor"
    )
    return with_notes(Picture(figure, angles_sentence(data, step), angles_notes(data, step)), run, step)
