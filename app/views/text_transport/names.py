"""What if the names moved: another head made of the class names that a run recorded, on its probe images."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st

from app.images import changes
from app.learner import benches
from app.learner.live import Answer
from app.shell import html, state
from app.shell.store import Opened, fragment
from cillab.figures import Group, Part
from cillab.geometry.heads import confidence
from cillab.geometry.rows import unit

_LEARNT, _FROZEN = "internals/text/prototypes", "internals/text/frozen"
WHAT_IF = Group(
    Part(
        "What if?",
        "The images stay where they are; the names move. Nothing is trained: scores are cosines with other names.",
    ),
    (),
)


@dataclass(frozen=True, eq=False)
class Bench:
    """One step, ready to be asked: its probe images, and names."""

    images: benches.Images
    features: np.ndarray  # of length 1
    learnt: np.ndarray
    frozen: np.ndarray
    scale: float  # of the learner's cosines
    gap: np.ndarray  # centre of the class means of training images minus centre of the learnt names, on the sphere

    @property
    def new(self) -> np.ndarray:
        """Which columns are of the newest task."""
        return self.images.task_of == self.images.task_of.max()

    def scores(self, share: float = 0.0, closed: float = 0.0, handicap: float = 0.0) -> np.ndarray:
        """S cos(v - closed * gap, (1 - share) learnt + share * frozen), less `handicap` for the newest classes."""
        names = unit((1 - share) * self.learnt + share * self.frozen)
        return self.scale * unit(self.features - closed * self.gap) @ names.T - handicap * self.new


@st.cache_resource(max_entries=16, show_spinner=False)
def _bench(key: tuple[str, str, float], _view: Opened, _at: int) -> Bench | None:
    shot, images = _view.snapshots[_at], benches.read(_view, _at)
    learnt, frozen = (unit(np.asarray(shot[name], np.float64)) for name in (_LEARNT, _FROZEN))
    if not len(images.positions) or images.features.shape[1] != learnt.shape[1]:
        return None
    features = unit(images.features)
    cosines = features @ learnt.T
    scale = float((cosines * images.scores).sum() / max((cosines**2).sum(), 1e-12))
    if not images.reproduced(scale * cosines):
        return None  # the learner scores in another way: what follows would not be about it
    gap = unit(np.asarray(shot["means/now"], np.float64)).mean(axis=0) - learnt.mean(axis=0)
    return Bench(images, features, learnt, frozen, scale, gap)


def bench(run: Opened, step: int) -> Bench | None:
    """The step as a bench, read once; None where its scores are not cosines of features and names."""
    return _bench(benches.key(run, step), run, step)


def controls() -> dict[str, float]:
    """Everything that can be changed, in the URL."""
    share = st.slider(
        "Learnt names \N{LEFT RIGHT ARROW} frozen names", 0.0, 1.0, 0.0, 0.05, key="names", **state.bound(),
        help="0 is what the prompts learnt, 1 the names in the hand template: no prompt, on the features of this step.",
    )  # fmt: skip
    closed = st.slider(
        "Close the modality gap", -0.5, 1.5, 0.0, 0.05, key="close", **state.bound(),
        help="Shifts all images by this share of the vector from the centre of the names to the centre of the class "
        "means (of training images, so that no test image enters).",
    )  # fmt: skip
    handicap = st.slider(
        "Taken off the scores of the newest task", -5.0, 5.0, 0.0, 0.25, key="handicap", **state.bound(),
        help="In the unit of the scores. A learner that leans towards the newest classes gains from a little.",
    )  # fmt: skip
    warmth = st.slider(
        "Temperature, power of ten", -1.0, 2.0, 0.0, 0.1, key="heat", **state.bound(),
        help="Divides the scores. It changes how sure the network is and never which class it chooses.",
    )  # fmt: skip
    return {
        "share": float(share), "closed": float(closed), "handicap": float(handicap), "warmth": 10.0 ** float(warmth),
    }  # fmt: skip


@fragment
def what_if(run: Opened, step: int) -> None:
    """Sliders over names, gap, handicap and temperature; accuracy and changed answers, answered at once."""
    found = bench(run, step)
    if found is None or len(found.images.classes) < 2:
        html.empty(
            "No what-if at this step",
            "It takes two classes with probe images, and scores that are cosines of features and learnt names.",
        )
        return
    left, right = st.columns([1, 1.35], gap="large")
    with left:
        asked = controls()
        html.note(f"The learner multiplies its cosines by {html.number(found.scale)}: read from its own scores.")
    before = found.images.answer(found.scores())
    scores = found.scores(asked["share"], asked["closed"], asked["handicap"])
    after = found.images.answer(scores)
    with right:
        _numbers(run, found, before, after, scores, asked)
    changes.pictures(run, before, after, "No answer differs from those with the learnt names.")


def _numbers(
    run: Opened, found: Bench, before: Answer, after: Answer, scores: np.ndarray, asked: dict[str, Any]
) -> None:
    images, sure = found.images, confidence(scores, asked["warmth"])
    with st.container(border=True, key="names-numbers"):
        html.show(html.facts(changes.facts(before, after, images.new, sure)))
        html.show(changes.by_task(before, after, images.tasks, run.tasks_total, "with the learnt names"))
        html.note(changes.on_what(len(images.positions)))
