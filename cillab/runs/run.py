"""Reading a run: lazily, at any moment, without a lock, while another process may be writing it."""

import os
import re
import socket
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float64

from cillab.core.errors import RunError, listed, nearest, unknown_name
from cillab.geometry.incremental import reworded
from cillab.runs.arrays import Arrays
from cillab.runs.files import damaged, parse_json, read_record
from cillab.runs.metrics import Metrics, read_metrics
from cillab.runs.probe import Probe, read_probe
from cillab.runs.schema import Abilities, Liveness, Protocol, Result, RunInfo, Status
from cillab.runs.shapes import misfit

_STEP = re.compile(r"t(\d+)(?:e(\d+))?")
_PATIENCE_S = 60.0  # a writer on another machine beats at least this often
_PATIENCE_HERE_S = 900.0  # on this machine the process can be seen, so one long closed-form step is no death


def step_id(task: int, epoch: int | None = None) -> str:
    """`t03` = after task 3, `t03e010` = inside task 3 after its epoch 10 (both counted from 0)."""
    return f"t{task:02d}" if epoch is None else f"t{task:02d}e{epoch:03d}"


def parse_step(text: str) -> tuple[int, int | None] | None:
    """Task and epoch of a step id, or None for something else."""
    match = _STEP.fullmatch(text)
    return (int(match[1]), int(match[2]) if match[2] else None) if match else None


def sorted_steps(ids: Iterator[str]) -> tuple[str, ...]:
    """Step ids in the order of time: the epochs of a task before its end."""
    known = {text: parsed for text in ids if (parsed := parse_step(text))}
    return tuple(sorted(known, key=lambda text: (known[text][0], known[text][1] is None, known[text][1] or 0)))


T = TypeVar("T")


