"""A queue of runs, one at a time: files in a folder, and a small process that works through them.

    <runs>/.queue/0000017642-name.json      waiting, in the order of their names
    <runs>/.queue/current.json              being worked on: name and process
    <runs>/.queue/refused/name.json         ended before there was a run folder, and why

Whoever asks only writes a file; the worker lives in a session of its own, holds a lock that the system takes back if it
dies, and ends when nothing waits any more. Neither closing a browser nor stopping a server stops what was asked for.
"""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from cillab.core.errors import InvalidRequestError, RunError, one_line
from cillab.lab import jobs
from cillab.lab.spec import RunSpec
from cillab.runs import Run, find_runs
from cillab.runs.files import write_json

FOLDER = ".queue"
LIMIT = 100  # waiting runs
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_POLL_S = 0.25


@dataclass(frozen=True)
class Waiting:
    """One request, in its place."""

    key: str  # of the file
    name: str  # of the run's folder below the root
    resume: bool
    spec: dict[str, Any]


@dataclass(frozen=True)
class Current:
    """What the worker is busy with."""

    name: str
    pid: int
    since: float


def valid_name(name: str) -> str:
    """`name` if it can be a run folder directly below a root: letters, digits, dot, dash, underscore.

    Raises:
        InvalidRequestError: anything else, such as a path.
    """
    if not _NAME.fullmatch(name):
        raise InvalidRequestError(f"Run name {name!r}: up to 80 letters, digits, '.', '-' and '_', no '.' in front.")
    return name


def enqueue(root: Path, name: str, spec: RunSpec) -> str:
    """Ask for a run at `root/name`; returns its key. Starts a worker if none is there.

    Raises:
        InvalidRequestError: a name that is no plain folder name. RunError: it is taken, or the queue is full.
    """
    path = root / valid_name(name)
    if path.exists() or any(one.name == name for one in waiting(root)) or _is_current(root, name):
        raise RunError(f"{name!r} is taken. Give the run another name, or resume the one that is there.")
    dismiss(root, name)
    return _put(root, name, {"resume": False, "spec": spec.with_(out=str(path)).model_dump(mode="json")})


def enqueue_resume(root: Path, name: str) -> str:
    """Ask to go on with the run at `root/name` (a path below the root, as `find_runs` gives it).

    Raises:
        RunError: no run there, it is finished or being written, or it waits already.
    """
    run = _below(root, name)
    if run.liveness() in ("running", "paused", "finished"):
        raise RunError(f"{name!r} is {run.liveness()}: nothing to resume.")
    if any(one.name == name for one in waiting(root)) or _is_current(root, name):
        raise RunError(f"{name!r} waits already.")
    return _put(root, name, {"resume": True, "spec": {}})


