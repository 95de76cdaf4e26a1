"""Accuracy along a long tail: each class against its number of training images, and the means of the three thirds."""

from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float64, Int64

from cillab.figures.palette import ACCENT, MUTED, SECOND, THIRD, Theme, style
from cillab.figures.picture import Picture
from cillab.figures.registry import Nothing, figure
from cillab.figures.words import after, class_labels, percent, plural
from cillab.protocol.rarity import THIRDS, falling, thirds_of
from cillab.runs import Run

_COLOURS = {"head": ACCENT, "medium": THIRD, "tail": SECOND}
_MARKS = {"head": "circle", "medium": "diamond", "tail": "square"}


@dataclass(frozen=True, eq=False)
class Rarity:
    """Classes with training images, in the order in which their number falls."""

    step: str
    accuracy: Float64[np.ndarray, " cls"]
    images: Int64[np.ndarray, " cls"]
    thirds: tuple[str, ...]
    labels: tuple[str, ...]

    def mean(self, third: str) -> float:
        """Mean accuracy of the classes of one third; NaN if there is none."""
        own = self.accuracy[np.array(self.thirds) == third]
        return float(own.mean()) if len(own) else float("nan")


def read_rarity(run: Run, step: str | int | None = None) -> Rarity:
    """Accuracy by class from the confusion counts.

    By default the last step at which every seen class had images: in base-to-new the end of the base classes, so that
    they compete among themselves, as the protocol asks.
    """
    steps = [s for s in run.steps if "train_images" in run.snapshot(s)]
    whole = [s for s in steps if (np.asarray(run.snapshot(s)["train_images"]) > 0).all()]
    if not run.protocol.scenario.falls or not whole:
        raise Nothing
    shot = run.snapshot(whole[-1] if step is None else run.resolve(step))
    if "train_images" not in shot:
        raise Nothing
    seen, images = np.asarray(shot["seen"], np.int64), np.asarray(shot["train_images"], np.int64)
    thirds = thirds_of(_trained(run))
    confusion = np.asarray(shot["confusion"], np.float64)
    accuracy = np.diag(confusion) / np.maximum(confusion.sum(axis=1), 1)
    rows = [row for row in np.lexsort((seen, -images)).tolist() if images[row] > 0]
    labels = class_labels(run, seen[rows].tolist())
    return Rarity(shot.id, accuracy[rows], images[rows], tuple(thirds[int(c)] for c in seen[rows]), tuple(labels))


def _trained(run: Run) -> tuple[int, ...]:
    """Classes of the whole stream that come with images, most first; by label in runs that did not count them."""
    if run.info.train_images:
        return falling(run.info.train_images)
    tasks = run.info.tasks[:1] if run.protocol.scenario.names_only else run.info.tasks
    return tuple(sorted(c for task in tasks for c in task))


@figure(
    title="Accuracy by number of images",
    page="drift",
    part="rarity",
    needs=("train_images", "confusion"),
    when=lambda run: run.protocol.scenario.falls,
    lacks="Every class has the same number of training images in this run.",
)
def head_medium_tail(run: Run, step: str | int | None = None, *, theme: Theme = "light") -> Picture:
    """Accuracy of head, medium and tail classes of a run with a long tail.

    A mark per class, a line for the mean of each third, and the number of training images as grey bars below.
    """
    data = read_rarity(run, step)
    figure, x = go.Figure(), np.arange(len(data.accuracy))
    figure.add_bar(
        x=x, y=data.images, name="training images", yaxis="y2", marker={"color": MUTED[theme], "opacity": 0.3},
        hoverinfo="skip", width=0.9,
    )  # fmt: skip
    for third in THIRDS:
        own = np.flatnonzero(np.array(data.thirds) == third)
        if not len(own):
            continue
        colour, mean = _COLOURS[third][theme], data.mean(third)
        figure.add_scatter(
            x=x[own], y=data.accuracy[own].astype(np.float32), name=third, mode="markers", legendgroup=third,
            marker={"color": colour, "symbol": _MARKS[third], "size": 8},
            customdata=[[data.labels[i], int(data.images[i])] for i in own],
            hovertemplate="%{customdata[0]}<br>%{customdata[1]} training images<br><b>%{y:.0%}</b><extra></extra>",
        )  # fmt: skip
        figure.add_scatter(
            x=[x[own[0]] - 0.45, x[own[-1]] + 0.45], y=[mean, mean], name=f"mean of the {third}", mode="lines",
            line={"color": colour, "width": 2.5}, legendgroup=third, showlegend=False, hoverinfo="skip",
        )  # fmt: skip
        figure.add_annotation(
            x=float(x[own].mean()), y=1.1, text=f"<b>{third}</b>  {percent(mean)}", font={"color": colour, "size": 13}
        )
    style(figure, theme, name="head_medium_tail", height=420, margin={"t": 16}, showlegend=False)
    figure.update_xaxes(title_text="classes, from many to few training images", showticklabels=False, showgrid=False)
    shares = {"title": {"text": "test images right"}, "tickformat": ".0%", "range": [-0.03, 1.16], "domain": [0.3, 1]}
    shares |= {"tickvals": [0, 0.25, 0.5, 0.75, 1]}
    most = int(data.images.max())
    counts = {"title": {"text": "training<br>images"}, "range": [0, 1.05 * most], "domain": [0, 0.2]}
    figure.update_layout(yaxis=shares, yaxis2={**counts, "tickvals": [0, most], "anchor": "x"}, xaxis={"anchor": "y2"})
    return Picture(figure, _sentence(data), ("Thirds by label order, along which the training images fall.",))


def _sentence(data: Rarity) -> str:
    means = ", ".join(f"{percent(data.mean(third))} of the {third}" for third in THIRDS if third in data.thirds)
    most, least = int(data.images.max()), int(data.images.min())
    return (
        f"{after(data.step).capitalize()}, test images are right by class on average: {means}; the commonest class had"
        f" {plural(most, 'training image')}, the rarest {plural(least, 'training image')}."
    )
