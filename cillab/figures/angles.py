"""How the angles between class means are spread: old with old, old with new, new with new, against the simplex."""

from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float64

from cillab.figures.palette import ACCENT, CURSOR, SECOND, THIRD, Theme, see_through, style
from cillab.figures.panels import with_notes
from cillab.figures.picture import Picture
from cillab.figures.words import MOVING_TARGET, ORACLE, SIMPLEX, after, empty, number
from cillab.runs import Run, Snapshot

_BINS = (12, 50)  # fewest and most
_AGES = ("old with old", "old with new", "new with new")


@dataclass(frozen=True, eq=False)
class Angles:
    """Histogram of cosines by the age of the two classes, in bins that are the same at every step."""

    step: str
    edges: Float64[np.ndarray, " edge"]
    shares: Float64[np.ndarray, "3 bin"]  # of the pairs of each age; a row of zeros where there is no pair
    pairs: tuple[int, int, int]
    means: tuple[float, float, float]
    target: float
    highest: float  # over all steps of the run: one axis for all of them


def split_pairs(cosine: np.ndarray, task_of_class: np.ndarray) -> list[Float64[np.ndarray, " pair"]]:
    """Cosines of the pairs old/old, old/new and new/new; classes of the newest task are new."""
    a, b = np.triu_indices(len(cosine), 1)
    values = np.asarray(cosine, np.float64)[a, b]
    new = np.asarray(task_of_class) == np.max(task_of_class, initial=0)
    age = new[a].astype(int) + new[b].astype(int)
    return [values[(age == n) & np.isfinite(values)] for n in range(3)]


def read_angles(run: Run, step: str | int | None = None) -> Angles:
    """Histograms of one step, with bins and height from all steps there are."""
    chosen = run.resolve(step)
    found = [run.snapshot(s).once(_extent) for s in run.steps]
    low, high = (min(one[0] for one in found), max(one[1] for one in found))
    low, high = (low, high) if low <= high else (-1.0, 1.0)
    margin = max(0.02, 0.03 * (high - low))
    most = max(one[2] for one in found)
    bins = int(np.clip(2.5 * most ** (1 / 3), *_BINS))  # Rice's rule, a little finer
    low, high = max(-1.0, low - margin), min(1.0, high + margin)
    shares = {s: run.snapshot(s).once(_shares, low, high, bins) for s in run.steps}
    shot = run.snapshot(chosen)
    *_, pairs, means = shot.once(_extent)
    count = len(shot["cosine"])
    return Angles(
        chosen,
        np.linspace(low, high, bins + 1),
        shares[chosen],
        pairs,
        means,
        -1 / (count - 1) if count > 1 else float("nan"),
        max(float(share.max()) for share in shares.values()),
    )


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


def draw_angles(data: Angles, theme: Theme = "light") -> Picture:
    """Three outlines over one axis of cosines and a line at -1/(K-1)."""
    if not sum(data.pairs):
        return empty("angles", "Angles need at least two classes.", theme)
    figure = go.Figure()
    middles = (data.edges[:-1] + data.edges[1:]) / 2
    degrees = np.degrees(np.arccos(np.clip(middles, -1, 1))).astype(np.float32)
    for age, colours, dash, share, pairs in zip(
        _AGES, (ACCENT, SECOND, THIRD), ("solid", "dash", "dot"), data.shares, data.pairs, strict=True
    ):
        figure.add_scatter(
            x=middles.astype(np.float32),
            y=share.astype(np.float32),
            customdata=degrees,
            name=f"{age} ({pairs:,})",
            visible=True if pairs else "legendonly",
            mode="lines",
            line={"color": colours[theme], "width": 1.8, "shape": "hvh", "dash": dash},
            fill="tozeroy",
            fillcolor=see_through(colours[theme], 0.16),
            hovertemplate=f"{age}<br>cosine %{{x:.2f}} (%{{customdata:.0f}}°)<br>"
            "<b>%{y:.1%}</b> of its pairs<extra></extra>",
        )
    style(figure, theme, name="angles", height=340)
    figure.update_xaxes(title_text="cosine of two class means", range=[float(data.edges[0]), float(data.edges[-1])])
    figure.update_yaxes(title_text="share of its pairs", range=[0, 1.1 * data.highest], tickformat=".0%")
    figure.add_vline(x=data.target, line={"color": CURSOR[theme], "width": 1.5, "dash": "dash"}, name="target")
    figure.add_annotation(
        x=data.target,
        y=1,
        yref="paper",
        yanchor="top",
        xanchor="left",
        xshift=6,
        text=f"{SIMPLEX} = {number(data.target)}",
    )
    parts = [f"{age} {number(mean)}" for age, mean, n in zip(_AGES, data.means, data.pairs, strict=True) if n]
    sentence = (
        f"{after(data.step).capitalize()}, the mean cosine is {', '.join(parts)}; a simplex has {number(data.target)}."
    )
    return Picture(figure, sentence, (ORACLE, MOVING_TARGET))


def angles(run: Run, step: str | int | None = None, *, theme: Theme = "light") -> Picture:
    """Spread of the angles between class means of a run at `step` (default: the last)."""
    picture = draw_angles(read_angles(run, step), theme) if run.steps else empty("angles", "No step yet.", theme)
    return with_notes(picture, run, step)