class Snapshot(Mapping[str, np.ndarray]):
    """What the probe saw after one step: read-only arrays by name (`schema.SNAPSHOT_ARRAYS`), read when asked for."""

    def __init__(self, path: Path) -> None:
        self.id = path.stem
        self.task = (parse_step(path.stem) or (0, None))[0]
        self._arrays = Arrays(path)
        if why := misfit(self._arrays):
            raise damaged(path, why)
        self._measured: dict[Hashable, Any] = {}

    def once(self, measure: Callable[..., T], *args: Hashable) -> T:
        """`measure(self, *args)`, worked out once: a figure of one step asks for the extremes of all of them."""
        key = (measure, args)
        if key not in self._measured:
            self._measured[key] = measure(self, *args)
        return self._measured[key]

    def notes(self, side: str = "train") -> tuple[str, ...]:
        """What one must know to read the numbers of this side at this step; nothing if the writer said nothing.

        Raises:
            RunError: the notes in the file are damaged.
        """
        try:
            return tuple(reworded(str(note)) for note in parse_json(self._arrays.meta.get("notes", "{}")).get(side, ()))
        except (ValueError, AttributeError, TypeError) as error:
            raise damaged(self._arrays.path, "its notes cannot be read") from error

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._arrays:
            raise unknown_name(f"array of step {self.id}", name, self._arrays.names)
        return self._arrays[name]

    def get(self, name: str, default: Any = None) -> Any:
        """The array, or `default` when the step has none of that name."""
        if name not in self:
            return default
        return self[name]

    def __contains__(self, name: object) -> bool:
        return name in self._arrays

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays.names)

    def __len__(self) -> int:
        return len(self._arrays.names)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of an array without reading it."""
        return self._arrays.shape(name)

    def group(self, prefix: str) -> dict[str, np.ndarray]:
        """All arrays under `prefix/`, named without it: `group("internals")["noise/weights"]`."""
        return {name.removeprefix(f"{prefix}/"): self[name] for name in self if name.startswith(f"{prefix}/")}


class Run:
    """A run folder. Making one reads run.json only; everything else is read when asked for."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not (self.path / "run.json").is_file():
            raise RunError(_not_a_run(self.path))
        self.info: RunInfo = read_record(self.path / "run.json", RunInfo)
        self._snapshots: dict[str, tuple[tuple[int, int], Snapshot]] = {}
        self._metrics: tuple[tuple[int, int, int], Metrics] | None = None

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}: {self.name}, {len(self.steps)} steps, {self.liveness()})"

    @property
    def name(self) -> str:
        """What to call it in a legend: the folder's name."""
        return self.path.resolve().name

    @property
    def spec(self) -> dict[str, Any]:
        """The request that made the run, resolved."""
        return self.info.spec

    @property
    def protocol(self) -> Protocol:
        """Data, split, order, seed, weights, transform: what a number of this run means."""
        return self.info.protocol

    @property
    def capabilities(self) -> Abilities:
        """What the learner needs and shows."""
        return self.info.capabilities

    @property
    def class_names(self) -> Mapping[int, str]:
        """Names by class id."""
        return self.info.class_names

    @property
    def order(self) -> tuple[int, ...]:
        """Class ids in the order of the stream."""
        return tuple(self.info.class_order)

    @property
    def status(self) -> Status:
        """status.json as it is now; queued when nothing was written yet."""
        path = self.path / "status.json"
        return read_record(path, Status) if path.exists() else Status()

    def liveness(self, *, now: float | None = None) -> Liveness:
        """The state in `status`, or `interrupted` when its writer is gone: heartbeat too old, or process not there."""
        status = self.status
        if status.state not in ("queued", "running", "paused") or status.pid is None:
            return status.state
        age = (time.time() if now is None else now) - status.heartbeat
        here = status.host == socket.gethostname()
        if here and not is_alive(status.pid):
            return "interrupted"
        return "interrupted" if age > (_PATIENCE_HERE_S if here else _PATIENCE_S) else status.state

    @property
    def result(self) -> Result | None:
        """The numbers of the finished run, None before."""
        path = self.path / "result.json"
        return read_record(path, Result) if path.exists() else None

    @property
    def steps(self) -> tuple[str, ...]:
        """Ids of the snapshots on disk now, in the order of time."""
        return sorted_steps(path.stem for path in (self.path / "steps").glob("*.safetensors"))

    @property
    def task_steps(self) -> tuple[str, ...]:
        """Ids of the snapshots at the ends of tasks."""
        return tuple(step for step in self.steps if "e" not in step)

    def snapshot(self, step: str | int = -1) -> Snapshot:
        """One snapshot by id, or by position among `steps` (-1 = the last).

        Raises:
            RunError: no such step (the message names those there are), or its file is damaged.
        """
        path = self._file(self.resolve(step))
        try:
            stat = path.stat()
        except FileNotFoundError as error:
            raise RunError(f"{path} is missing.") from error
        key = (stat.st_mtime_ns, stat.st_size)
        known = self._snapshots.get(path.stem)
        if known is None or known[0] != key:
            known = self._snapshots[path.stem] = (key, Snapshot(path))
        return known[1]

    def _file(self, step: str) -> Path:
        return self.path / "steps" / f"{step}.safetensors"

    def resolve(self, step: str | int | None) -> str:
        """The id of a step given by id or position; None = the last."""
        if isinstance(step, str) and parse_step(step) and self._file(step).is_file():
            return step  # no list of all steps: a figure asks for each of a hundred
        steps = self.steps
        if not steps:
            raise RunError(f"{self.path} has no step yet.")
        if isinstance(step, str):
            if step not in steps:
                hint = nearest(step, steps)
                suffix = f" Did you mean {hint!r}?" if hint else ""
                raise RunError(f"{self.path} has no step {step!r}. Valid: {', '.join(steps)}.{suffix}")
            return step
        index = -1 if step is None else int(step)
        if not -len(steps) <= index < len(steps):
            raise RunError(f"{self.path} has no step {index}. Valid: 0 to {len(steps) - 1} ({', '.join(steps)}).")
        return steps[index]

    def metrics(self) -> Metrics:
        """All scalars written so far; read anew where the file has changed."""
        path = self.path / "metrics.jsonl"
        try:
            stat = path.stat()
        except FileNotFoundError:
            return read_metrics(path)
        key = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if self._metrics is None or self._metrics[0] != key:
            self._metrics = (key, read_metrics(path))
        return self._metrics[1]

    def accuracy_matrix(self) -> Float64[np.ndarray, "task task"]:
        """R[t, j] = accuracy after task t on the test images of task j, NaN above the diagonal; tasks done so far."""
        steps = self.task_steps  # once: a writer may add one meanwhile
        rows = [self.snapshot(step)["accuracy/row"] for step in steps]
        matrix = np.full((len(rows), len(rows)), np.nan)
        for index, (step, row) in enumerate(zip(steps, rows, strict=True)):
            if len(row) != index + 1:
                raise damaged(self._file(step), f"accuracy/row has {len(row)} entries")
            matrix[index, : index + 1] = row
        return matrix

    @cached_property
    def probe(self) -> Probe:
        """The images looked at after every step."""
        return read_probe(self.path / "probe")

    def checkpoint(self, task: int) -> Path | None:
        """The learner's state after `task`, or None when it was not kept."""
        path = self.path / "checkpoints" / f"{step_id(task)}.safetensors"
        return path if path.is_file() else None

    def state_after(self, task: int = -1) -> tuple[int, Path]:
        """The task and its learner's state; -1 is the last one that was kept. People count tasks from 1.

        Raises:
            RunError: it was not kept; names those that were.
        """
        kept = self.checkpoints
        if not kept:
            raise RunError(f"{self.path} kept no checkpoint: its pictures can be seen, its learner cannot be asked.")
        wanted = max(kept) if task == -1 else task
        if wanted not in kept:
            there = listed([str(one + 1) for one in kept])
            raise RunError(
                f"{self.path} holds no state after task {wanted + 1} (task={wanted}). Kept: after task {there}."
            )
        return wanted, kept[wanted]

    @property
    def checkpoints(self) -> dict[int, Path]:
        """Kept states by task."""
        found = ((parse_step(path.stem), path) for path in (self.path / "checkpoints").glob("*.safetensors"))
        return dict(sorted((parsed[0], path) for parsed, path in found if parsed and parsed[1] is None))

    def derived(self, kind: str, key: str) -> Arrays | None:
        """Arrays computed on demand before (`projections/<key>`, `cams/<key>`), or None."""
        path = self.path / kind / f"{key}.safetensors"
        return Arrays(path) if path.is_file() else None


