"""Going on from what is on disk: the same run after its last finished task, or a branch with something changed."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cillab.core.contract import Learner
from cillab.core.errors import RunError
from cillab.core.params import build
from cillab.lab import checkpoints
from cillab.lab.prepare import info_of, make_learner_of, prepare, resolved
from cillab.lab.spec import RunSpec
from cillab.runs import Run, RunWriter, step_id
from cillab.runs.probe import has_probe
from cillab.streams.stream import Stream

if TYPE_CHECKING:
    from cillab.lab.engine import Lab


def continued(cls: type["Lab"], path: Path, stream: Stream | None, learner: Learner[Any] | None) -> "Lab":
    """The lab of the run at `path`, after its last finished task.

    Raises:
        RunError: no run, one that is being written, checkpoints not kept, or data or weights that are not the same.
    """
    run = Run(path)
    spec = RunSpec.of(run.spec, owner=f"{path}/run.json").with_(out=str(path))
    done = _finished_tasks(run)
    writer = None
    if done < len(run.info.tasks) or run.result is None or run.status.state != "finished" or not has_probe(path):
        writer = RunWriter.resume(path)  # before anything is loaded: it refuses a run that is being written
    try:
        if stream is None or learner is None:
            ready = prepare(spec)
            stream, learner = stream or ready.stream, learner or ready.learner
        lab = cls.__new__(cls)
        lab._prepare(spec, stream, learner)
        _must_match(run, lab)
        if done:
            checkpoints.load(run.path / "checkpoints" / f"{step_id(done - 1)}.safetensors", learner)
    except BaseException:
        if writer is not None:
            writer.release()
        raise
    if writer is not None and (done < len(lab.stream) or run.result is None):
        writer.rewind(step_id(index) for index in range(done))
    lab._adopt(writer, done)
    return lab


def copied(lab: "Lab", task: int, out: str | Path | None, name: str | None, changed: Mapping[str, Any]) -> "Lab":
    """A new lab in a new folder that holds tasks 0..`task` of `lab`'s run and a learner in the state after them."""
    run = lab.run
    source = run.checkpoint(task)
    if source is None:
        kept = ", ".join(str(t) for t in run.checkpoints) or "(none)"
        raise RunError(f"{run.path} holds no state after task {task}. Kept: {kept}.")
    target = Path(out) if out is not None else _fresh(run.path, task)
    if name is None or name == lab.spec.learner:
        kind = type(lab.learner)
        params = build(kind.Params, {**lab.learner.params.model_dump(), **changed}, f"Learner {kind.name!r}")
        learner: Learner[Any] = kind(lab.backbone, params, seed=lab.learner.seed)
        spec = lab.spec.with_(out=str(target))
    else:
        spec = lab.spec.with_(learner=name, params=dict(changed), out=str(target))
        learner = make_learner_of(spec, lab.backbone)
    checkpoints.load(source, learner)
    spec = resolved(spec, learner)
    new = type(lab)(lab.stream, learner, target, spec=spec)
    info = info_of(spec, lab.stream, learner)
    origin = {"run": run.name, "task": task, "spec_digest": lab.spec.digest()}
    protocol = info.protocol.model_copy(update={"spec_digest": f"{spec.digest()}<{lab.spec.digest()}@{step_id(task)}"})
    writer = RunWriter.create(target, info.model_copy(update={"protocol": protocol, "forked_from": origin}))
    keep = [step_id(index) for index in range(task + 1)]
    _copy(run.path, target, keep)
    writer.rewind(keep)  # the copied metrics still hold rows of later tasks
    new._adopt(writer, task + 1)
    return new


def _finished_tasks(run: Run) -> int:
    """How many tasks, from the first on, are whole on disk, up to the last one whose state was kept.

    Raises:
        RunError: there are snapshots, but no state to go on from.
    """
    steps, kept = set(run.task_steps), run.checkpoints
    whole = 0
    while step_id(whole) in steps and whole < len(run.info.tasks):
        run.snapshot(step_id(whole))  # a damaged one raises, with its name
        whole += 1
    usable = [task + 1 for task in kept if task < whole]
    if whole and not usable:
        raise RunError(f"{run.path} has {whole} tasks but kept no checkpoint, so it cannot be resumed.")
    return max(usable, default=0)


def _must_match(run: Run, lab: "Lab") -> None:
    """Going on with other images or other weights would make a run that never was."""
    now, then = info_of(lab.spec, lab.stream, lab.learner), run.info
    for what in ("data_digest", "split_digest", "weights_digest"):
        ours, theirs = getattr(now.protocol, what), getattr(then.protocol, what)
        if ours != theirs:
            raise RunError(f"{run.path} was made with {what} {theirs}, here it is {ours}: not the same run any more.")
    if now.tasks != then.tasks:
        raise RunError(f"{run.path} has other tasks than the stream given.")


def _copy(source: Path, target: Path, steps: list[str]) -> None:
    for step in steps:
        for folder in ("steps", "checkpoints"):
            file = source / folder / f"{step}.safetensors"
            if file.exists():
                shutil.copy2(file, target / folder / file.name)
    shutil.copytree(source / "probe", target / "probe", dirs_exist_ok=True)
    shutil.copy2(source / "metrics.jsonl", target / "metrics.jsonl")


def _fresh(path: Path, task: int) -> Path:
    """`first-fork-t03`, or with a number behind when that is taken."""
    base = path.with_name(f"{path.name}-fork-{step_id(task)}")
    number = 1
    candidate = base
    while candidate.exists():
        number += 1
        candidate = base.with_name(f"{base.name}-{number}")
    return candidate
