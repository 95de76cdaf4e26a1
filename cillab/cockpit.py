"""What the panels beside the player draw: a run's measures at every step as small arrays, shipped once with its points.

The figures of the package say the same with axes and notes; both read the same records (`read_collapse`, ...). A
method's own quantity is found by the shape and the meaning that its learner declares, never by the method's name.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cillab import glossary
from cillab.core.internals import SHARED
from cillab.figures.angles import PAIRS, read_angles
from cillab.figures.collapse import PANELS, line_hue, read_collapse
from cillab.figures.drift import read_drift
from cillab.figures.palette import ROLES
from cillab.figures.registry import figures_of
from cillab.plane import ABSENT
from cillab.player import HEADS, NONE, Blob, frame, head_answers, positions
from cillab.runs import Run, Snapshot

CAM_BYTES = 4_000_000  # of maps, all images and steps together; above, the panel leads to the page that has them
_QUANTITIES = {  # of the glossary, by panel
    "angles": ("ideal_cosine", "equiangularity"),
    "drift": ("cosine_drift",),
    "matrix": ("a_seen",),
    "cams": ("noise_floor",),
}
TARGETS = ("true", "predicted", "difference")
_ACCURACIES = ("old", "new")  # that of all classes seen comes with the points
_PREFIX = "internals/"
_FORMS: Mapping[str, str] = {  # how an array is drawn, by the letters of its axes
    **dict.fromkeys(("L,t", "n,t", "t,t", "K,K"), "cells"),
    **dict.fromkeys(("K", "k", "Kold"), "classes"),  # old classes stand first in the order of the stream
    **dict.fromkeys(("t", "M", "n", "d"), "bars"),
    **dict.fromkeys(("", "1"), "line"),
}


def panels(run: Run, blob: Blob) -> dict[str, Any]:
    """All that the panels need of a run, its arrays put into `blob`; absent panels are None."""
    shots = [run.snapshot(step) for step in run.steps]
    metrics = run.metrics()
    return {
        "accuracy": {name: blob.put(metrics.over(f"accuracy/{name}", run.steps), np.float32) for name in _ACCURACIES},
        "collapse": _collapse(run, blob),
        "angles": _angles(run, blob),
        "drift": _drift(run, blob),
        "matrix": _matrix(shots, blob),
        "own": own(run, shots, blob),
        "cams": _cams(run, shots, blob),
        "heads": _heads(run, shots, blob),
        "frame": _frame(run, shots, blob),
        "tips": _tips(),
    }


def _tips() -> dict[str, str]:
    """What the glossary says of a panel's quantities, by the panel's name: what it is, its formula, its better way."""
    entries = {series: one.key for one in glossary.entries() for series in one.series}
    collapse = {title.lower(): [entries[name] for name in scalars if name in entries] for title, _, scalars in PANELS}
    return {panel: "\n\n".join(map(_tip, keys)) for panel, keys in {**collapse, **_QUANTITIES}.items()}


def _tip(key: str) -> str:
    one = glossary.entry(key)
    better = {"neither": "Neither way is better."}.get(one.better, f"{one.better.capitalize()} is better.")
    return "\n".join(filter(None, (f"{one.name}: {one.summary}", one.formula, better))).replace("`", "")


def _frame(run: Run, shots: Sequence[Snapshot], blob: Blob) -> dict[str, Any] | None:
    """Vectors of the classes of every step, for the view that turns; int16 in units of `unit`."""
    found = frame(run, shots)
    if found is None:
        return None
    unit = float(np.abs(found.means).max()) * 1.5 / 32000 or 1.0

    def rows(values: np.ndarray | None) -> list[int] | None:
        if values is None:
            return None
        whole = np.rint(np.clip(np.nan_to_num(values) / unit, -32000, 32000))
        return blob.put(np.where(np.isfinite(values), whole, ABSENT), np.int16)

    arrays = {"means": rows(found.means), "head": rows(found.head), "corners": rows(found.corners)}
    return {"counts": list(found.counts), "dims": found.means.shape[1], "unit": unit, "share": found.share, **arrays}


def _heads(run: Run, shots: Sequence[Snapshot], blob: Blob) -> list[dict[str, Any]]:
    """Answers of other heads, as positions of classes in the order of the stream."""
    there = positions(run)
    place = np.vectorize(lambda c: there.get(int(c), NONE), otypes=[np.uint16])
    return [
        {"name": name, "title": HEADS[name][1], "predicted": blob.put(place(answers), np.uint16)}
        for name, answers in head_answers(run, shots).items()
    ]


def _collapse(run: Run, blob: Blob) -> list[dict[str, Any]]:
    """NC1 to NC4 as the figure has them: title, target, and a line for each scalar and side."""
    data = read_collapse(run)
    return [
        {
            "title": title,
            "target": 1.0 if title == "NC4" else 0.0,
            "log": title == "NC1",
            "percent": title == "NC4",
            "lines": [
                {
                    "label": words,
                    "side": side,
                    "hue": line_hue(title, name, side),
                    "values": blob.put(data.series[f"{side}/{name}"], np.float32),
                }
                for name, words in scalars.items()
                for side in ("train", "test")
                if np.isfinite(data.series[f"{side}/{name}"]).any()
            ],
        }
        for title, _, scalars in PANELS
    ]


def _angles(run: Run, blob: Blob) -> dict[str, Any] | None:
    """Histograms of the cosines by age (old/old, old/new, new/new), their means and the target -1/(K-1)."""
    data = read_angles(run)
    found = [data.steps[step] for step in run.steps]
    if not any(sum(one.pairs) for one in found):
        return None
    return {
        "low": float(data.edges[0]),
        "high": float(data.edges[-1]),
        "bins": len(data.edges) - 1,
        "highest": data.highest,
        "hues": [ROLES[role] for role, _, _ in PAIRS.values()],
        "shares": blob.put(np.stack([one.shares for one in found]), np.float32),
        "pairs": blob.put(np.array([one.pairs for one in found]), np.float32),
        "means": blob.put(np.array([one.means for one in found]), np.float32),
        "target": blob.put(np.array([one.target for one in found]), np.float32),
    }


def _drift(run: Run, blob: Blob) -> dict[str, Any] | None:
    """Cosine of stored and re-measured class means, by task of the classes."""
    data = read_drift(run)
    if not np.isfinite(data.mean).any():
        return None
    low = float(np.nanmin(data.mean))
    return {"tasks": data.tasks, "low": low, "values": blob.put(data.mean, np.float32)}


def _matrix(shots: Sequence[Snapshot], blob: Blob) -> dict[str, Any]:
    """Accuracy on every task's test images at every step, NaN for tasks to come."""
    tasks = max(shot.task for shot in shots) + 1
    values = np.full((len(shots), tasks), np.nan)
    for at, shot in enumerate(shots):
        row = np.asarray(shot["accuracy/row"], dtype=float)
        values[at, : len(row)] = row
    return {"tasks": tasks, "values": blob.put(values, np.float32)}


