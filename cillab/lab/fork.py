"""Going on from what is on disk: the same run after its last finished task, or a branch with something changed."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cillab.core.contract import Learner
from cillab.core.errors import RunError
from cillab.core.params import build
from cillab.lab import checkpoints
from cillab.lab.prepare import backbone_of, check_scenario, info_of, make_learner_of, prepare, resolved
from cillab.lab.spec import RunSpec
from cillab.runs import Run, RunWriter, step_id
from cillab.runs.probe import has_probe
from cillab.runs.writer import must_be_free
from cillab.streams.stream import Stream


class Finished(NamedTuple):
    """Tasks that are on disk, and the learner in the state after them: where a lab goes on."""

    spec: RunSpec
    stream: Stream
    learner: Learner[Any]
    writer: RunWriter | None  # None: nothing is left to write
    done: int


def continued(path: Path, stream: Stream | None, learner: Learner[Any] | None) -> Finished:
    """The run at `path`, after its last finished task.

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
            ready = prepare(spec.with_(precision=run.info.precision or spec.backbone.precision))  # what auto was then
            stream, learner = stream or ready.stream, learner or ready.learner
        stream = stream.on(backbone_of(learner))
        _must_match(run, spec, stream, learner)
        if done:
            checkpoints.load(run.path / "checkpoints" / f"{step_id(done - 1)}.safetensors", learner)
    except BaseException:
        if writer is not None:
            writer.release()
        raise
    if writer is not None and (done < len(stream) or run.result is None):
        writer.rewind(step_id(index) for index in range(done))
    return Finished(spec, stream, learner, writer, done)


def copied(
    run: Run,
    spec: RunSpec,
    stream: Stream,
    learner: Learner[Any],
    task: int,
    out: str | Path | None,
    name: str | None,
    changed: Mapping[str, Any],
) -> Finished:
    """A new folder with tasks 0..`task` of a run, and a learner with something changed in the state after them."""
    task, source = run.state_after(task)
    origin = {"run": run.name, "task": task, "spec_digest": spec.digest()}
    target = Path(out) if out is not None else _fresh(run.path, task)
    must_be_free(target)
    if name is None or name == spec.learner:
        kind = type(learner)
        params = build(kind.Params, {**learner.params.model_dump(), **changed}, f"Learner {kind.name!r}")
        learner = kind(backbone_of(learner), params, seed=learner.seed)
        spec = spec.with_(out=str(target))
    else:
        spec = spec.with_(learner=name, params=dict(changed), out=str(target))
        learner = make_learner_of(spec, backbone_of(learner))
        check_scenario(stream.scenario, type(learner))
    checkpoints.load(source, learner)
    spec = resolved(spec, learner)
    info = info_of(spec, stream, learner)
    digest = f"{spec.digest()}<{origin['spec_digest']}@{step_id(task)}"
    protocol = info.protocol.model_copy(update={"spec_digest": digest})
    writer = RunWriter.create(target, info.model_copy(update={"protocol": protocol, "forked_from": origin}))
    keep = [step_id(index) for index in range(task + 1)]
    _copy(run.path, target, keep)
    writer.rewind(keep)  # the copied metrics still hold rows of later tasks
    return Finished(spec, stream, learner, writer, task + 1)


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


def _must_match(run: Run, spec: RunSpec, stream: Stream, learner: Learner[Any]) -> None:
    """Going on with other images or other weights would make a run that never was."""
    now, then = info_of(spec, stream, learner), run.info
    if then.precision and now.precision != then.precision:
        raise RunError(
            f"{run.path} was made in {then.precision}, here it is {now.precision}: not the same run any more."
        )
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
