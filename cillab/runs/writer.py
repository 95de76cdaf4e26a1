"""Writing a run: one writer, every file as a whole or not at all, so that readers need no lock."""

import json
import os
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, SupportsFloat

import numpy as np
import yaml
from pydantic import ValidationError

from cillab.core.errors import InvalidRequestError, RunError
from cillab.core.params import complaint
from cillab.runs.claim import Claim, claim, has_lock
from cillab.runs.files import full_disk_named, write_arrays, write_record, write_text
from cillab.runs.metrics import encode, whole_lines
from cillab.runs.probe import write_probe
from cillab.runs.run import Run, parse_step, step_id
from cillab.runs.schema import Result, RunInfo, Status, plain

Control = Literal["cancel", "pause"]
_BEFORE = frozenset(
    ("spec.yaml", "status.json", "log.txt", "control", "control/lock", "control/cancel", "control/pause", "steps",
     "checkpoints", "probe")
)  # fmt: skip
_TICK_S = 1.0  # readers poll once a second


class RunWriter:
    """The one writer of a run folder. Make it with `create` or `resume`; it holds the folder until `release`."""

    def __init__(self, path: Path, info: RunInfo, status: Status, held: Claim) -> None:
        self.path, self.info = path, info
        self._status, self._written = status, 0.0
        self._claim = held

    @classmethod
    def create(cls, path: str | Path, info: RunInfo, *, resume: bool = False) -> "RunWriter":
        """Start a run in a new or empty folder; with `resume`, go on with the run that is there, if there is one.

        A folder whose writer was killed before there was a run.json counts as empty when it names the same spec.

        Raises:
            RunError: the folder exists and is not empty, or is being written by another process.
        """
        folder = Path(path)
        if resume and (folder / "run.json").is_file():
            return cls.resume(folder)
        must_be_free(folder)
        held = claim(folder)
        try:
            _must_begin_the_same(folder, info)
        except RunError:
            held.withdraw()
            raise
        _sweep_leftovers(folder)
        with full_disk_named(folder):
            for name in ("control", "steps", "checkpoints", "probe"):
                (folder / name).mkdir(parents=True, exist_ok=True)
        writer = cls(folder, info, Status(tasks=len(info.tasks), started=time.time()), held)
        for what in ("cancel", "pause"):
            writer.clear(what)
        write_text(folder / "spec.yaml", yaml.safe_dump(plain(info.spec), sort_keys=False, allow_unicode=True))
        writer.status(state="queued")
        write_record(folder / "run.json", plain(info))  # last: from here on it is a run
        return writer

    @classmethod
    def resume(cls, path: str | Path) -> "RunWriter":
        """Go on with a run. What is there stays; see `rewind` for what belongs to an unfinished task.

        Raises:
            RunError: no run there, or a living process is writing it.
        """
        run = Run(path)
        status, locks = run.status, has_lock(run.path)
        held = claim(run.path)
        here = status.host == socket.gethostname()
        alive = run.liveness() in ("running", "paused") and not (here and (locks or status.pid == os.getpid()))
        if alive:  # on another machine, or by a program that takes no lock
            held.release()
            raise RunError(f"{run.path} is being written by process {status.pid} on {status.host}.")
        _sweep_leftovers(run.path)
        writer = cls(run.path, run.info, status, held)
        writer._trim_metrics()
        for what in ("cancel", "pause"):
            writer.clear(what)
        return writer

    def claim(self) -> None:
        """Be the writer again after `release`.

        Raises:
            RunError: another process is writing the run, or another writer of this process has taken it over.
        """
        if self._claim.valid:
            return
        there = Run(self.path).status
        if there != self._status:
            raise RunError(
                f"{self.path} has another writer by now: somebody has gone on with it. Resume it from there."
            )
        self._claim = claim(self.path)

    def release(self) -> None:
        """Let another process go on with the run."""
        self._claim.release()

    @property
    def taken_over(self) -> bool:
        """Has a later writer of this process the run now, or was it released?"""
        return not self._claim.valid

    def rewind(self, steps: Iterable[str]) -> None:
        """Forget every step but `steps`: their snapshots, checkpoints and scalars, and a result if there is one.

        What goes on from the last finished task must not leave rows of the unfinished one behind.
        """
        self._claim.check()
        keep = set(steps)
        (self.path / "result.json").unlink(missing_ok=True)
        for folder in ("steps", "checkpoints"):
            for file in (self.path / folder).glob("*.safetensors"):
                if file.stem not in keep and parse_step(file.stem):
                    file.unlink()
        metrics = self.path / "metrics.jsonl"
        if metrics.exists():
            rows = Run(self.path).metrics().rows
            kept = [encode(r["step"], {r["name"]: r["value"]}, _extra(r)) for r in rows if r["step"] in keep]
            write_text(metrics, b"".join(kept).decode())

    def snapshot(
        self, step: str, arrays: Mapping[str, np.ndarray], notes: Mapping[str, Sequence[str]] | None = None
    ) -> Path:
        """Publish the arrays of a step (`schema.SNAPSHOT_ARRAYS`), after its scalars are safe on the disk.

        `notes` say, by side ("train", "test"), what one must know to read its numbers; figures show them.

        Raises:
            InvalidRequestError: a step id that readers would not find.
            RunError: the disk is full.
        """
        if parse_step(step) is None:
            raise InvalidRequestError(f"step = {step!r}. Valid: t00, t01, ... or t00e000 (see step_id).")
        self._claim.check()
        self._sync_metrics()
        path = self.path / "steps" / f"{step}.safetensors"
        write_arrays(path, arrays, {"notes": json.dumps(plain(notes))} if notes else None)
        return path

    def log(self, step: str, values: Mapping[str, SupportsFloat], **extra: Any) -> None:
        """Append scalars of a step; `extra` are fields such as task and epoch.

        Raises:
            RunError: the disk is full. Lines that did not fit are taken back.
        """
        self._claim.check()
        path = self.path / "metrics.jsonl"
        content = encode(step, values, plain(extra))
        with full_disk_named(path), path.open("ab", buffering=0) as file:
            before = os.fstat(file.fileno()).st_size
            try:
                written = 0
                while written < len(content):
                    written += file.write(content[written:])
            except OSError:
                file.truncate(before)
                raise

    def status(self, **changes: Any) -> Status:
        """Replace status.json: the fields given, a new heartbeat, this process.

        Raises:
            InvalidRequestError: a value that does not fit its field.
            RunError: the disk is full.
        """
        self._claim.check()
        now = time.time()
        values = self._status.model_dump() | plain(changes)
        values |= {"pid": os.getpid(), "host": socket.gethostname(), "heartbeat": now}
        try:
            self._status = Status.model_validate(values)
        except ValidationError as error:
            raise InvalidRequestError(f"status: {complaint(error)}") from error
        write_record(self.path / "status.json", plain(self._status))
        self._written = now
        return self._status

    def tick(self, **changes: Any) -> None:
        """As `status`, but at most once a second: cheap enough to call for every batch."""
        if time.time() - self._written >= _TICK_S or changes.get("state", self._status.state) != self._status.state:
            self.status(**changes)

    def probe(
        self,
        ids: Sequence[str | int],
        labels: Sequence[int] | np.ndarray,
        tasks: Sequence[int] | np.ndarray,
        sprites: Sequence[np.ndarray] | np.ndarray | None = None,
    ) -> None:
        """Write the probe: ids, labels, tasks and, from uint8 images [n, 3, h, w], an atlas of small pictures."""
        self._claim.check()
        write_probe(self.path / "probe", ids, labels, tasks, sprites)

    def result(self, values: Mapping[str, Any]) -> Result:
        """Write result.json; the protocol is the run's own unless given.

        Raises:
            InvalidRequestError: a number is missing or does not fit.
        """
        try:
            result = Result.model_validate({"protocol": self.info.protocol.model_dump()} | plain(values))
        except ValidationError as error:
            raise InvalidRequestError(f"result: {complaint(error)}") from error
        self._claim.check()
        write_record(self.path / "result.json", plain(result))
        return result

    def checkpoint_path(self, task: int) -> Path:
        """Where the learner's state after `task` belongs."""
        return self.path / "checkpoints" / f"{step_id(task)}.safetensors"

    def requested(self, what: Control) -> bool:
        """Was the run asked to cancel or pause?"""
        return requested(self.path, what)

    def clear(self, what: str) -> None:
        """Take a request back, after obeying it."""
        (self.path / "control" / what).unlink(missing_ok=True)

    def _sync_metrics(self) -> None:
        path = self.path / "metrics.jsonl"
        if path.exists():
            with full_disk_named(path), path.open("rb+") as file:
                os.fsync(file.fileno())

    def _trim_metrics(self) -> None:
        path = self.path / "metrics.jsonl"
        if path.exists():
            content = path.read_bytes()
            with path.open("rb+") as file:  # the next row must not continue a torn one
                file.truncate(len(whole_lines(content)))


