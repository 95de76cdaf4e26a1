"""More that can be read from what the probe has seen anyway: a fresh head, the right task, calibration, the object.

Pure functions of arrays that are already there; each returns arrays and scalars by their names in the run folder.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from itertools import takewhile
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cillab.core.arrays import double
from cillab.core.pixels import Preprocessing
from cillab.explain.overlap import as_seen, energy_inside, pointing_game
from cillab.geometry.accuracy import harmonic
from cillab.geometry.collapse import Collapse
from cillab.geometry.moments import Moments
from cillab.geometry.nc3 import nearest_mean
from cillab.geometry.predictions import calibration_by_age, task_decomposition
from cillab.geometry.retention import FreshHead, RidgeSums
from cillab.protocol.rarity import THIRDS

Found = tuple[dict[str, np.ndarray], dict[str, float]]


class Seen(NamedTuple):
    """What the probe saw of the images of one task."""

    features: Float[np.ndarray, "image feature"]
    logits: Float[np.ndarray, "image cls"]
    labels: Int[np.ndarray, " image"]

    @classmethod
    def together(cls, parts: Sequence["Seen"]) -> "Seen":
        """Those of several tasks, one after the other."""
        return cls(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


# Scalars of NC beyond those of every table <- names of the collapse record.
MORE_METRICS = {
    "equinorm_head": "nc2_equinorm_head",
    "gnc2_log": "gnc2_log_mean",
    "gnc2_log_variance": "gnc2_log_variance",
    "nc3_uniformity": "nc3_uniformity",
    "participation_between": "participation_between",
    "participation_within": "participation_within",
    "top_share": "within_top_share",
}


def collapse_detail(found: Collapse, seen: Sequence[int]) -> dict[str, np.ndarray]:
    """What cannot be worked out from the class means alone: agreement by class, spectrum within classes."""
    arrays = {}
    if found.agreement is not None:
        by_class = dict(zip(found.classes, found.agreement.per_class.tolist(), strict=True))
        arrays["nc/nc4"] = np.array([by_class.get(c, np.nan) for c in seen], dtype=np.float64)
    if found.within_spectrum is not None:
        arrays["nc/spectrum_within"] = found.within_spectrum.eigenvalues.astype(np.float32)
    return arrays


def within_axes(moments: Moments, most: int = 128) -> dict[str, np.ndarray]:
    """The leading directions of the within-class covariance: with its spectrum, enough to work out a head anew."""
    covariance = moments.pooled_within()
    if not np.isfinite(covariance).all():
        return {}
    _, vectors = np.linalg.eigh(covariance)
    return {"nc/axes_within": np.ascontiguousarray(vectors[:, ::-1][:, :most].T, dtype=np.float16)}


class FreshThen:
    """For every task the head that is fitted on the images of the tasks up to it, and what it answers on its own.

    What has not moved since the last look is neither fitted nor asked again. With frozen features a look costs one
    head, whatever the number of tasks; with trained ones, one for each task, from sums: no image counts twice.
    """

    def __init__(self) -> None:
        self._keys: list[bytes] = []  # of the images of each task, as they were
        self._right: list[Float[np.ndarray, " image"]] = []
        self._sums, self._summed = RidgeSums(), 0  # tasks in them
        self.newest: FreshHead | None = None
        """Of all images that were given last."""

    def look(self, trains: Sequence[Seen], tests: Sequence[Seen]) -> list[Float[np.ndarray, " image"]]:
        """By task: 1 where the head of the task is right on a test image of it."""
        keys = [_digest(*pair) for pair in zip(trains, tests, strict=True)]
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(keys, self._keys, strict=False)))
        if self._summed != same:
            self._sums, self._summed, self.newest = RidgeSums(), 0, None
            for one in trains[:same]:
                self._add(one)
        del self._keys[same:], self._right[same:]
        for key, train, test in zip(keys[same:], trains[same:], tests[same:], strict=True):
            self._add(train)
            self.newest = self._sums.head()
            self._right.append(_right(self.newest, test))
            self._keys.append(key)
        if self.newest is None and keys:
            self.newest = self._sums.head()
        return list(self._right)

    def _add(self, one: Seen) -> None:
        self._sums.add(one.features, one.labels)
        self._summed += 1


def _digest(train: Seen, test: Seen) -> bytes:
    state = sha256()
    for one in (train.features, train.labels, test.features, test.labels):
        state.update(repr((one.shape, one.dtype)).encode() + np.ascontiguousarray(one).tobytes())
    return state.digest()


def fresh_heads(
    tests: list[Seen],
    trains: list[Seen],
    means: Float[np.ndarray, "cls feature"],
    seen: tuple,
    then: FreshThen | None = None,
) -> Found:
    """Accuracy of heads that the learner does not have: nearest mean of now, and a ridge fitted now.

    They are oracles: they use training images of all classes seen. `accuracy/fresh` chooses among all classes seen;
    `accuracy/fresh_then`, for the images of a task, only among the classes that were there when the task had just been
    learnt: it can fall only if the features lost something, not because there is more to choose from. `then` remembers
    these from look to look.
    """
    ids = np.array(seen)
    rows = [(ids[nearest_mean(one.features, means)] == one.labels).astype(np.float64) for one in tests]
    found = {"accuracy/nme": rows}
    if len(np.unique(trains[0].labels)) > 1 and np.ptp(trains[0].features, axis=0).any():
        then = FreshThen() if then is None else then
        found["accuracy/fresh_then"] = then.look(trains, tests)
        assert then.newest is not None
        found["accuracy/fresh"] = [_right(then.newest, one) for one in tests]
    arrays = {name: np.array([r.mean() for r in rows]) for name, rows in found.items()}
    return arrays, {name: float(np.concatenate(rows).mean()) for name, rows in found.items()}


def _right(head: FreshHead, images: Seen) -> Float[np.ndarray, " image"]:
    return (head.predict(images.features) == images.labels).astype(np.float64)


def decisions(tests: list[Seen], seen: tuple, tasks: Mapping[int, int], index: int) -> Found:
    """Right task, right class within the task, and calibration on old and new classes, on the whole test set."""
    _, scores, labels = Seen.together(tests)
    logits = scores.astype(np.float64)
    split = task_decomposition(logits, labels, seen, tasks)
    old, new = calibration_by_age(_softmax(logits), labels, seen, tasks, newest=index)
    arrays = {"accuracy/task_id": split.task_id_per_task, "accuracy/within_task": split.within_task_per_task}
    for name, row in arrays.items():  # a task that brought no class has no entry of its own
        arrays[name] = np.concatenate([row, np.full(max(0, index + 1 - len(row)), np.nan)])
    scalars = {"accuracy/task_id": split.task_id, "accuracy/within_task": split.within_task}
    for name, found in (("old", old), ("new", new)):
        if found.counts.sum():
            arrays[f"calibration/{name}"] = np.stack(
                [found.confidence, found.accuracy, found.counts.astype(np.float64)]
            )
            scalars[f"calibration/{name}"] = found.value
    return arrays, scalars


def _softmax(logits: Float[np.ndarray, "image cls"]) -> Float[np.ndarray, "image cls"]:
    """By row. SciPy has one, whose import takes half a second."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def by_rarity(
    tests: list[Seen], seen: tuple, thirds: Mapping[int, str], tasks: Mapping[int, int] | None = None
) -> dict[str, float]:
    """Accuracy of the test images of head, medium and tail classes, those of them that are seen.

    All seen classes compete; with `tasks`, only those of the image's own task.
    """
    hits, labels = _right_classes(tests, seen, tasks)
    found = {}
    for name in THIRDS:
        mine = np.isin(labels, [c for c in seen if thirds.get(c) == name])
        if mine.any():
            found[f"accuracy/{name}"] = float(hits[mine].mean())
    return found


