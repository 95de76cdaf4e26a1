"""Sweeps: a grid of runs, each in a process of its own, some side by side here or anywhere on a Ray cluster."""

import os
import socket
import time
from collections import deque
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from cillab.core.devices import one_of_many
from cillab.core.errors import CillabError, InvalidRequestError, one_line, printable, shown, unknown_name
from cillab.core.params import build
from cillab.core.threads import share
from cillab.lab.jobs import Job, start, start_resume
from cillab.lab.spec import NOT_IN_DIGEST, RunSpec, read_yaml
from cillab.runs import Run
from cillab.runs.claim import is_claimed

ENGINES = ("local", "ray")
PRESETS = Path(__file__).parents[1] / "presets"
REFUSED = 2  # exit code of a request that cannot be carried out: trying again changes nothing
_POLL_S = 0.1
_GRACE_S = 15.0  # for runs elsewhere to end when the sweep is interrupted
_LONGEST = 400  # characters of what Ray says
_LOOK_S = 2.0  # between two looks at a run that another process writes


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
    detail: tuple[str, ...] = ()  # numbers of a second table

    @property
    def columns(self) -> list[str]:
        """The numbers of both tables."""
        return list(dict.fromkeys((*self.report, *self.detail)))

    @property
    def specs(self) -> list[RunSpec]:
        """Every run."""
        return [spec for _, spec in self.rows]