def must_be_free(folder: Path) -> None:
    """Refuse a folder that holds anything but the beginnings of a run that never got as far as its run.json.

    Raises:
        RunError: it is a file, or holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file, not a folder for a run.")
    if not folder.is_dir() or is_begun(folder):
        return
    if (folder / "run.json").is_file():
        raise RunError(f"{folder} holds a run already. `cillab resume {folder}` goes on with it; or give a new folder.")
    raise RunError(f"{folder} exists and is not empty. Give a new folder.")


def is_begun(folder: Path) -> bool:
    """Is there nothing but what a writer makes before run.json? Also true of an empty folder."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if name not in _BEFORE and not (path.name.startswith(".") and path.name.endswith(".tmp")):
            return False
    return True


def _must_begin_the_same(folder: Path, info: RunInfo) -> None:
    """What was killed before its run.json goes on only as the same run."""
    try:
        there = yaml.safe_load((folder / "spec.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return
    wanted = plain(info.spec)
    if isinstance(there, dict) and {**there, "out": None} != {**wanted, "out": None}:
        raise RunError(f"{folder} holds the beginning of another run (see its spec.yaml). Give a new folder.")


def _sweep_leftovers(folder: Path) -> None:
    """Files of a writer that was killed between writing and renaming."""
    for leftover in folder.rglob(".*.tmp"):
        with suppress(IsADirectoryError):
            leftover.unlink(missing_ok=True)


def _extra(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in ("step", "name", "value")}


def request(path: str | Path, what: str) -> None:
    """Ask the writer of a run to cancel or pause: a touch-file that it looks for after every batch.

    Raises:
        InvalidRequestError: another word than these.
        RunError: there is no run.
    """
    if what not in ("cancel", "pause"):
        raise InvalidRequestError(f"control = {what!r}. Valid: cancel, pause.")
    if not (Path(path) / "run.json").is_file():
        raise RunError(f"{path} has no run.json, so it is not a run.")
    folder = Path(path) / "control"
    folder.mkdir(exist_ok=True)
    (folder / what).touch()


def withdraw(path: str | Path, what: Control) -> None:
    """Take a request back: a paused run goes on."""
    (Path(path) / "control" / what).unlink(missing_ok=True)


def requested(path: str | Path, what: Control) -> bool:
    """Is there such a request?"""
    return (Path(path) / "control" / what).exists()


def store_derived(
    path: str | Path, kind: Literal["projections", "cams"], key: str, arrays: Mapping[str, np.ndarray]
) -> Path:
    """Keep arrays that were computed on demand, under a key that names everything they depend on."""
    file = Path(path) / kind / f"{key}.safetensors"
    write_arrays(file, arrays)
    return file
