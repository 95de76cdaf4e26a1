"""Which runs there are, and one open run as the pages need it. Read-only; a broken folder is no exception."""

import hashlib
import os
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, wraps
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import streamlit as st

from cillab.core.errors import CillabError, one_line
from cillab.runs import Run, Snapshot, find_runs
from cillab.runs.schema import Status

T = TypeVar("T")
_LIMIT = 200  # runs listed; a folder with more needs a table, not a page


@dataclass(frozen=True)
class Entry:
    """A run folder that may be chosen. The key in the URL is looked up here; it is never used as a path."""

    key: str
    path: Path
    kind: Literal["demo", "run"]


def runs_folder() -> Path:
    """Where this machine's own runs are."""
    return Path(os.environ.get("CILLAB_RUNS") or "runs")


def look_for(name: str) -> str:
    """What to look for in a recorded run; empty for others."""
    try:
        return import_module("cillab.demo").LOOK_FOR.get(name, "")
    except ImportError:
        return ""


def demos() -> dict[str, Path]:
    """Recorded runs that ship with the package, or nothing when they are not installed."""
    try:
        return dict(import_module("cillab.demo").demo_runs())
    except (ImportError, AttributeError, OSError, CillabError):
        return {}


def entries() -> list[Entry]:
    """Own runs, newest first, then the recorded ones."""
    root, own = runs_folder(), []
    if root.is_dir():
        paths = sorted(find_runs(root), key=lambda path: -changed(path))[:_LIMIT]
        own = [Entry(_key(path, root), path, "run") for path in paths]
    shipped = [Entry(f"demo-{name}", path, "demo") for name, path in demos().items() if path.is_dir()]
    return own + shipped


def changed(path: Path) -> float:
    """When the run was begun or last heard of; 0 for one that is gone."""
    when = 0.0
    for name in ("run.json", "status.json"):
        with suppress(OSError):
            when = max(when, os.stat(f"{path}/{name}").st_mtime)  # noqa: PTH116 - of each of ten thousand
    return when


def _key(path: Path, root: Path) -> str:
    return path.name if path == root else path.relative_to(root).as_posix()


def fragment(part: Callable[..., None]) -> Callable[..., None]:
    """`st.fragment` for a part of a page that shows a run, its first argument.

    A run that was deleted meanwhile reruns the whole page, which says so.
    """

    @st.fragment
    @wraps(part)
    def guarded(run: "Opened | Sequence[Opened]", *args: Any, **options: Any) -> None:
        runs = [run] if isinstance(run, Opened) else run
        if not all((one.run.path / "run.json").is_file() for one in runs):
            st.rerun()
        part(run, *args, **options)

    return guarded


@dataclass(frozen=True)
class Broken:
    """A run that cannot be shown, and the reason in one line."""

    entry: Entry
    reason: str


class Opened:
    """A run that can be shown: its snapshots at the ends of tasks, its probe, its scalars."""

    def __init__(self, entry: Entry, run: Run) -> None:
        self.entry, self.run, self.key = entry, run, entry.key
        self.steps: tuple[str, ...] = run.steps
        self.snapshots: list[Snapshot] = [run.snapshot(step) for step in self.steps]
        self.tasks_total = len(run.info.tasks)
        self._found: dict[Hashable, Any] = {}

    def once(self, look: Callable[..., T], *args: Hashable) -> T:
        """`look(run, *args)`, worked out once for the run as it is on disk: a changed one is opened anew."""
        key = (look, args)
        if key not in self._found:
            self._found[key] = look(self.run, *args)
        return self._found[key]

    @property
    def title(self) -> str:
        """Learner and data in a few words, with the folder's name where it says more."""
        learner = self.run.protocol.learner or "run"
        return learner if self.entry.kind == "demo" else f"{learner} · {self.key}"

    @property
    def status(self) -> Status:
        """status.json as it is now."""
        return self.run.status

    @cached_property
    def token(self) -> str:
        """Name of exactly these snapshots: what is kept under it needs no second look at a hundred files."""
        files = [self.run.path / "steps" / f"{step}.safetensors" for step in self.steps]
        times = [(file.stem, file.stat().st_mtime_ns) for file in files]
        return hashlib.blake2b(repr((str(self.run.path), times)).encode(), digest_size=8).hexdigest()

    @cached_property
    def liveness(self) -> str:
        """finished, running, interrupted ..."""
        return self.run.liveness()

    @cached_property
    def metrics(self):
        """All scalars."""
        return self.run.metrics()

    @cached_property
    def names(self) -> list[str]:
        """Class names in the order of the stream."""
        return [self.run.info.name_of(class_id) for class_id in self.run.order]

    @cached_property
    def position(self) -> dict[int, int]:
        """Position of each class id in the order of the stream."""
        return {class_id: index for index, class_id in enumerate(self.run.order)}

    def scalar(self, name: str) -> np.ndarray:
        """One scalar at every snapshot, NaN where it was not written."""
        return self.metrics.over(name, self.steps)

    def label(self, index: int) -> str:
        """What a snapshot is called: `task 4 of 10`, with the epoch where it lies inside a task."""
        task, _, epoch = self.steps[index].removeprefix("t").partition("e")
        inside = f", epoch {int(epoch)}" if epoch else ""
        return f"Task {int(task) + 1} of {self.tasks_total}{inside}"


def signature(path: Path) -> tuple:
    """Changes whenever a reader would see something else: finished runs are opened once, live ones anew."""
    parts = []
    for name in ("run.json", "status.json", "metrics.jsonl", "result.json", "steps", "probe/probe.json"):
        try:
            stat = (path / name).stat()
            parts.append((stat.st_mtime_ns, stat.st_size))
        except OSError:
            parts.append(None)
    return tuple(parts)


@st.cache_resource(max_entries=12, show_spinner=False)
def _open(key: str, path: str, kind: Literal["demo", "run"], signature: tuple) -> Opened | Broken:
    entry = Entry(key, Path(path), kind)
    try:
        opened = Opened(entry, Run(path))
        _ = (
            opened.liveness,
            opened.metrics,
            len(opened.run.probe),
        )  # what is damaged should show here, not half-way down a page
    except (CillabError, OSError, ValueError) as error:
        return Broken(entry, one_line(error))
    return opened


def opened(entry: Entry) -> Opened | Broken:
    """Open a run; a damaged one comes back as `Broken` with the reason."""
    return _open(entry.key, str(entry.path), entry.kind, signature(entry.path))
