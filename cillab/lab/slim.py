"""Slimming a finished run: everything that can be looked at stays, what only further learning needs goes."""

from pathlib import Path

from cillab.core.errors import RunError
from cillab.lab import checkpoints
from cillab.lab.spec import Keep
from cillab.runs import Run
from cillab.runs.arrays import Arrays
from cillab.runs.claim import claim
from cillab.runs.files import write_arrays

_DIRECTIONS = 5  # of each stored Gaussian


def slim(path: str | Path, *, keep: Keep = "last") -> int:
    """Keep the last checkpoint (or all, or none) without what only learning needs; returns the bytes left.

    Heads that live in another space than the features (a ridge on random features) leave the snapshots: nothing on
    screen can put them beside features, and the checkpoint holds the last one. Stored Gaussians keep their five leading
    directions of eight: pictures are drawn in two, and their distances stand in arrays of their own.

    Raises:
        RunError: the run is not finished: it could not be resumed any more. Or another process is writing it.
    """
    run = Run(path)
    if run.result is None:
        raise RunError(f"{run.path} is not finished: slimming it would make it impossible to resume.")
    held = claim(run.path)
    try:
        _slim(run, keep)
    finally:
        held.release()
    return sum(file.stat().st_size for file in run.path.rglob("*") if file.is_file())


def _slim(run: Run, keep: Keep) -> None:
    kept = run.checkpoints
    for task, file in kept.items():
        if keep == "all" or (keep == "last" and task == max(kept)):
            states, _ = checkpoints.read_states(file)
            checkpoints.write_states(file, states, slim=True)
        else:
            file.unlink()
    for step in run.steps:
        _slim_step(run.path / "steps" / f"{step}.safetensors")


def _slim_step(file: Path) -> None:
    arrays = Arrays(file)
    foreign = "head/weight" in arrays.names and arrays.shape("head/weight")[1:] != arrays.shape("means/now")[1:]
    kept = {name: arrays[name].copy() for name in arrays.names if not (foreign and name.startswith("head/"))}
    for name in ("internals/gaussian/factor", "internals/gaussian/factor_before"):
        if name in kept:
            kept[name] = kept[name][:, :_DIRECTIONS].copy()
    write_arrays(file, kept, arrays.meta)
