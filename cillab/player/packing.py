"""What the player takes: runs as small typed arrays, some hundred kilobytes, three megabytes at 100 tasks."""

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cillab.plane import Plane, quantise, square
from cillab.runs import Run, Snapshot, parse_step

CSS = Path(__file__).with_name("player.css")
NONE = 65535  # "no prediction" in the component
_SHOWN = 4  # class names of a task in its tooltip


@dataclass(frozen=True)
class Named:
    """A run, its snapshots in the order of time, and what to call it and them."""

    run: Run
    snapshots: Sequence[Snapshot]
    title: str
    labels: Sequence[str]  # one per snapshot


def name(run: Run, title: str = "") -> Named:
    """A run as the player takes it: all its snapshots, called `Task 4 of 10` and, inside a task, by epoch."""
    snapshots, labels = [run.snapshot(step) for step in run.steps], []
    for snapshot in snapshots:
        epoch = (parse_step(snapshot.id) or (0, None))[1]
        inside = "" if epoch is None else f", epoch {epoch}"
        labels.append(f"Task {snapshot.task + 1} of {len(run.info.tasks)}{inside}")
    return Named(run, snapshots, title or run.protocol.learner or run.name, labels)


def encode(array: np.ndarray, dtype: type) -> str:
    """An array as base64 of its little-endian bytes."""
    return base64.b64encode(_plain(array, dtype)).decode()


def _plain(array: np.ndarray, dtype: type) -> bytes:
    return array.astype(np.dtype(dtype).newbyteorder("<")).tobytes()


class Blob:
    """Arrays and pictures end to end in one piece of bytes: JSON is slow, and hosts read it more often than one thinks.

    What is put in is found again by its place: offset and length.
    """

    def __init__(self) -> None:
        self.data = bytearray()

    def put(self, array: np.ndarray | None, dtype: type) -> list[int] | None:
        """Little-endian numbers; nothing for nothing."""
        return None if array is None else self.add(_plain(array, dtype))

    def add(self, piece: bytes) -> list[int]:
        """A piece of bytes."""
        self.data += piece
        return [len(self.data) - len(piece), len(piece)]


def positions(run: Run) -> dict[int, int]:
    """Position of each class id in the order of the stream."""
    return {class_id: index for index, class_id in enumerate(run.order)}


def margins(run: Run, snapshots: Sequence[Snapshot]) -> tuple[np.ndarray, float]:
    """Logit of the true class minus the best other, on every probe point and step; NaN where there is none."""
    labels, out = run.probe.labels, []
    for snapshot in snapshots:
        logits, seen = np.asarray(snapshot["logits"], dtype=np.float32), snapshot["seen"].tolist()
        column = np.array([seen.index(c) if c in set(seen) else -1 for c in labels.tolist()])
        rows = np.arange(len(labels))
        true = logits[rows, column]
        rest = logits.copy()
        rest[rows, column] = -np.inf
        best = rest.max(axis=1) if logits.shape[1] > 1 else np.full(len(labels), np.nan)
        out.append(np.where(column >= 0, true - best, np.nan))
    found = np.stack(out)
    return found, float(np.nanmax(np.abs(found), initial=0)) / 32000 or 1.0


def pack(
    named: Sequence[Named],
    planes: Sequence[Plane],
    token: str,
    colours: Mapping[Any, Sequence[str]],
    panels: Callable[[Run, Blob], dict[str, Any]] | None = None,
) -> tuple[dict[str, Any], bytes]:
    """The data of the player for one or two runs, and the piece of bytes that holds their arrays.

    The player takes both together, the second as `blob`: base64, or the one cell of an Arrow table. A new `token` tells
    it to start anew, `colours` are hues by theme, `panels` packs what is drawn beside the map (`cillab.cockpit`).
    """
    longest = max(named, key=lambda one: len(one.run.info.tasks))
    blob = Blob()
    facts = {
        "token": token,
        "runs": [
            {**pack_run(one, plane, blob), "panels": None if panels is None else panels(one.run, blob)}
            for one, plane in zip(named, planes, strict=True)
        ],
        "tasks": _tasks(longest.run),
        "colours": {mode: list(hues) for mode, hues in colours.items()},
    }
    return facts, bytes(blob.data)


def pack_run(named: Named, plane: Plane, blob: Blob) -> dict[str, Any]:
    """One run of `pack`, its arrays put into `blob`."""
    run, snapshots, ranges = named.run, named.snapshots, square(plane.points)
    points = quantise(plane.points, ranges)

    def drawn(rows: np.ndarray | None) -> list[int] | None:
        return None if rows is None else blob.put(quantise(rows, ranges), np.int16)

    probe, place = run.probe, positions(run)
    position = np.vectorize(lambda c: place.get(int(c), NONE), otypes=[np.uint16])
    margin, scale = margins(run, snapshots)
    seen = run.metrics().over("accuracy/seen", tuple(snapshot.id for snapshot in snapshots))
    accuracy = [None if np.isnan(value) else float(value) for value in seen]
    return {
        "title": named.title,
        "alt": f"Probe images of {named.title} in a fixed plane of feature space, {len(snapshots)} steps",
        "probe": hashlib.blake2b("".join(map(str, probe.ids)).encode(), digest_size=8).hexdigest(),
        "steps": [
            {"label": label, "task": s.task, "note": f"{len(s['seen'])} classes seen"}
            for label, s in zip(named.labels, snapshots, strict=True)
        ],
        "ids": [str(i) for i in probe.ids],
        "names": [run.info.name_of(class_id) for class_id in run.order],
        "cls": blob.put(position(probe.labels), np.uint16),
        "task": blob.put(probe.tasks, np.uint16),
        "frame": _frame(points),
        "unit": float(ranges[0, 1]) / 32767 / plane.length,
        "shared": plane.shared,
        "xy": blob.put(points, np.int16),
        "predicted": blob.put(np.stack([position(s["predictions"]) for s in snapshots]), np.uint16),
        "margin": blob.put(np.nan_to_num(margin / scale), np.int16),
        "marginScale": scale,
        "means": drawn(plane.means),
        "meanTask": blob.put(np.array([run.info.task_of_class[c] for c in run.order]), np.uint16),
        "head": drawn(plane.head),
        "etf": drawn(plane.vertices),
        "accuracy": None if all(a is None for a in accuracy) else accuracy,
        "sprites": _sprites(run, blob),
    }


def _sprites(run: Run, blob: Blob) -> dict[str, Any] | None:
    """The atlas of probe images inside the data, or nothing where it is not there."""
    path = run.probe.sprites
    if path is None or not path.is_file():
        return None
    kind = {".webp": "webp", ".png": "png", ".jpg": "jpeg"}[path.suffix]
    return {
        "at": blob.add(path.read_bytes()),
        "kind": f"image/{kind}",
        "tile": run.probe.tile,
        "columns": run.probe.columns,
    }


def _frame(points: np.ndarray) -> dict[str, float]:
    """The box that holds all but the farthest points of every step: one centre and one size for the whole run."""
    low, high = np.quantile(points.reshape(-1, 2), [0.003, 0.997], axis=0)
    (x, y), (width, height) = (low + high) / 2, np.maximum(high - low, 1)
    return {"x": float(x), "y": float(y), "width": float(width), "height": float(height)}


def _tasks(run: Run) -> list[dict[str, str]]:
    out = []
    for index, classes in enumerate(run.info.tasks):
        names = [run.info.name_of(c) for c in classes]
        shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        out.append({"label": str(index + 1), "title": f"Task {index + 1}: {shown}"})
    return out
