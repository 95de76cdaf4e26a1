"""Sweeps: a grid of runs, each in a process of its own, one after the other here or anywhere on a Ray cluster."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from cillab.core.errors import CillabError, InvalidRequestError, unknown_name
from cillab.lab.spec import RunSpec, read_yaml
from cillab.runs import Run

ENGINES = ("local", "ray")


@dataclass(frozen=True)
class Outcome:
    """What became of one run of the grid."""

    path: Path
    state: str  # as in status.json; `failed` too when there is no run folder at all
    note: str


def read_grid(path: str | Path) -> list[RunSpec]:
    """The specs of a sweep file: a run's fields, and under `grid` a list of values for some of them.

        data: shields
        grid: {learner: [simplecil, min], seed: [1993, 1996], params.epochs: [3, 10]}
        out: runs/sweep

    Raises:
        InvalidRequestError: not such a file, or a field that a run does not have.
    """
    path = Path(path)
    values = read_yaml(path)
    grid = values.pop("grid", None)
    if not isinstance(grid, dict) or not all(isinstance(choices, list) and choices for choices in grid.values()):
        raise InvalidRequestError(f"{path.name} needs `grid:` with a list of values for each field that varies.")
    root = Path(str(values.pop("out", None) or "runs/sweep"))
    specs = []
    for choice in product(*grid.values()):
        varied = dict(zip(grid, choice, strict=True))
        specs.append(RunSpec.of({**_merged(values, varied), "out": str(root / _name(varied))}, owner=path.name))
    return specs


def sweep(specs: list[RunSpec], engine: str = "local") -> Iterator[Outcome]:
    """Do every run that is not finished yet; yields each one's outcome as it comes.

    Raises:
        UnknownNameError: no such engine. CillabError: Ray is not installed.
    """
    if engine not in ENGINES:
        raise unknown_name("engine", engine, ENGINES)
    yield from _local(specs) if engine == "local" else _ray(specs)


def _local(specs: list[RunSpec]) -> Iterator[Outcome]:
    for spec in specs:
        yield _done_by_process(spec)


def _ray(specs: list[RunSpec]) -> Iterator[Outcome]:
    try:
        import ray  # noqa: PLC0415  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise CillabError("--engine ray needs Ray: pip install 'cillab[ray]'. --engine local needs nothing.") from None
    ray.init(ignore_reinit_error=True, log_to_driver=False)
    task = ray.remote(_done_by_process)
    waiting = [task.remote(spec) for spec in specs]
    while waiting:
        (ready, *_), waiting = ray.wait(waiting)
        yield ray.get(ready)


def _done_by_process(spec: RunSpec) -> Outcome:
    """Run, or go on with, one spec and wait for its end."""
    path = spec.folder()
    is_run = (path / "run.json").is_file()
    if is_run and Run(path).result is not None:
        return Outcome(path, "finished", "was there already")
    words = ["resume", str(path)] if is_run else spec.arguments()
    ended = subprocess.run([sys.executable, "-m", "cillab", *words], capture_output=True, text=True, check=False)
    said = [line for line in (ended.stderr + ended.stdout).splitlines() if line.strip()]
    state = Run(path).liveness() if (path / "run.json").is_file() else "failed"
    return Outcome(path, state, "" if ended.returncode == 0 else (said[0] if said else f"exit {ended.returncode}"))


def _merged(values: dict[str, Any], varied: dict[str, Any]) -> dict[str, Any]:
    """`params.epochs` reaches into the hyper-parameters, everything else is a field of the run."""
    merged = {**values, "params": dict(values.get("params") or {})}
    for name, value in varied.items():
        owner, dot, key = name.partition(".")
        if dot and owner == "params":
            merged["params"][key] = value
        else:
            merged[name] = value
    return merged


def _name(varied: dict[str, Any]) -> str:
    words = (f"{name.removeprefix('params.')}={value}" for name, value in varied.items())
    return ",".join("".join(c if c.isalnum() or c in "=.-_" else "-" for c in word) for word in words)
