"""Sweeps: a grid of runs, each in a process of its own, one after the other here or anywhere on a Ray cluster."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from cillab.core.errors import CillabError, InvalidRequestError, one_line, unknown_name
from cillab.core.params import build
from cillab.lab.spec import NOT_IN_DIGEST, RunSpec, read_yaml
from cillab.runs import Run

ENGINES = ("local", "ray")
PRESETS = Path(__file__).parents[1] / "presets"


@dataclass(frozen=True)
class Outcome:
    """What became of one run of the grid."""

    path: Path
    state: str  # as in status.json; `failed` too when there is no run folder at all
    note: str


@dataclass(frozen=True)
class Plan:
    """What a sweep file asks for: runs, and the table that they belong in."""

    name: str  # how the command calls it: a file, or preset:NAME
    title: str  # the first comment of the file
    notes: str  # the comments that follow
    rows: tuple[tuple[str, RunSpec], ...]  # name of the table's row, and one of its runs
    report: tuple[str, ...]  # numbers that the table shows

    @property
    def specs(self) -> list[RunSpec]:
        """Every run."""
        return [spec for _, spec in self.rows]


def read_grid(path: str | Path) -> list[RunSpec]:
    """The specs of a sweep file; see `read_plan`."""
    return read_plan(path).specs


def read_plan(path: str | Path) -> Plan:
    """A sweep file, or `preset:NAME`: a run's fields, `rows` of changes by name, and a `grid` of lists of values.

        data: shields
        rows: {nearest mean: {learner: simplecil}, ten epochs: {learner: min, params.epochs: 10}}
        grid: {seed: [1993, 1994, 1995]}
        report: [a_last, a_avg]
        out: runs/sweep

    Every row is run for every combination of the grid. Either may be left out, but not both.

    Raises:
        InvalidRequestError: not such a file, or a field that a run does not have. UnknownNameError: no such preset.
    """
    name, path = str(path), preset_path(path)
    values = read_yaml(path)
    grid, rows = values.pop("grid", {}), values.pop("rows", {"": {}})
    if not isinstance(grid, dict) or not all(isinstance(choices, list) and choices for choices in grid.values()):
        raise InvalidRequestError(f"{path.name} needs `grid:` with a list of values for each field that varies.")
    if not isinstance(rows, dict) or not all(isinstance(changes, dict) for changes in rows.values()):
        raise InvalidRequestError(f"{path.name} needs `rows:` with a name and the fields it changes for each row.")
    if not grid and list(rows) == [""]:
        raise InvalidRequestError(f"{path.name} has neither `grid:` nor `rows:`: nothing varies in this sweep.")
    root, report = Path(str(values.pop("out", None) or "runs/sweep")), values.pop("report", ["a_last", "a_avg"])
    found = []
    for choice in product(*grid.values()):  # one seed of every row before the next: a table that fills up evenly
        varied = dict(zip(grid, choice, strict=True))
        for row, changes in rows.items():
            folder = root / _slug(row) / _name(varied) if row else root / _name(varied)
            spec = RunSpec.of({**_merged(_merged(values, changes), varied), "out": str(folder)}, owner=path.name)
            found.append((str(row) or _name(varied), spec))
    title, notes = _comments(path)
    return Plan(name, title, notes, tuple(found), tuple(report))


def presets() -> dict[str, str]:
    """Sweeps that ship with the package: name and title."""
    return {path.stem: _comments(path)[0] for path in sorted(PRESETS.glob("*.yaml"))}


def preset_path(name: str | Path) -> Path:
    """The file of `preset:NAME`, or the path itself.

    Raises:
        UnknownNameError: no preset of that name.
    """
    kind, _, preset = str(name).partition(":")
    if kind != "preset":
        return Path(name)
    if preset not in presets():
        raise unknown_name("preset", preset, list(presets()))
    return PRESETS / f"{preset}.yaml"


def _comments(path: Path) -> tuple[str, str]:
    """First comment line of a file, and the rest of the comments on top of it."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return (lines[0] if lines else path.stem), " ".join(lines[1:])


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
    # Ray hides all GPUs from a task that asks for none
    gpus = min(1, ray.cluster_resources().get("GPU", 0))
    waiting = [task.options(num_gpus=0 if spec.backbone.device == "cpu" else gpus).remote(spec) for spec in specs]
    while waiting:
        (ready, *_), waiting = ray.wait(waiting)
        yield ray.get(ready)


def _done_by_process(spec: RunSpec) -> Outcome:
    """Run, or go on with, one spec and wait for its end."""
    path = spec.folder()
    is_run = (path / "run.json").is_file()
    try:
        if is_run and (why := _another(spec, Run(path))):
            return Outcome(path, "failed", why)
        if is_run and Run(path).result is not None:
            return Outcome(path, "finished", "was there already")
    except CillabError as error:  # a damaged folder: the others go on
        return Outcome(path, "failed", one_line(error))
    words = ["resume", str(path)] if is_run else spec.arguments()
    ended = subprocess.run([sys.executable, "-m", "cillab", *words], capture_output=True, text=True, check=False)
    said = [line for line in (ended.stderr + ended.stdout).splitlines() if line.strip()]
    state = "failed"
    with suppress(CillabError):
        state = Run(path).liveness() if (path / "run.json").is_file() else "failed"
    return Outcome(path, state, "" if ended.returncode == 0 else (said[0] if said else f"exit {ended.returncode}"))


def _another(spec: RunSpec, run: Run) -> str:
    """Why the run in the folder is not the one that is asked for; empty when it is. Loads torch, for the defaults."""
    from cillab.learners import learners  # noqa: PLC0415

    def resolved(one: RunSpec) -> RunSpec:
        params = build(learners[one.learner].Params, one.params, f"Learner {one.learner!r}")
        return one.with_(params=params.model_dump(mode="json"))

    asked, made = resolved(spec), resolved(RunSpec.of(run.spec, owner=f"{run.path}/run.json"))
    if asked.digest() == made.digest():
        return ""
    ours, theirs = asked.flat(), made.flat()
    differ = [name for name in ours if name not in NOT_IN_DIGEST and ours[name] != theirs.get(name)]
    return f"holds a run with another {', '.join(differ) or 'spec'}: remove the folder, or give the sweep another `out`"


def _merged(values: dict[str, Any], varied: dict[str, Any]) -> dict[str, Any]:
    """`params.epochs` and `scenario.shots` reach into their record, everything else is a field of the run."""
    merged = {**values, "params": dict(values.get("params") or {})}
    for name, value in varied.items():
        owner, dot, key = name.partition(".")
        if dot and owner == "params":
            merged["params"][key] = value
        elif dot and owner == "scenario":
            inner = merged.get("scenario", "class-incremental")
            merged["scenario"] = {**(inner if isinstance(inner, dict) else {"name": inner}), key: value}
        else:
            merged[name] = value
    return merged


def _name(varied: dict[str, Any]) -> str:
    return ",".join(_slug(f"{name.removeprefix('params.')}={value}") for name, value in varied.items()) or "run"


def _slug(words: str) -> str:
    return "".join(c if c.isalnum() or c in "=.-_" else "-" for c in str(words))
