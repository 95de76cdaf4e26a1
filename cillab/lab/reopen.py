"""A learner as it was after a task, from a run folder alone: for live what-ifs and for Grad-CAM of any image."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cillab.core.contract import Backbone, Learner
from cillab.core.errors import RunError
from cillab.lab import checkpoints
from cillab.lab.prepare import prepare
from cillab.lab.probe import Examiner
from cillab.lab.spec import RunSpec
from cillab.runs import Run
from cillab.streams.images import ImageSet
from cillab.streams.stream import Stream


@dataclass(frozen=True, eq=False)
class Reopened:
    """Everything that was there after a task: look at it, ask it, change it. The run folder stays as it is."""

    task: int
    learner: Learner[Any]
    backbone: Backbone
    stream: Stream
    probe_images: ImageSet  # in the order of `run.probe`


def reopen(path: str | Path, task: int = -1, *, device: str | None = None) -> Reopened:
    """Make the learner of a run again, in the state after `task` (-1 = the last one whose state was kept).

    Raises:
        RunError: the state was not kept, or weights or images are not those of the run.
        CillabError: data or weights cannot be reached.
    """
    run = Run(path)
    wanted, state = run.state_after(task)
    spec = RunSpec.of(run.spec, owner=f"{path}/run.json")
    ready = prepare(spec if device is None else spec.with_(device=device))
    if ready.backbone.digest() != run.protocol.weights_digest:
        raise RunError(f"{spec.backbone.name} has other weights here than when {run.path} was made.")
    checkpoints.load(state, ready.learner, whole=False)
    stream = ready.stream.on(ready.backbone)
    points = Examiner(stream, spec.probe_points, spec.train_probe_per_class).points
    if [str(i) for i in points.ids] != [str(i) for i in run.probe.ids]:
        raise RunError(f"{spec.stream.data} holds other images here than when {run.path} was made.")
    return Reopened(wanted, ready.learner, ready.backbone, stream, points)