def _cams(run: Run, shots: Sequence[Snapshot], blob: Blob) -> dict[str, Any] | None:
    """Stored Grad-CAM of every probe image at every step: bytes, and the scale of each map; None where none is."""
    kept = [shot for shot in shots if all(f"cam/{target}" in shot for target in TARGETS)]
    if not kept:
        return None
    grid, images = kept[0]["cam/true"].shape[1:], len(run.probe)
    if len(shots) * len(TARGETS) * images * int(np.prod(grid)) > CAM_BYTES:
        return {"grid": list(grid), "maps": None}
    nothing = np.zeros((images, *grid), dtype=np.uint8)
    maps, scales, floors = [], [], []
    for shot in shots:
        floors.append([float(np.asarray(shot.get(f"cam_floor/{t}", np.nan))) for t in TARGETS])
        maps.append(np.stack([shot.get(f"cam/{t}", nothing) for t in TARGETS]))
        scales.append(np.stack([shot.get(f"cam_scale/{t}", np.full(images, np.nan)) for t in TARGETS]))
    return {
        "grid": list(grid),
        "clearest": clearest(kept),
        "maps": blob.put(np.stack(maps), np.uint8),  # [step, target, image, row, column]
        "scales": blob.put(np.stack(scales), np.float32),
        "floors": blob.put(np.array(floors), np.float32),  # [step, target], NaN where it was not measured
    }


def clearest(shots: Sequence[Snapshot]) -> int:
    """Position of the image whose stored maps reach their noise floor most often; the first where none was measured."""
    drawn = [
        np.asarray(shot[f"cam_scale/{t}"], float) > float(np.asarray(shot[f"cam_floor/{t}"]))
        for shot in shots
        for t in TARGETS
        if f"cam_scale/{t}" in shot and f"cam_floor/{t}" in shot
    ]
    return int(np.sum(drawn, axis=0).argmax()) if drawn else 0


class _Quantity(NamedTuple):
    """One of a method's own quantities over the steps, in a form that can be drawn."""

    names: tuple[str, ...]  # of the recorded arrays
    kind: str  # cells, bars, classes, line
    title: str
    meaning: str
    arrays: list[np.ndarray | None]  # one per step


def own(run: Run, shots: Sequence[Snapshot], blob: Blob) -> list[dict[str, Any]]:
    """The method's own quantities: first what it declares first; flags and what cannot be drawn small are left out."""
    found = [*_distances(run, shots), *(q for name in _names(run, shots) if (q := _quantity(run, shots, name)))]
    out = []
    for one in found:
        known = [a for a in one.arrays if a is not None and np.isfinite(a).any()]
        if not known:
            continue
        arrays = [None if a is None else np.asarray(a, dtype=np.float32) for a in one.arrays]
        out.append({
            "kind": one.kind,
            "title": one.title.replace("_", " "),
            "meaning": one.meaning,
            "figure": _figure(run, one.names),
            "low": float(min(np.nanmin(a) for a in known)),
            "high": float(max(np.nanmax(a) for a in known)),
            "steps": [None if a is None else {"at": blob.put(a, np.float32), "shape": list(a.shape)} for a in arrays],
        })  # fmt: skip
    return out


