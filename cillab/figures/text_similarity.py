"""Cosines between class names, as the frozen text encoder sees them and as the prompts have made them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from cillab.figures.coarse import pairs, shown
from cillab.figures.palette import Theme, diverging
from cillab.figures.panels import finished, grid, title
from cillab.figures.picture import Picture
from cillab.figures.registry import Nothing, figure
from cillab.figures.words import after, class_labels, number
from cillab.geometry.rows import cosine_matrix
from cillab.geometry.spectrum import effective_rank
from cillab.runs import Run

_PANELS = ("frozen", "prototypes")
_TITLES = {"frozen": "frozen text", "prototypes": "with the prompt"}


@dataclass(frozen=True, eq=False)
class TextSimilarity:
    """Cosine matrices with rows in the order of the clusters, or of the stream where there are none."""

    step: str
    cosines: dict[str, Float64[np.ndarray, "cls cls"]]  # frozen, prototypes
    clusters: Int64[np.ndarray, " cls"] | None
    labels: tuple[str, ...]
    tasks: Int64[np.ndarray, " cls"] | None = None  # of each row, where the rows are in the order of the stream


def within(cosines: Float64[np.ndarray, "cls cls"], clusters: Int64[np.ndarray, " cls"]) -> tuple[float, float]:
    """Mean cosine of pairs inside a cluster, and of pairs of different clusters; NaN where there is no pair."""
    upper = np.triu(np.ones_like(cosines, dtype=bool), 1)
    same = clusters[:, None] == clusters[None]
    parts = (cosines[upper & same], cosines[upper & ~same])
    inside, between = (float(part.mean()) if len(part) else float("nan") for part in parts)
    return inside, between


def read_text_similarity(run: Run, step: str | int | None = None) -> TextSimilarity:
    """The two matrices of one step."""
    shot = run.snapshot(run.resolve(step))
    if not all(f"internals/text/{name}" in shot for name in _PANELS):
        raise Nothing
    clusters = shot.get("internals/text/clusters")
    rows = np.arange(len(shot["seen"]))
    if clusters is not None:
        clusters = np.asarray(clusters, np.int64)
        rows = np.argsort(clusters, kind="stable")
        clusters = clusters[rows]
    cosines = {name: cosine_matrix(np.asarray(shot[f"internals/text/{name}"], np.float64)[rows]) for name in _PANELS}
    labels = class_labels(run, np.asarray(shot["seen"])[rows].tolist())
    tasks = np.asarray(shot["task_of_class"], np.int64) if clusters is None else None
    return TextSimilarity(shot.id, cosines, clusters, tuple(labels), tasks)


@figure(
    title="Names among themselves",
    page="text_transport",
    part="names",
    needs=("internals/text/prototypes", "internals/text/frozen"),
    lacks="This learner keeps no text prototypes.",
    quantities=("effective_rank",),
)
def text_similarity(run: Run, step: str | int | None = None, *, theme: Theme = "light") -> Picture:
    """Cosines of the text prototypes of a run at `step` (default: the last), frozen and learnt.

    Two heat maps on one scale from -1 to 1, with lines between the clusters, or between the tasks.
    """
    data = read_text_similarity(run, step)
    figure, cells = grid(2, 2, horizontal_spacing=0.06)
    groups, word = (data.tasks, "task") if data.clusters is None else (data.clusters, "cluster")
    groups = np.zeros(len(data.labels), np.int64) if groups is None else groups
    parts = [shown(data.cosines[name], groups, data.labels, word) for name in _PANELS]
    for cell, name, part in zip(cells, _PANELS, parts, strict=True):
        pairs(figure, part, hover="cosine <b>%{z:.3f}</b>", ends=(-1.0, 1.0), theme=theme, cell=cell,
              colours=diverging(theme), showscale=cell == cells[-1], colorbar={"tickvals": [-1, 0, 1]})  # fmt: skip
        title(figure, cell, _TITLES[name], f"effective rank {number(effective_rank(data.cosines[name]))}", theme)
    finished(figure, theme, "text_similarity", 1, height=470)
    figure.update_xaxes(title_text=f"classes, by {word}")
    figure.update_yaxes(title_text="")
    order = "clusters of meaning, found once on the frozen text" if data.clusters is not None else "the stream"
    return Picture(
        figure,
        _sentence(data) + parts[0].sentence,
        (f"Class names in the order of {order}; the diagonal is left out.",),
    )


def _sentence(data: TextSimilarity) -> str:
    before, now = (effective_rank(data.cosines[name]) for name in _PANELS)
    text = f"{after(data.step).capitalize()}, the texts of {len(data.labels)} classes have an effective rank of"
    text += f" {number(now)}; frozen it is {number(before)}."
    if data.clusters is None or len(set(data.clusters.tolist())) == len(data.clusters):
        return text
    (inside, between), (inside_now, between_now) = (within(data.cosines[name], data.clusters) for name in _PANELS)
    return (
        f"{text} The mean cosine inside clusters went from {number(inside)} to {number(inside_now)}, between clusters"
        f" from {number(between)} to {number(between_now)}."
    )
