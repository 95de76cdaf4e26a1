"""Do the parts of a run fit each other? `check` reads everything once; shapes are checked at every opening."""

from collections.abc import Iterator

import numpy as np

from cillab.core.errors import RunError
from cillab.runs.arrays import Arrays
from cillab.runs.files import damaged
from cillab.runs.run import Run


def check(run: Run) -> None:
    """Read every file of a run, as somebody must who did not write it.

    Raises:
        RunError: the first thing that is damaged or does not fit, with the name of its file.
    """
    known = set(run.info.class_order)
    _ = run.status, run.metrics()
    probe = run.probe
    if not set(probe.labels.tolist()) <= known:
        raise damaged(run.path / "probe" / "probe.json", "it has labels that are no class of the run")
    if probe.sprites is not None:
        _ = probe.atlas
    for step in run.steps:
        path = run.path / "steps" / f"{step}.safetensors"
        for problem in _values(run, step, known, len(probe)):
            raise damaged(path, problem)
        Arrays(path).verify()
        run.snapshot(step).notes()
    for path in run.checkpoints.values():
        Arrays(path).verify()
    result, tasks = run.result, len(run.info.tasks)
    if result is not None and not len(result.accuracy_seen) == len(result.accuracy_matrix) <= tasks:
        raise damaged(run.path / "result.json", "its accuracies are not those of the run's tasks")
    if run.task_steps != tuple(step for step, _ in zip(run.task_steps, range(tasks), strict=False)):
        raise RunError(f"{run.path} has more steps than tasks.")


def is_finite(run: Run) -> bool:
    """Are features, scores, means and heads of all steps numbers? A learner that exploded leaves others."""
    names = ("features", "logits", "means/now", "head/weight")
    shots = (run.snapshot(step) for step in run.steps)
    return all(np.isfinite(shot[name]).all() for shot in shots for name in names if name in shot)


def _values(run: Run, step: str, known: set[int], points: int) -> Iterator[str]:
    """What is wrong with the numbers of a step."""
    shot = run.snapshot(step)
    for name in ("features", "logits", "predictions"):
        if name in shot and len(shot[name]) != points:
            yield f"{name} has {len(shot[name])} rows, the probe has {points} points"
    seen = shot.get("seen", np.array([], np.int64)).tolist()
    if len(set(seen)) != len(seen) or not set(seen) <= known:
        yield "seen holds a class twice, or one that is none of the run's"
    if "predictions" in shot and not set(shot["predictions"].tolist()) <= set(seen):
        yield "predictions holds a class that is not seen"
    for name in ("confusion", "task_of_class", "train_images"):
        if name in shot and shot[name].size and shot[name].min() < 0:
            yield f"{name} holds a negative number"
    if "task_of_class" in shot and shot["task_of_class"].size and shot["task_of_class"].max() > shot.task:
        yield "task_of_class names a task that is still to come"
