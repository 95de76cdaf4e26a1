"""One writer per run: a lock on the folder, taken before anything is loaded, that the system takes back from the dead.

The lock is on `control/lock`, which holds the process and the machine of the last writer, for people. Readers need no
lock. Inside one process the latest claim counts: `Lab.resume` in a notebook takes the run from the Lab before it, whose
next write is refused.
"""

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from cillab.core.errors import RunError
from cillab.runs.files import full_disk_named

if TYPE_CHECKING:
    from filelock import BaseFileLock

_FILE = Path("control") / "lock"
_LOOK_S = 0.2  # longer than the instant for which `is_claimed` holds a lock
_held: "WeakValueDictionary[Path, Claim]" = WeakValueDictionary()  # by this process; what nobody holds any more is free


class Claim:
    """The right to write one run folder."""

    def __init__(self, folder: Path, lock: "BaseFileLock", made: tuple[Path, ...]) -> None:
        self.folder = folder
        self._lock: BaseFileLock | None = lock  # None: given up, or taken over
        self._made = made  # folders that were not there before

    @property
    def valid(self) -> bool:
        """Is it still ours?"""
        return self._lock is not None

    def check(self) -> None:
        """Refuse to write what somebody else writes now.

        Raises:
            RunError: the claim was given up, or taken over in this process.
        """
        if not self.valid:
            raise RunError(f"{self.folder} has another writer by now: it was opened a second time after this one.")

    def release(self) -> None:
        """Let others write."""
        if self._lock is not None:
            self._lock.release(force=True)
            self._lock = None

    def withdraw(self) -> None:
        """Release, and leave nothing behind where the claim itself made the folder and no run was begun in it."""
        if self._lock is not None and self._made:
            with suppress(OSError):
                (self.folder / _FILE).unlink()
            for folder in reversed(self._made):
                with suppress(OSError):  # not empty
                    folder.rmdir()
        self.release()


def claim(folder: str | Path) -> Claim:
    """Become the one writer of `folder`, which is made if it is not there.

    Raises:
        RunError: another process is writing it, or the disk is full.
    """
    from filelock import FileLock, Timeout  # noqa: PLC0415 - 40 ms, and readers never need it

    folder = Path(folder)
    key = folder.resolve()
    before = _held.get(key)
    if before is not None and before._lock is not None:
        found = Claim(folder, before._lock, before._made)
        before._lock = None
    else:
        if folder.exists() and not folder.is_dir():
            raise RunError(f"{folder} is a file, not a folder for a run.")
        made = tuple(path for path in (*reversed(folder.parents), folder, folder / "control") if not path.exists())
        with full_disk_named(folder):
            (folder / "control").mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / _FILE, timeout=_LOOK_S, thread_local=False)
            try:
                lock.acquire(poll_interval=_LOOK_S / 10)
            except Timeout:
                raise RunError(f"{folder} is being written by {_holder(folder)}.") from None
            (folder / _FILE).write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
        found = Claim(folder, lock, made)
    _held[key] = found
    return found


def is_claimed(folder: str | Path) -> bool:
    """Is a living process of this machine writing the run? Holds the lock for an instant to find out."""
    folder = Path(folder)
    if _held.get(folder.resolve()) is not None and _held[folder.resolve()].valid:
        return True
    if not (folder / _FILE).is_file():
        return False
    from filelock import FileLock, Timeout  # noqa: PLC0415

    try:
        with FileLock(folder / _FILE, timeout=0, thread_local=False):
            return False
    except Timeout:
        return True


def has_lock(folder: Path) -> bool:
    """Was the run ever written by a process that takes the lock?"""
    return (folder / _FILE).is_file()


def _holder(folder: Path) -> str:
    try:
        return " ".join((folder / _FILE).read_text(encoding="utf-8", errors="replace").split())[:200] or "somebody else"
    except OSError:
        return "another process"