def read_plan(path: str | Path) -> Plan:
    """A sweep file, or `preset:NAME`: a run's fields, `rows` of changes by name, and a `grid` of lists of values.

        data: shields
        rows: {nearest mean: {learner: simplecil}, ten epochs: {learner: min, params.epochs: 10}}
        grid: {seed: [1993, 1994, 1995]}
        report: [a_last, a_avg]
        detail: [within, nc1_old]
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
    root = Path(str(values.pop("out", None) or "runs/sweep"))
    report, detail = _columns(values, "report", path) or ("a_last", "a_avg"), _columns(values, "detail", path)
    found = []
    for choice in product(*grid.values()):  # one seed of every row before the next: a table that fills up evenly
        varied = dict(zip(grid, choice, strict=True))
        for row, changes in rows.items():
            folder = root / _slug(row) / _name(varied) if row else root / _name(varied)
            spec = RunSpec.of({**_merged(_merged(values, changes), varied), "out": str(folder)}, owner=path.name)
            found.append((str(row) or _name(varied), spec))
    title, notes = _comments(path)
    return Plan(name, title, notes, tuple(found), report, detail)


def _columns(values: dict[str, Any], which: str, path: Path) -> tuple[str, ...]:
    names = values.pop(which, None) or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidRequestError(f"{path.name}: `{which}:` needs a list of columns, as in [a_last, a_avg].")
    return tuple(names)


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


def sweep(
    specs: list[RunSpec],
    engine: str = "local",
    jobs: int | None = None,
    threads: int | None = None,
    address: str | None = None,
) -> Generator[Outcome, None, None]:
    """Do every run that is not finished yet; yields each one's outcome as it comes.

    `jobs` runs go side by side, with `threads` each: here one with all cores, or the cores divided among the jobs; on
    Ray as many runs as the cluster (at `address`) has room for, each on one core and on one GPU if there are any.

    A run that ends by itself without a result is tried once more, unless its request was refused. Closing or
    interrupting the generator ends the runs under way; each can be resumed, and the same sweep does so. A run that
    another process writes, such as the same sweep on a second machine with this folder, is left to it and looked at
    again.

    Raises:
        UnknownNameError: no such engine. InvalidRequestError: no job at all, or an address without Ray.
        CillabError: Ray is not installed, or there is no cluster.
    """
    if engine not in ENGINES:
        raise unknown_name("engine", engine, ENGINES)
    for name, count in (("jobs", jobs), ("threads", threads)):
        if count is not None and count < 1:
            raise InvalidRequestError(f"{name} = {count}. Valid: 1 and more.")
    if address is not None and engine != "ray":
        raise InvalidRequestError(f"address = {shown(address)} belongs to engine 'ray'; the engine is {engine!r}.")
    yield from _local(specs, jobs or 1, threads) if engine == "local" else _ray(specs, jobs, threads, address)


@dataclass
class _Attempt:
    """One run of the grid on its way."""

    spec: RunSpec
    slot: int = 0  # among those that go side by side
    job: Job | None = None
    failed: str = ""  # why the attempt before this one did not finish
    not_before: float = 0.0  # on the monotonic clock; another process writes the run


def _local(specs: list[RunSpec], jobs: int, threads: int | None) -> Generator[Outcome, None, None]:
    todo, going = deque(_Attempt(spec) for spec in specs), list[_Attempt]()
    try:
        while todo or going:
            for _ in range(len(todo)):
                if len(going) == jobs:
                    break
                one = todo.popleft()
                if one.not_before > time.monotonic():
                    todo.append(one)
                    continue
                one.slot = min({*range(jobs)} - {other.slot for other in going})
                begun = _begin(one.spec, _environment(one, jobs, threads))
                if isinstance(begun, Outcome):
                    yield begun
                elif begun is None:
                    one.not_before = time.monotonic() + _LOOK_S
                    todo.append(one)
                else:
                    one.job = begun
                    going.append(one)
            time.sleep(_POLL_S)
            for one in [one for one in going if one.job is not None and not one.job.alive]:
                going.remove(one)
                ended = _ended(one)
                if ended is None:
                    todo.append(one)
                else:
                    yield ended
    finally:
        if going:
            with ThreadPoolExecutor(len(going)) as pool:  # side by side: each has two seconds
                list(pool.map(Job.cancel, [one.job for one in going if one.job is not None]))


def _environment(one: _Attempt, jobs: int, threads: int | None) -> dict[str, str]:
    chosen = share(jobs) if threads is None else {"OMP_NUM_THREADS": str(threads)}
    shown = one_of_many(one.slot) if jobs > 1 and one.spec.backbone.device in ("auto", "cuda") else {}
    return {**chosen, **shown}


def _begin(spec: RunSpec, environment: dict[str, str]) -> Job | Outcome | None:
    """Start one run, or go on with it. None: another process writes it at present."""
    path = spec.folder()
    try:
        if not (path / "run.json").is_file():
            return None if is_claimed(path) else start(spec, environment)
        run = Run(path)
        if why := _another(spec, run):
            return Outcome(path, "failed", why)
        if run.result is not None and run.status.state == "finished":
            return Outcome(path, "finished", "was there already")
        if is_claimed(path) or run.liveness() in ("queued", "running"):
            return None
        return start_resume(path, environment)
    except CillabError as error:  # a damaged folder: the others go on
        return Outcome(path, "failed", one_line(error))


def _ended(one: _Attempt) -> Outcome | None:
    """What became of an attempt; None when there is to be another one."""
    job, path, state = one.job, one.spec.folder(), "failed"
    assert job is not None
    code, status = job.code, job.status
    with suppress(CillabError):
        state = job.run.liveness() if job.run is not None else state
    if state == "finished" and code == 0:
        return Outcome(path, state, f"at the second attempt; the first: {one.failed}" if one.failed else "")
    if code == REFUSED and is_claimed(path):  # somebody else was quicker
        return None
    killed = f"its process was ended by signal {-code}" if code is not None and code < 0 else ""
    why = printable(killed or status.error or f"exit {code}").removeprefix("cillab: ")
    if one.failed or code == REFUSED or state == "cancelled":
        return Outcome(path, state, why)
    one.failed = why
    return None


def _ray(
    specs: list[RunSpec], jobs: int | None, threads: int | None, address: str | None
) -> Generator[Outcome, None, None]:
    try:
        import ray  # noqa: PLC0415  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise CillabError("--engine ray needs Ray: pip install 'cillab[ray]'. --engine local needs nothing.") from None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster that is started here reports to nobody
    try:
        ray.init(address=address, ignore_reinit_error=True, log_to_driver=False, include_dashboard=False)
    except Exception as error:  # Ray raises anything, Exception itself where a node does not come up in time
        where = f"at {address}" if address else "at RAY_ADDRESS, or on this machine"
        raise CillabError(f"No Ray cluster {where}: {one_line(error)[:_LONGEST]}") from error
    task, here = ray.remote(_done_elsewhere), str(Path.cwd())
    # Ray hides all GPUs from a task that asks for none
    gpus = min(1, ray.cluster_resources().get("GPU", 0))
    todo, going = list(reversed(specs)), dict[Any, RunSpec]()
    try:
        while todo or going:
            while todo and (jobs is None or len(going) < jobs):
                spec = todo.pop()
                asked = task.options(num_cpus=threads or 1, num_gpus=0 if spec.backbone.device == "cpu" else gpus)
                going[asked.remote(spec, here, threads)] = spec
            (ready, *_), _ = ray.wait(list(going))
            spec = going.pop(ready)
            try:
                yield ray.get(ready)
            except Exception as error:  # the node is lost, or what was shipped does not work there: the others go on
                yield Outcome(spec.folder(), "failed", one_line(error)[-_LONGEST:])
    finally:
        for one in going:
            ray.cancel(one)  # as Ctrl-C there: it ends its process
        if going:
            ray.wait(list(going), num_returns=len(going), timeout=_GRACE_S)


def _done_elsewhere(spec: RunSpec, folder: str, threads: int | None) -> Outcome:
    """One run to its end, on whatever machine this is; relative paths mean what they mean at the sweep's start."""
    try:
        os.chdir(folder)
    except OSError as error:
        raise CillabError(f"{folder} is not on {socket.gethostname()}: start a sweep in a shared folder.") from error
    return next(iter(_local([spec], 1, threads)))


def _another(spec: RunSpec, run: Run) -> str:
    """Why the run in the folder is not the one that is asked for; empty when it is."""
    differ = differing(spec, RunSpec.of(run.spec, owner=f"{run.path}/run.json"))
    if not differ:
        return ""
    return f"holds a run with another {', '.join(differ)}: remove the folder, or give the sweep another `out`"


def differing(asked: RunSpec, made: RunSpec) -> list[str]:
    """The settings in which two runs differ, among those that decide a number. Loads torch, for the defaults."""
    if asked.learner != made.learner:
        return ["learner"]
    ours, theirs = resolved(asked), resolved(made)
    if ours.digest() == theirs.digest():
        return []
    flat, other = ours.flat(), theirs.flat()
    return [name for name in flat if name not in NOT_IN_DIGEST and flat[name] != other.get(name)] or ["spec"]


def resolved(spec: RunSpec) -> RunSpec:
    """The spec with every hyper-parameter, defaults included."""
    from cillab.learners import learners  # noqa: PLC0415

    params = build(learners[spec.learner].Params, spec.params, f"Learner {spec.learner!r}")
    return spec.with_(params=params.model_dump(mode="json"))


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
