"""What the Head lab and the what-if of class names share: the probe images of a step, ready to be asked with a head."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from app.learner.live import Answer
from app.shell.store import Opened

_CLOSE = 0.02  # scores in half precision, relative to their spread, that still count as the same


@dataclass(frozen=True, eq=False)
class Images:
    """The probe images of one step whose classes are seen."""

    classes: np.ndarray  # class ids, in order of first appearance
    task_of: np.ndarray  # task of each class
    positions: np.ndarray  # of the images in the probe
    labels: np.ndarray
    rows: np.ndarray  # row of the class of each image
    features: np.ndarray
    scores: np.ndarray  # of the learner itself

    @property
    def tasks(self) -> np.ndarray:
        """Task of each image."""
        return self.task_of[self.rows]

    @property
    def new(self) -> np.ndarray:
        """Which images are of the newest task."""
        return self.tasks == self.task_of.max()

    def answer(self, scores: np.ndarray) -> Answer:
        """Scores as answers."""
        return Answer(self.positions, self.labels, self.classes[scores.argmax(axis=1)], 0.0)

    @cached_property
    def recorded(self) -> Answer:
        """What the learner itself answered."""
        return self.answer(self.scores)

    def reproduced(self, scores: np.ndarray) -> bool:
        """Are these the recorded scores, up to their precision? If not, the learner scores in another way."""
        return bool(np.abs(scores - self.scores).max() <= _CLOSE * max(np.ptp(self.scores), 1e-9))


def read(view: Opened, step: int) -> Images:
    """The images of a step; there may be none."""
    shot, labels = view.snapshots[step], np.asarray(view.run.probe.labels)
    classes = np.asarray(shot["seen"])
    positions = np.flatnonzero(np.isin(labels, classes))
    row_of = {int(c): row for row, c in enumerate(classes)}
    rows = np.array([row_of[int(c)] for c in labels[positions]], dtype=np.int64)
    features, scores = (np.asarray(shot[name], dtype=np.float64)[positions] for name in ("features", "logits"))
    return Images(classes, np.asarray(shot["task_of_class"]), positions, labels[positions], rows, features, scores)


def key(view: Opened, step: int) -> tuple[str, str, float]:
    """What a bench is remembered by: run, step, and when the step was written."""
    file = view.run.path / "steps" / f"{view.steps[step]}.safetensors"
    return str(view.run.path), view.steps[step], file.stat().st_mtime
