"""Pages made of figures: their parts, the choice of one, and only that one drawn."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import streamlit as st

from app.ui import charts, html, state
from app.ui.store import Opened


class Panel(NamedTuple):
    """One figure of the package and its heading."""

    figure: str
    title: str
    width: int | None = None  # in pixels, for what is square; None = as wide as the page


class Part(NamedTuple):
    """A part of a page: what it is called, what it answers, and its figures, one under the other or two in a row."""

    label: str
    words: str
    panels: tuple[Panel, ...]
    columns: int = 1


COLLAPSE: Mapping[str, Part] = {
    "overview": Part(
        "NC1 to NC4",
        "Do images of a class shrink to a point (NC1), do the class means spread like a simplex (NC2), does the head "
        "line up with them (NC3)? Does it answer like the nearest mean (NC4)?",
        (Panel("collapse", "Neural collapse over the tasks"),),
    ),
    "classes": Part(
        "Classes and pairs",
        "Which classes hold the averages up, and which two clouds are close for their size.",
        (Panel("class_collapse", "Class by class"), Panel("variability", "Pair by pair: CDNV", 640)),
    ),
    "spectra": Part(
        "Spectra",
        "How many directions the class means and the images around them really use. A space that lost its dimensions "
        "has small spread as well.",
        (Panel("spectrum", "Eigenvalues and directions in use"),),
    ),
    "angles": Part(
        "Angles",
        "The angle between every two class means, against the one that a simplex of as many classes has.",
        (
            Panel("gram", "Gram matrix of the means beside the ideal", 1040),
            Panel("angles", "Spread of the angles"),
            Panel("generalised", "Generalised NC2"),
        ),
    ),
    "ages": Part(
        "Old and new",
        "Pairs of old classes, old with new, and new classes, against the target \N{MINUS SIGN}1/(K\N{MINUS SIGN}1) "
        "that moves with every task.",
        (Panel("angle_blocks", "Blocks by age"), Panel("cosine", "All cosines, by task", 640)),
    ),
    "sides": Part(
        "Train against test",
        "The same measures on training images and on test images: collapse of what was fitted need not be collapse of "
        "what is asked.",
        (Panel("sides", "Training side and test side"),),
    ),
}

DRIFT: Mapping[str, Part] = {
    "accuracy": Part(
        "Accuracy",
        "How well each task is answered after each task, and what the curve over all classes looks like.",
        (Panel("accuracy_matrix", "Accuracy by task"), Panel("accuracy", "Accuracy over the tasks")),
        columns=2,
    ),
    "forgetting": Part(
        "Forgetting",
        "What was known and is no more, task by task, and every summary that papers make of the one matrix.",
        (Panel("forgetting", "Forgotten, by task"), Panel("variants", "All summaries, side by side")),
    ),
    "means": Part(
        "Drift of means",
        "Where the mean of a class was when it was learnt, and where the same images are now.",
        (Panel("drift", "Cosine to the stored mean"), Panel("prototypes", "Stored against measured means")),
    ),
    "rotation": Part(
        "Change or rotation",
        "A rotation moves every feature and costs nothing that a head could not follow. These measures tell it from "
        "real change.",
        (Panel("similarity", "Features of the probe images, now against the end of their task"),),
    ),
    "retention": Part(
        "Deep and shallow",
        "Is it gone from the features, crowded out by more classes, or only lost by the head?",
        (Panel("retention", "Three kinds of forgetting"),),
    ),
    "confusion": Part(
        "Who is taken for whom",
        "Every test image of the classes seen: its own class, and the class that the network answers.",
        (Panel("confusion", "Confusion of classes", 640),),
    ),
    "calibration": Part(
        "Calibration",
        "Is the network right as often as it says, on old classes and on new ones?",
        (Panel("calibration", "Confidence against accuracy"),),
    ),
}

TRAINING = Part(
    "While training",
    "Collapse epoch by epoch, not only at the end of a task, and how far the vertices of old classes turned when the "
    "frame grew.",
    (Panel("epochs", "Through the epochs of all tasks"),),
)

TEXT: Mapping[str, Part] = {
    "names": Part(
        "Class names",
        "A class is its name in a sentence. Prompts learn the sentence: how far does that carry the names, those of "
        "earlier tasks included, and do they still differ?",
        (
            Panel("text_movement", "Learnt names against frozen ones"),
            Panel("text_similarity", "Names among themselves"),
        ),
    ),
    "gap": Part(
        "Modality gap",
        "Images and names share one space, yet their clouds lie apart. What counts is which name is nearest.",
        (Panel("modality_gap", "Images against names"),),
    ),
    "transport": Part(
        "Transport",
        "Old images are gone; a Gaussian per class stands in for them. When the encoder moves on, the Gaussian is to "
        "follow. Did it arrive?",
        (Panel("transport", "Stored, calibrated and measured Gaussians"),),
    ),
    "bias": Part(
        "Old against new",
        "The largest score among earlier and among the newest classes, for features of either.",
        (Panel("logit_bias", "Which side the scores favour"),),
    ),
}


def collapse(run: Opened) -> Mapping[str, Part]:
    """The parts of the Collapse page that a run has: training epochs only where the learner kept a record of them."""
    kept = any("internals/etf/epochs" in shot for shot in run.snapshots)
    return {**COLLAPSE, "training": TRAINING} if kept else COLLAPSE


def choose(parts: Mapping[str, Part], key: str) -> str:
    """The row of parts; the one chosen stands in the URL under `key`."""
    names = list(parts)
    chosen = st.segmented_control(
        "Part", names, key=key, default=names[0], required=True, format_func=lambda name: parts[name].label,
        label_visibility="collapsed", **state.bound(),
    )  # fmt: skip
    chosen = chosen if chosen in parts else names[0]
    html.show(f"<p>{html.safe(parts[chosen].words)}</p>", "ci-sentence")
    return chosen


def draw(part: Part, run: Opened, step: int, **options: Any) -> None:
    """The figures of one part; `options` go to all of them."""
    columns = st.columns(part.columns, gap="large") if part.columns > 1 else []
    for at, panel in enumerate(part.panels):
        with columns[at % part.columns] if columns else st.container(width=panel.width or "stretch"):
            charts.draw(panel.figure, panel.title, run.run, step, key=f"{panel.figure}-{run.key}", **options)