def _not_a_run(path: Path) -> str:
    if not path.is_dir():
        return no_folder(path, ", so it is not a run")
    if (path / "spec.yaml").is_file() or (path / "control").is_dir():
        again = (
            f"`cillab run {path / 'spec.yaml'} --out {path}`" if (path / "spec.yaml").is_file() else "the same command"
        )
        return f"{path} has no run.json: it was stopped before the run began. Start it again with {again}."
    return f"{path} has no run.json, so it is not a run."


def no_folder(path: Path, so: str = "") -> str:
    """That there is no such folder, and the one beside it whose name is most like it."""
    beside: list[str] = []
    with suppress(OSError, ValueError):
        beside = [one.name for one in path.parent.iterdir() if one.is_dir()]
    hint = nearest(path.name, beside)
    return f"{path} is no folder{so}." + (f" Did you mean {str(path.parent / hint)!r}?" if hint else "")


def is_alive(pid: int) -> bool:
    """Is there such a process on this machine? A dead child nobody has waited for counts as dead."""
    if os.name == "nt":  # os.kill would end the process there
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    try:  # Linux: "pid (name) state ..."
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return True


def find_runs(root: str | Path) -> list[Path]:
    """Run folders under `root` (or `root` itself), sorted by path; it does not look inside runs."""
    found, open_ = [], [os.fspath(root)]
    while open_:
        folder = open_.pop()
        if os.path.isfile(f"{folder}/run.json"):  # noqa: PTH113 - a Path costs more than the look
            found.append(Path(folder))
            continue
        with suppress(OSError), os.scandir(folder) as inside:
            open_ += [e.path for e in inside if not e.name.startswith(".") and e.is_dir(follow_symlinks=False)]
    return sorted(found)
