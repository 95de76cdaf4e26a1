"""Jobs: a run in a process of its own. It outlives whoever started it; the run folder is all that connects them."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cillab.core.errors import RunError
from cillab.lab.spec import RunSpec
from cillab.runs import Run, RunWriter, Status, request, withdraw
from cillab.runs.claim import is_claimed
from cillab.runs.run import is_alive
from cillab.runs.writer import must_be_free

LOG = "log.txt"
_ASK_S = 0.9  # after the touch-file, before the signal
_TERM_S = 0.7  # after the signal, before the end by force: together under 2 s
_POLL_S = 0.05


@dataclass(frozen=True)
class Job:
    """A run under way in another process. Any number of Jobs may watch one run."""

    path: Path
    pid: int
    host: str = field(default_factory=socket.gethostname)  # of the process; signals reach only this machine
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False, compare=False)  # where it was started

    @classmethod
    def at(cls, path: str | Path) -> "Job":
        """The job that writes the run at `path`.

        Raises:
            RunError: no run there, or no process was ever recorded.
        """
        status = Run(path).status
        if status.pid is None:
            raise RunError(f"{path} names no process.")
        return cls(Path(path), status.pid, status.host or socket.gethostname())

    @property
    def alive(self) -> bool:
        """Is its process there?"""
        if not self._here:  # its process cannot be seen: the heartbeat tells
            return Run(self.path).liveness() in ("queued", "running", "paused")
        if self.process is not None:
            return self.process.poll() is None
        with suppress(ChildProcessError, OSError):  # reaps our own child, so that it does not look alive for ever
            os.waitpid(self.pid, os.WNOHANG)
        return is_alive(self.pid)

    @property
    def code(self) -> int | None:
        """Exit code, negative for a signal; None while it lives, and for whoever did not start it."""
        return self.process.poll() if self.process is not None else None

    @property
    def run(self) -> Run | None:
        """The run folder, or None while the process is still loading (or when its request was refused)."""
        return Run(self.path) if (self.path / "run.json").is_file() else None

    @property
    def status(self) -> Status:
        """Where it is; `failed` with the last line of the log when it ended before there was a run."""
        run = self.run
        if run is not None:
            return run.status
        if self.alive:
            return Status(state="queued", pid=self.pid)
        lines = [line for line in self.log().splitlines() if line.strip()]
        return Status(state="failed", pid=self.pid, error=lines[-1] if lines else "it ended without a word")

    def log(self) -> str:
        """Everything the process has said."""
        for path in (self.path / LOG, log_beside(self.path)):
            if path.is_file():
                return path.read_text(encoding="utf-8", errors="replace")
        return ""

    def pause(self) -> None:
        """Ask it to wait after the current batch."""
        request(self.path, "pause")

    def resume(self) -> None:
        """Let a paused job go on."""
        withdraw(self.path, "pause")

    def cancel(self) -> None:
        """Stop within 2 s: ask, then signal its group, then end it. What was finished is on disk either way.

        A run on another machine can only be asked: it stops after its current batch.
        """
        if self.run is not None:
            request(self.path, "cancel")
            if self.wait(_ASK_S):
                return
        if self.alive:
            self._signal(signal.SIGTERM)
        if not self.wait(_TERM_S):
            self._signal(signal.SIGKILL)
            self.wait(_TERM_S)
        run = self.run
        if run is not None and run.liveness() == "interrupted":  # it had no time to say so itself
            writer = RunWriter.resume(self.path)
            writer.status(state="cancelled", error="ended by force")
            writer.release()

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end of the process; False if it did not come."""
        deadline = time.monotonic() + timeout_s
        while self.alive:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_S)
        return True

    @property
    def _here(self) -> bool:
        return self.host == socket.gethostname()

    def _signal(self, number: signal.Signals) -> None:
        """To the whole group, if it is on this machine and leads its group, and a living process writes the run.

        Pids are used again, and the status of a folder that somebody sent may name any process.
        """
        if not self._here or ((self.path / "run.json").is_file() and not is_claimed(self.path)):
            return
        with suppress(ProcessLookupError, PermissionError):
            if os.getpgid(self.pid) == self.pid:
                os.killpg(self.pid, number)


def start(spec: RunSpec, environment: Mapping[str, str] | None = None) -> Job:
    """Start the run in a new session. Returns at once; torch takes seconds to load before the run folder appears.

    `environment` is added to that of this process.

    Raises:
        RunError: the folder exists and is not empty.
    """
    path = spec.folder()
    must_be_free(path)
    return _launch(path, [*spec.arguments(), "--log", str(log_beside(path))], log_beside(path), environment)


def start_resume(path: str | Path, environment: Mapping[str, str] | None = None) -> Job:
    """Go on, in a new process, with a run that was cancelled or interrupted.

    Raises:
        RunError: no run there, or it is still being written.
    """
    run = Run(path)
    if run.liveness() in ("running", "paused"):
        raise RunError(f"{run.path} is being written by process {run.status.pid} on {run.status.host}.")
    return _launch(run.path, ["resume", str(run.path)], run.path / LOG, environment)


def log_beside(path: Path) -> Path:
    """Where a job logs before there is a run folder; the run takes the file inside as soon as there is one."""
    return path.with_name(f".{path.name}.{LOG}")


def _launch(path: Path, arguments: list[str], log: Path, environment: Mapping[str, str] | None) -> Job:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "cillab", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # its own group, and no terminal that could take it along
            env={**os.environ, **(environment or {})},
        )
    return Job(path, process.pid, process=process)