def waiting(root: Path) -> list[Waiting]:
    """What waits, first come first; damaged files are passed over."""
    found = []
    for path in sorted((root / FOLDER).glob("[0-9]*.json")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            values = json.loads(path.read_text(encoding="utf-8"))
            found.append(Waiting(path.stem, str(values["name"]), bool(values["resume"]), dict(values["spec"])))
    return found


def current(root: Path) -> Current | None:
    """What is being worked on, if the process is still there."""
    try:
        values = json.loads((root / FOLDER / "current.json").read_text(encoding="utf-8"))
        found = Current(str(values["name"]), int(values["pid"]), float(values["since"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if jobs.Job(root / found.name, found.pid).alive else None


def refused(root: Path) -> dict[str, str]:
    """Requests that ended before there was a run folder, and the line that says why."""
    found = {}
    for path in sorted((root / FOLDER / "refused").glob("*.json")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            found[path.stem] = str(json.loads(path.read_text(encoding="utf-8"))["error"])
    return found


def dismiss(root: Path, name: str) -> None:
    """Forget that `name` was refused."""
    (root / FOLDER / "refused" / f"{Path(name).name}.json").unlink(missing_ok=True)


def withdraw(root: Path, key: str) -> None:
    """Take a waiting request back."""
    if key in {one.key for one in waiting(root)}:
        (root / FOLDER / f"{key}.json").unlink(missing_ok=True)


def is_working(root: Path) -> bool:
    """Is there a worker?"""
    try:
        with _lock(root):
            return False
    except Timeout:
        return True


def ensure_worker(root: Path) -> None:
    """Start a worker if something waits and none is there; a second one ends at once."""
    if waiting(root) and not is_working(root):
        with (root / FOLDER / "worker.log").open("ab") as log:
            subprocess.Popen(
                [sys.executable, "-m", "cillab", "work", str(root)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


def work(root: Path, launch: Callable[[Waiting, Path], jobs.Job] | None = None) -> int:
    """Work through the queue until it is empty; returns how many requests were handled, 0 if another worker is there.

    `launch` starts one request (default: `cillab.lab.jobs`).
    """
    handled = 0
    while waiting(root):  # looks again after the lock is free: whoever came last may have seen it taken
        try:
            with _lock(root):
                _wait_for_others(root)
                while queue := waiting(root):
                    _handle(root, queue[0], launch or _launch)
                    handled += 1
        except Timeout:
            break
    return handled


def _handle(root: Path, one: Waiting, launch: Callable[[Waiting, Path], jobs.Job]) -> None:
    """Run one request to its end. Nothing that it does may stop the others."""
    file = root / FOLDER / f"{one.key}.json"
    try:
        job = launch(one, root)
    except Exception as error:
        file.unlink(missing_ok=True)
        _refuse(root, one.name, one_line(error))
        return
    write_json(root / FOLDER / "current.json", {"name": one.name, "pid": job.pid, "since": time.time()})
    file.unlink(missing_ok=True)
    while not job.wait(_POLL_S):
        pass
    if job.run is None:
        _refuse(root, one.name, job.status.error or "it ended without a word")
        jobs.log_beside(job.path).unlink(missing_ok=True)
    (root / FOLDER / "current.json").unlink(missing_ok=True)


def _launch(one: Waiting, root: Path) -> jobs.Job:
    if one.resume:
        return jobs.start_resume(_below(root, one.name).path)
    return jobs.start(RunSpec.of(one.spec, owner=one.name).with_(out=str(root / valid_name(one.name))))


def _wait_for_others(root: Path) -> None:
    """A worker that died left its run going on; one at a time means waiting for it."""
    while current(root) is not None or any(_is_running(path) for path in find_runs(root)):
        time.sleep(2 * _POLL_S)


def _is_running(path: Path) -> bool:
    with suppress(RunError, OSError):
        return Run(path).liveness() == "running"
    return False


def _is_current(root: Path, name: str) -> bool:
    busy = current(root)
    return busy is not None and busy.name == name


def _below(root: Path, name: str) -> Run:
    """The run that `find_runs` finds under this name: no other path can be asked for."""
    known = {path.relative_to(root).as_posix(): path for path in find_runs(root) if path != root}
    if name not in known:
        raise RunError(f"There is no run {name!r} in {root}.")
    return Run(known[name])


def _put(root: Path, name: str, values: dict[str, Any]) -> str:
    queue = waiting(root)
    if len(queue) >= LIMIT:
        raise RunError(f"{LIMIT} runs wait already.")
    last = max((int(one.key.partition("-")[0]) for one in queue), default=0)
    key = f"{max(time.time_ns() // 1_000_000, last + 1):015d}-{re.sub(r'[^A-Za-z0-9._-]', '_', name)}"
    write_json(root / FOLDER / f"{key}.json", {"name": name, **values})
    ensure_worker(root)
    return key


def _refuse(root: Path, name: str, why: str) -> None:
    write_json(root / FOLDER / "refused" / f"{Path(name).name}.json", {"error": why.removeprefix("cillab: ")})


def _lock(root: Path) -> FileLock:
    """Held by the worker while it lives. Another process that takes it raises `filelock.Timeout`."""
    (root / FOLDER).mkdir(parents=True, exist_ok=True)
    return FileLock(root / FOLDER / "lock", timeout=0)
