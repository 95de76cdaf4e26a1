"""Evaluation while a stream flows: the area under the curve of what was exposed, and accuracy on what is to come."""

from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import torch
from jaxtyping import Float64

from cillab.core.contract import Learner, Progress, Task
from cillab.core.state import undone_on_failure
from cillab.geometry.accuracy import a_auc, mtil
from cillab.protocol.scenario import Scenario
from cillab.runs import Run
from cillab.streams.stream import Stream

BATCH = 128


class _NamesOnly(Task):
    """Classes of a task to come: their names, and no image."""

    def __init__(self, index: int, class_names: dict[int, str]) -> None:
        self.index, self.classes, self.class_names = index, tuple(class_names), class_names

    def __len__(self) -> int:
        return 0

    def batches(self, batch_size: int, shuffle: torch.Generator | None = None) -> Iterator:
        return iter(())


class _Done(Exception):
    """Ends the block in which a learner was told more than it may keep."""


def ahead(learner: Learner, stream: Stream, task_index: int) -> Iterator[Progress | Float64[np.ndarray, " task"]]:
    """Accuracy on the test images of every task after `task_index`, its class names told; the last thing yielded.

    The learner takes the names of all tasks to come as tasks without images, is asked, and is put back as it was. All
    classes compete, or, where the task of an image is known at test time, only that task's. NaN without test images.
    """
    later = range(task_index + 1, len(stream))
    found = np.full(len(later), np.nan)
    with suppress(_Done), undone_on_failure(learner.parts()):
        for j in later:
            names = {c: stream.class_names[c] for c in stream.classes[j]}
            for _ in learner.observe(_NamesOnly(j, names)):
                pass
        for place, j in enumerate(later):
            test, hits = stream.test(j), 0
            if not len(test):
                continue
            own = torch.tensor([c in stream.classes[j] for c in learner.seen])
            ids = torch.tensor(learner.seen)
            for images, labels in test.batches(BATCH):
                with torch.no_grad():
                    logits = learner.logits(images).cpu()
                if stream.scenario.task_id:
                    logits = logits.masked_fill(~own, -torch.inf)
                hits += int((ids[logits.argmax(dim=1)] == labels.cpu()).sum())
                yield Progress("ahead", place, len(later))
            found[place] = hits / len(test)
        raise _Done
    yield found


def exposure_of(run: Run, scenario: Scenario) -> dict[str, float | None]:
    """The numbers that a scenario defines beyond the common ones; None where this run does not define them.

    `a_auc`: area under accuracy on the classes exposed so far, over the images seen; of one test, that test.
    `transfer`, `mtil_avg`, `mtil_last`: `geometry.accuracy.mtil`, the first two where every task was tested ahead.
    """
    steps, metrics = run.task_steps, run.metrics()
    found: dict[str, float | None] = {}
    if scenario.exposes:
        seen = metrics.over("accuracy/seen", steps)
        images = np.cumsum(metrics.over("cost/exposed", steps))
        found["a_auc"] = float(seen[0]) if len(seen) == 1 else a_auc(seen, images)
    if scenario.transfers:
        matrix = _whole(run, "accuracy/within_task" if scenario.task_id else "accuracy/row")
        found["mtil_last"] = float(matrix[-1].mean())
        if np.isfinite(matrix).all():
            numbers = mtil(matrix.tolist())
            found["transfer"] = numbers.transfer if np.isfinite(numbers.transfer) else None
            found["mtil_avg"] = numbers.average
    return found


def _whole(run: Run, lower: str) -> Float64[np.ndarray, "task task"]:
    """R with the entries above the diagonal where the tasks to come were tested; NaN where they were not."""
    steps = run.task_steps
    matrix = np.full((len(steps), len(steps)), np.nan)
    for t, step in enumerate(steps):
        shot = run.snapshot(step)
        matrix[t, : t + 1] = shot[lower]
        if "accuracy/ahead" in shot:
            matrix[t, t + 1 :] = shot["accuracy/ahead"]
    return matrix