def _figure(run: Run, names: Sequence[str]) -> str | None:
    """The figure that explains a quantity: one that needs it, else one that needs another of its group."""
    groups = {f"{_PREFIX}{name.partition('/')[0]}/" for name in names}
    figures = figures_of(run=run)
    exact = [f.name for f in figures if any(_PREFIX + name in f.needs for name in names)]
    near = [f.name for f in figures if any(need.startswith(group) for need in f.needs for group in groups)]
    return next(iter([*exact, *near]), None)


def _names(run: Run, shots: Sequence[Snapshot]) -> list[str]:
    """Recorded quantities that are no flags, in the order of their declaration, the undeclared ones behind."""
    there = {name.removeprefix(_PREFIX) for shot in shots for name in shot if name.startswith(_PREFIX)}
    order = {name: at for at, name in enumerate(run.capabilities.internals)}
    last = shots[-1]
    numbers = [n for n in there if (a := last.get(_PREFIX + n)) is None or np.asarray(a).dtype != np.uint8]
    return sorted(numbers, key=lambda name: (order.get(name, len(order)), name))


def _meaning(run: Run, name: str) -> tuple[str, str]:
    """Shape and meaning of a quantity, as its learner declares them; empty where nobody did."""
    text = run.capabilities.internals.get(name) or (str(SHARED[name]) if name in SHARED else "")
    shape, _, meaning = text.partition(": ")
    return shape.partition("[")[2].partition("]")[0].replace(" ", ""), meaning


def _axes(run: Run, shots: Sequence[Snapshot], name: str) -> str | None:
    """Letters of the axes, `L,t`: as declared, else by what grows with tasks and classes; None where it has no form."""
    arrays = [(shot, np.asarray(a)) for shot in shots if (a := shot.get(_PREFIX + name)) is not None]
    declared, _ = _meaning(run, name)
    if declared or not arrays:
        return declared
    if len({array.ndim for _, array in arrays}) != 1:
        return None

    def letter(axis: int) -> str:
        sizes = [(array.shape[axis], shot.task + 1, len(shot["seen"])) for shot, array in arrays]
        if all(size == tasks for size, tasks, _ in sizes):
            return "t"
        if all(size == classes for size, _, classes in sizes):
            return "K"
        return "n" if len({size for size, _, _ in sizes}) == 1 else "k"  # k: some of the classes

    return ",".join(letter(axis) for axis in range(arrays[0][1].ndim))


def _quantity(run: Run, shots: Sequence[Snapshot], name: str) -> _Quantity | None:
    """A quantity as cells, bars, a point per class or a line over the steps; None where it is none of them."""
    arrays: list[np.ndarray | None] = [
        None if (a := shot.get(_PREFIX + name)) is None else np.asarray(a) for shot in shots
    ]
    axes = _axes(run, shots, name)
    kind = _FORMS.get(axes if axes is not None else "none")
    if kind is None:
        return None
    if kind == "bars" and all(a is None or a.size == 1 for a in arrays):
        kind = "line"
    return _Quantity((name,), kind, name.replace("/", ": ").replace("_", " "), _meaning(run, name)[1], arrays)


def _distances(run: Run, shots: Sequence[Snapshot]) -> list[_Quantity]:
    """Angles by class between two sets of vectors that a method keeps side by side, such as before and after.

    The pairs are those of one group with a row per class and the same width: `align/before` and `align/after`.
    """
    last, pairs = shots[-1], []
    rows = [
        name.removeprefix(_PREFIX) for name in sorted(last)
        if name.startswith(_PREFIX) and np.ndim(last[name]) == 2 and len(last[name]) == len(last["seen"])
        and np.shape(last[name])[1] not in (last.task + 1, len(last["seen"]))
    ]  # fmt: skip
    for at, one in enumerate(rows):
        for two in rows[at + 1 :]:
            group, _, word = one.partition("/")
            if two.partition("/")[0] == group and last[_PREFIX + one].shape == last[_PREFIX + two].shape:
                pairs.append((one, two, f"{group}: {word} against {two.partition('/')[2]}"))
    return [
        _Quantity((a, b), "classes", title, "angle between the two by class, degrees", [_angle(s, a, b) for s in shots])
        for a, b, title in pairs
    ]


def _angle(shot: Snapshot, one: str, two: str) -> np.ndarray | None:
    """Degrees between the rows of two recorded arrays."""
    if _PREFIX + one not in shot or _PREFIX + two not in shot:
        return None
    a, b = (np.asarray(shot[_PREFIX + name], dtype=np.float64) for name in (one, two))
    if a.shape != b.shape:
        return None
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))
