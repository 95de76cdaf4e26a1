"""The probe: looks at a learner after every task and writes down what it sees. The learner never sees the probe.

Three sets of images, fixed over the run: probe points (test images of every class, also of those not seen yet,
followed one by one), the full test set of the seen classes (accuracy), and the first training images of each seen class
(collapse and drift are statements about training features). The last one is an oracle: a learner without exemplars
could not measure it, and nothing here flows back to the learner.
"""

import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from cillab.backbones.cache import taken
from cillab.core import rng
from cillab.core.arrays import array
from cillab.core.contract import Learner, Progress
from cillab.geometry.collapse import Collapse, collapse
from cillab.geometry.drift import cosine_drift, relative_drift
from cillab.geometry.moments import Moments
from cillab.lab import exposure, measures
from cillab.lab.maps import maps_of
from cillab.lab.measures import Seen
from cillab.lab.stored import stored_gaussians
from cillab.streams.images import ImageSet
from cillab.streams.stream import Stream

BATCH = 128  # the fastest size on CPUs, see benchmarks/

# Names in metrics.jsonl <- names of the collapse record.
METRICS = {
    "nc1": "nc1_pinv",
    "nc1_quotient": "nc1_quotient",
    "cdnv": "cdnv",
    "equinorm": "nc2_equinorm",
    "equiangular": "nc2_equiangularity",
    "max_angle": "nc2_maximal_angle",
    "gram": "nc2_gram",
    "nc3": "nc3_distance",
    "nc3_cosine": "nc3_cosine",
    "nc4": "nc4_agreement",
    "rank_between": "effective_rank_between",
    "rank_within": "effective_rank_within",
    **measures.MORE_METRICS,
}


@dataclass(frozen=True)
class Accuracy:
    """Fractions of test images classified correctly after a task."""

    seen: float  # all seen classes, every image counts the same
    old: float | None  # classes of earlier tasks; None after the first task
    new: float | None  # classes of this task; None where it brings none
    row: tuple[float, ...]  # by task: R[t, 0..t]; NaN where a task brought no class


@dataclass(frozen=True, eq=False)
class Look:
    """All that the probe saw after one task."""

    accuracy: Accuracy
    collapse: Collapse  # train side
    collapse_test: Collapse
    arrays: dict[str, np.ndarray]
    scalars: dict[str, float]
    notes: dict[str, tuple[str, ...]]  # by side: how to read the collapse numbers of this step


@dataclass
class Memory:
    """What the probe keeps from task to task: where each class was when it was learnt. Rebuilt from the run folder."""

    means: dict[int, np.ndarray] = field(default_factory=dict)
    variances: dict[int, float] = field(default_factory=dict)
    tasks: dict[int, int] = field(default_factory=dict)  # class -> task that brought it first

    def take(self, arrays: Mapping[str, np.ndarray], task: int) -> None:
        """Read on from the snapshot of `task`, the next one in order."""
        rows = zip(arrays["seen"], arrays["means/stored"], arrays["nc/within"], arrays["task_of_class"], strict=True)
        for class_id, mean, variance, first in rows:
            if int(class_id) not in self.means or not np.array_equal(mean, self.means[int(class_id)]):
                self.means[int(class_id)], self.variances[int(class_id)] = np.array(mean), float(variance)
            self.tasks.setdefault(int(class_id), min(int(first), task))