def base_and_new(tests: list[Seen], seen: tuple, tasks: Mapping[int, int]) -> dict[str, float]:
    """Base classes among themselves, new classes among themselves, and the harmonic mean of the two.

        H = 2 b n / (b + n)

    The base-to-new protocol: the two halves never compete. Source: CoCoOp, Zhou et al., CVPR 2022, arXiv:2203.05557.
    Before the new classes are named there is only b.
    """
    hits, labels = _right_classes(tests, seen, tasks)
    of_image = np.array([tasks[c] for c in labels.tolist()])
    halves = [float(hits[of_image == task].mean()) for task in sorted(set(of_image.tolist()))]
    names: tuple[str, ...] = ("accuracy/base_within", "accuracy/new_within")
    found: dict[str, float] = dict(zip(names, halves, strict=False))
    return {**found, "accuracy/harmonic": harmonic(*halves)} if len(halves) == len(found) == 2 else found


def _right_classes(
    tests: list[Seen], seen: tuple, tasks: Mapping[int, int] | None
) -> tuple[Float[np.ndarray, " image"], np.ndarray]:
    """Which test images are right, and their labels; with `tasks`, only classes of the image's own task compete."""
    _, scores, labels = Seen.together(tests)
    logits = scores.astype(np.float64)
    if tasks is not None:
        task_of_column, task = np.array([tasks[c] for c in seen]), np.array([tasks[c] for c in labels.tolist()])
        logits = np.where(task_of_column[None] == task[:, None], logits, -np.inf)
    return (np.array(seen)[logits.argmax(axis=1)] == labels).astype(np.float64), labels


def on_object(
    maps: Mapping[str, Float[Tensor, "image row column"]],
    masks: Bool[Tensor, "image height width"],
    preprocessing: Preprocessing,
) -> dict[str, np.ndarray]:
    """Per image and target: energy inside the mask, pointing game; NaN without a map. And the mask's share of it."""
    seen = as_seen(masks, preprocessing)
    arrays = {"cam_mask": double(seen).mean(dim=(1, 2)).float().cpu().numpy()}
    for name, values in maps.items():
        missing = ~values.flatten(1).isfinite().all(dim=1)
        for measure, measured in (("energy", energy_inside(values, seen)), ("pointing", pointing_game(values, seen))):
            arrays[f"cam_{measure}/{name}"] = measured.masked_fill(missing, torch.nan).float().cpu().numpy()
    return arrays


def on_object_means(arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Means over the images that have a map; the mask's share over the same images as the energy of "predicted"."""
    found = {}
    for name, values in arrays.items():
        kind = next((k for k in ("energy", "pointing") if name.startswith(f"cam_{k}/")), None)
        if kind and np.isfinite(values).any():
            found[f"cam/{kind}/{name.removeprefix(f'cam_{kind}/')}"] = float(np.nanmean(values))
    if "cam_mask" in arrays:
        found["cam/mask"] = float(arrays["cam_mask"].mean())
    return found