class Examiner:
    """Images to look through, chosen once for the run."""

    def __init__(self, stream: Stream, points: int = 500, train_per_class: int = 20) -> None:
        self.stream = stream
        self.train_per_class = train_per_class
        self.memory = Memory()
        self.points = _stratified(stream, points)
        self._train: dict[int, tuple[Tensor, Tensor]] = {}
        self._then = measures.FreshThen()

    @property
    def tasks(self) -> np.ndarray:
        """Task that brings each probe point's class."""
        first = {c: index for index, classes in enumerate(self.stream.classes) for c in classes}
        return np.array([first[c] for c in self.points.labels.tolist()], dtype=np.int32)

    def sprites(self) -> np.ndarray:
        """The middle squares of the probe points, uint8 [N, 3, side, side]; the run folder keeps them small."""
        return _squared(self.points.images).cpu().numpy()

    def look(self, learner: Learner, task_index: int, *, cams: bool = False) -> Generator[Progress, None, Look]:
        """Look at `learner` after task `task_index`, one batch per step; the generator returns the Look."""
        fixed, tests, trains = self.points, self._tests(task_index), self._trains(task_index)
        trains = [pair for pair in trains if len(pair[1])]  # classes that came by name alone have none
        total = len(fixed) + sum(len(labels) for _, labels in (*tests, *trains))
        eye = _Eye(learner, total)
        point = yield from eye.over(fixed.images, fixed.labels)
        seen_tests: list[Seen | None] = []
        seen_trains = []
        for images, labels in tests:  # a task that brings no new class has no test images of its own
            seen_tests.append((yield from eye.over(images, labels)) if len(labels) else None)
        for images, labels in trains:
            seen_trains.append((yield from eye.over(images, labels)))
        maps = (yield from maps_of(learner, fixed, BATCH)) if cams else {}
        to_come = (yield from _ahead(learner, self.stream, task_index)) if self.stream.scenario.transfers else {}
        with torch.no_grad():
            look = self._conclude(learner, task_index, point=point, tests=seen_tests, trains=seen_trains)
        look.arrays.update(maps, **to_come)
        look.scalars.update(measures.on_object_means(maps))
        return look

    def _conclude(
        self,
        learner: Learner,
        task_index: int,
        *,
        point: Seen,
        tests: list[Seen | None],  # by task; None where it has no test images of its own
        trains: list[Seen],
    ) -> Look:
        """Numbers from what was seen."""
        own = [index for index, one in enumerate(tests) if one is not None]
        tested = [one for one in tests if one is not None]
        seen = learner.seen
        classes = set(self.stream.classes[task_index])
        for c in classes:
            self.memory.tasks.setdefault(c, task_index)
        tasks = {c: self.memory.tasks[c] for c in seen}
        train, train_moments = _collapse(learner, trains, tasks, "train")
        test, test_moments = _collapse(learner, tested, tasks, "test")
        now = train_moments.means().astype(np.float32)
        within = train_moments.variances()
        for row, c in enumerate(seen):
            if c in classes or c not in self.memory.means or self.memory.means[c].shape != now[row].shape:
                self.memory.means[c], self.memory.variances[c] = now[row], float(within[row])
        stored = np.stack([self.memory.means[c] for c in seen])
        row_of = {c: row for row, c in enumerate(seen)}
        truth = [np.array([row_of[c] for c in one.labels.tolist()], dtype=np.int64) for one in tested]
        guessed = [one.logits.argmax(axis=1) for one in tested]
        accuracy = _accuracy([a == b for a, b in zip(truth, guessed, strict=True)], own, task_index)
        arrays = {
            "features": _half(point.features),
            "logits": _half(point.logits),
            "predictions": np.array(seen, dtype=np.int32)[point.logits.argmax(axis=1)],
            "seen": np.array(seen, dtype=np.int32),
            "task_of_class": np.array([tasks[c] for c in seen], dtype=np.int32),
            "means/stored": stored,
            "means/now": now,
            "means/test": test_moments.means().astype(np.float32),
            "nc/within": within,
            "train_images": np.array([self.stream.train_images[c] for c in seen], dtype=np.int32),
            "confusion": _confusion(np.concatenate(truth), np.concatenate(guessed), len(seen)),
            "accuracy/row": np.array(accuracy.row, dtype=np.float64),
            "cosine": _cosine(train, seen),
            **measures.collapse_detail(train, seen),
            **measures.within_axes(train_moments),
            **_head(learner),
            **{f"internals/{name}": _plain(value) for name, value in learner.internals().items()},
        }
        scalars = {
            "accuracy/seen": accuracy.seen,
            **({} if accuracy.new is None else {"accuracy/new": accuracy.new}),
            "cost/exposed": float(len(self.stream.plans[task_index].train)),
            **({} if accuracy.old is None else {"accuracy/old": accuracy.old}),
            **{f"nc/train/{name}": getattr(train, source) for name, source in METRICS.items()},
            **{f"nc/test/{name}": getattr(test, source) for name, source in METRICS.items()},
            **self._drift(stored, now, [row for row, c in enumerate(seen) if c not in classes], seen),
            **self._of_scenario(tested, seen, tasks),
        }
        of_features = "gaussian/mean" in {one.name for one in learner.capabilities.internals}
        fresh = len(trains) == len(tested)  # heads fitted on images need images of every class
        for more_arrays, more_scalars in (
            _in_place(measures.fresh_heads(tested, trains, train_moments.means(), seen, self._then), own, task_index)
            if fresh
            else ({}, {}),
            measures.decisions(tested, seen, tasks, task_index),
            stored_gaussians(learner.parts(), seen, trains, tasks, max(tasks.values())) if of_features else ({}, {}),
        ):
            arrays.update(more_arrays)
            scalars.update(more_scalars)
        return Look(accuracy, train, test, arrays, scalars, {"train": train.notes, "test": test.notes})

    def _of_scenario(self, tests: list[Seen], seen: tuple[int, ...], tasks: Mapping[int, int]) -> dict[str, float]:
        """Accuracy by rarity where the number of images falls; base and new classes where the new come by name."""
        halves = self.stream.scenario.names_only
        found = measures.base_and_new(tests, seen, tasks) if halves else {}
        return {**found, **measures.by_rarity(tests, seen, self.stream.thirds, tasks if halves else None)}

    def _drift(self, stored: np.ndarray, now: np.ndarray, old: list[int], seen: tuple[int, ...]) -> dict[str, float]:
        """How far the means of old classes moved since they were learnt: 0 when the features are frozen."""
        if not old:
            return {}
        spread = np.array([self.memory.variances[seen[row]] for row in old])
        found = {"drift/cosine": cosine_drift(stored[old], now[old]).value}
        if (spread > 0).all():
            found["drift/relative"] = relative_drift(stored[old], now[old], spread).value
        return found

    def _tests(self, task_index: int) -> list[tuple[Tensor, Tensor]]:
        sets = [self.stream.test(j) for j in range(task_index + 1)]
        return [(s.images, s.labels) for s in sets]

    def _trains(self, task_index: int) -> list[tuple[Tensor, Tensor]]:
        """The first training images of the classes that each task brings, from that task."""
        for j in range(task_index + 1):
            if j not in self._train:
                whole = self.stream.train(j)
                index = _first_of_each(whole.labels, self.train_per_class, set(self.stream.classes[j]))
                self._train[j] = (taken(whole.images, index), whole.labels[index])
        return [self._train[j] for j in range(task_index + 1)]


class _Eye:
    """Features and logits of images, in batches, without gradient; counts what it has handled."""

    def __init__(self, learner: Learner, total: int) -> None:
        self.learner, self.total, self.done = learner, total, 0
        self._started = time.perf_counter()

    def over(self, images: Tensor, labels: Tensor) -> Generator[Progress, None, Seen]:
        pairs: list[tuple[np.ndarray, np.ndarray]] = []
        for batch in images.split(BATCH):
            with torch.no_grad():
                features = self.learner.features(batch)
                scores = self.learner.scores(features)
            pairs.append((array(features.float()), array(scores.float())))
            self.done += len(batch)
            speed = self.done / max(time.perf_counter() - self._started, 1e-9)
            yield Progress("probe", self.done, self.total, step=len(pairs), images_per_second=speed)
        features, logits = (np.concatenate(column) for column in zip(*pairs, strict=True))
        return Seen(features, logits, array(labels))


def _stratified(stream: Stream, points: int) -> ImageSet:
    """About `points` test images, the same number of each class (at least one), by class in the stream's order."""
    everything = stream.test(None)
    labels = everything.labels.cpu().numpy()
    each = max(1, points // max(1, len(stream.order)))
    chosen: list[int] = []
    for class_id in stream.order:
        mine = np.flatnonzero(labels == class_id)
        draw = rng.numpy_stream(stream.seed, "probe", int(class_id))  # a class's points depend on no other class
        chosen += sorted(draw.permutation(mine)[:each].tolist())
    found = everything.take(chosen)
    return replace(found, images=taken(everything.images, torch.tensor(chosen, device=everything.images.device)))


def _first_of_each(labels: Tensor, count: int, classes: set[int]) -> Tensor:
    """Positions of the first `count` images of each of `classes`, in the stored order."""
    left = dict.fromkeys(classes, count)
    keep = []
    for position, label in enumerate(labels.tolist()):
        if left.get(label, 0) > 0:
            left[label] -= 1
            keep.append(position)
    return torch.tensor(keep, dtype=torch.int64, device=labels.device)


def _confusion(truth: np.ndarray, guessed: np.ndarray, classes: int) -> np.ndarray:
    """Counts of images by true class (row) and predicted class (column)."""
    pairs = np.bincount(truth * classes + guessed, minlength=classes**2)
    return pairs.reshape(classes, classes).astype(np.int32)


def _accuracy(hits: list[np.ndarray], tasks: list[int], newest: int) -> Accuracy:
    """From what was right of `tasks`, those that have test images of their own."""
    row = np.full(newest + 1, np.nan)
    row[tasks] = [one.mean() for one in hits]
    before = [one for one, task in zip(hits, tasks, strict=True) if task < newest]
    old = float(np.concatenate(before).mean()) if before else None
    new = float(row[-1]) if tasks[-1] == newest else None
    return Accuracy(seen=float(np.concatenate(hits).mean()), old=old, new=new, row=tuple(row.tolist()))


def _in_place(found: measures.Found, tasks: list[int], newest: int) -> measures.Found:
    """Numbers of `tasks` as numbers by task: NaN for those without test images of their own."""
    arrays = {name: np.full(newest + 1, np.nan) for name in found[0]}
    for name, values in found[0].items():
        arrays[name][tasks] = values
    return arrays, found[1]


def _ahead(learner: Learner, stream: Stream, task_index: int) -> Generator[Progress, None, dict[str, np.ndarray]]:
    """Accuracy on the tasks to come, of a learner that can take classes by name alone."""
    if not learner.capabilities.learns_names or task_index + 1 == len(stream):
        return {}
    for event in exposure.ahead(learner, stream, task_index):
        if not isinstance(event, Progress):
            return {"accuracy/ahead": event}
        yield event
    return {}


def _collapse(learner: Learner, taken: list[Seen], tasks: Mapping[int, int], data: str) -> tuple[Collapse, Moments]:
    """NC of features; the head takes part in NC3 only if it lives in the space of the features."""
    features, logits, labels = Seen.together(taken)
    moments = Moments(features.shape[1], "pooled")
    moments.declare(learner.seen)
    moments.add(features, labels)
    head = learner.head()
    fits = head.weight.shape == (len(learner.seen), features.shape[1])
    found = collapse(
        moments,
        array(head.weight.float()) if fits else None,
        array(head.bias.float()) if fits and head.bias is not None else None,
        head_classes=learner.seen,
        features=features,
        labels=labels,
        logits=logits,
        task_of_class=tasks,
        data=data,  # type: ignore[arg-type]
    )
    return found, moments


def _cosine(found: Collapse, seen: tuple[int, ...]) -> np.ndarray:
    matrix = np.full((len(seen), len(seen)), np.nan, dtype=np.float16)
    np.fill_diagonal(matrix, 1.0)
    if found.cosines is not None:
        at = [seen.index(c) for c in found.classes]
        matrix[np.ix_(at, at)] = found.cosines
    return matrix


def _head(learner: Learner) -> dict[str, np.ndarray]:
    head = learner.head()
    found = {"head/weight": head.weight.detach().float().cpu().numpy()}
    return found if head.bias is None else {**found, "head/bias": head.bias.detach().float().cpu().numpy()}


def _half(values: np.ndarray) -> np.ndarray:
    limit = np.finfo(np.float16).max  # squared distances can leave the range of float16: clamp, never inf
    return values.clip(-limit, limit).astype(np.float16)


def _plain(value: Tensor) -> np.ndarray:
    """Any tensor as NumPy: bf16 becomes f32, bool u8."""
    value = value.detach().cpu()
    if value.dtype in (torch.bfloat16, torch.float64):
        value = value.float()
    return (value.to(torch.uint8) if value.dtype == torch.bool else value).contiguous().numpy()


def _squared(images: Tensor) -> Tensor:
    """The middle square of every image."""
    height, width = images.shape[2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return images[:, :, top : top + side, left : left + side]
