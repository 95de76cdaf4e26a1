"""A Stream deals the images of a Source out as Tasks, and writes down which image is where."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import Any, final, overload

import numpy as np
import torch
from jaxtyping import Int64

from cillab.core.contract import Backbone
from cillab.core.errors import DataError, InvalidRequestError
from cillab.core.pixels import Preprocessing
from cillab.core.rng import numpy_stream
from cillab.core.scenario import DEFAULTS, PLAIN, Scenario, shots_of, thirds_of
from cillab.streams.images import Block, ImageSet, ImageTask, Place
from cillab.streams.sources import SPLITS, Size, Source, Split, open_source
from cillab.streams.splits import class_order, parse_split

MAX_NATIVE = 256
"""Images that all have one size up to this many pixels are kept as they are and resized on the device."""

_UNPLACED = Preprocessing(224, 1.0, "bicubic", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@dataclass(frozen=True, eq=False)
class Plan:
    """Which images of the source belong to one task: rows of the two splits, class by class."""

    classes: tuple[int, ...]
    train: Int64[np.ndarray, " train"]
    test: Int64[np.ndarray, " test"]


@final
@dataclass(frozen=True, eq=False)
class Stream:
    """An immutable sequence of tasks: `stream[3].classes`, `stream[:3]`, `for task in stream.on(backbone)`.

    A slice is a Stream whose tasks count from 0 again and which shares the images that are decoded already. Nothing is
    decoded before a task, `train` or `test` is asked for; then it is decoded once and stays on the device (`info`
    states how many bytes that is). Images that all have one size (up to 256 px) keep it. Others are drawn onto the
    canvas of the backbone that the stream is `on`, or, on none, onto squares of 224 px.
    """

    source: Source
    split: str
    seed: int
    order_rule: str
    per_class: Mapping[Split, int | None]
    plans: tuple[Plan, ...]
    native_size: Size | None  # height and width that all images share, if they do and it is small
    place: Place
    _train: tuple[Block, ...]  # a block per task: a task shares no memory with the next
    _test: Block  # one block for all, so that "everything seen so far" is a view
    _first: int = 0  # position in `_test` of this stream's first task
    scenario: Scenario = PLAIN

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of all classes of the source; a class id is a position in it."""
        return self.source.class_names

    @property
    def classes(self) -> tuple[tuple[int, ...], ...]:
        """Class ids of every task, without decoding anything."""
        return tuple(plan.classes for plan in self.plans)

    @property
    def order(self) -> tuple[int, ...]:
        """Class ids in the order in which they are learnt."""
        return tuple(class_id for plan in self.plans for class_id in plan.classes)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of classes of every task."""
        return tuple(len(plan.classes) for plan in self.plans)

    @property
    def names_only(self) -> tuple[int, ...]:
        """Classes that come by name alone, without a training image."""
        return tuple(c for plan in self.plans if not len(plan.train) for c in plan.classes)

    @cached_property
    def train_images(self) -> dict[int, int]:
        """Number of training images of every class."""
        labels = self.source.labels("train")
        counts = np.bincount(
            labels[np.concatenate([plan.train for plan in self.plans])], minlength=len(self.class_names)
        )
        return {class_id: int(counts[class_id]) for class_id in self.order}

    @cached_property
    def thirds(self) -> dict[int, str]:
        """`head`, `medium` or `tail` for every class with training images, where their number falls; else empty."""
        if self.scenario.imbalance == 1:
            return {}
        return thirds_of(tuple(c for plan in self.plans if len(plan.train) for c in plan.classes))

    def __len__(self) -> int:
        return len(self.plans)

    @overload
    def __getitem__(self, index: int) -> ImageTask: ...
    @overload
    def __getitem__(self, index: slice) -> "Stream": ...
    def __getitem__(self, index: int | slice) -> "ImageTask | Stream":
        """A task, or a stream of some of the tasks."""
        if isinstance(index, slice):
            return self._slice(range(len(self))[index])
        position = range(len(self))[index]
        names = {class_id: self.class_names[class_id] for class_id in self.plans[position].classes}
        return ImageTask(position, names, self.train(position))

    def __iter__(self) -> Iterator[ImageTask]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        return f"Stream({self.source.name}, {self.split}, {self.order_rule}, seed {self.seed}: {len(self)} tasks)"

    def train(self, task_index: int) -> ImageSet:
        """The training images of one task."""
        return self._train[task_index].view(0, 1)

    def test(self, task_index: int | None = None) -> ImageSet:
        """The test images of one task, or of all. `stream[: t + 1].test()` are those of the classes seen after t."""
        if task_index is None:
            return self._test.view(self._first, self._first + len(self))
        position = self._first + range(len(self))[task_index]
        return self._test.view(position, position + 1)

    def on(self, backbone: Backbone) -> "Stream":
        """The same stream with its pixels on the device and, for mixed sizes, in the canvas of `backbone`."""
        return self._placed(_place(self.native_size, backbone.device, backbone.preprocessing))

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """Which image is in which task, and digests of their bytes: plain JSON, the same wherever the data lie."""
        tasks = [
            {
                "classes": list(plan.classes),
                **{split: list(self.source.ids(split, _rows(plan, split))) for split in SPLITS},
                **{f"{split}_sha256": self.source.digest(split, _rows(plan, split)) for split in SPLITS},
            }
            for plan in self.plans
        ]
        return {"format_version": 1, "class_names": [self.class_names[c] for c in self.order], "tasks": tasks}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the manifest: equal exactly when the same images are dealt out in the same way."""
        return sha256(json.dumps(self.manifest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @cached_property
    def info(self) -> dict[str, Any]:
        """The protocol facts of a result, as plain JSON."""
        height, width = self.place.size
        families = self.source.families
        return {
            "data": self.source.name,
            "split": self.split,
            "order_rule": self.order_rule,
            "seed": self.seed,
            "order": list(self.order),
            "sizes": list(self.sizes),
            "class_names": {str(class_id): self.class_names[class_id] for class_id in self.order},
            "families": None if families is None else {str(class_id): families[class_id] for class_id in self.order},
            "train_per_class": self.per_class["train"],
            "test_per_class": self.per_class["test"],
            "num_train_images": sum(len(plan.train) for plan in self.plans),
            "num_test_images": sum(len(plan.test) for plan in self.plans),
            "stored_size": [height, width],
            "canvas": None if self.place.canvas is None else self.place.canvas.as_json(),
            "pixel_bytes": self._test.num_bytes + sum(block.num_bytes for block in self._train),
            "has_masks": self._has_masks(),
            "digest": self.digest,
            "scenario": self.scenario.name,
            "shots": self.scenario.shots,
            "imbalance": self.scenario.imbalance,
        }

    def _has_masks(self) -> bool:
        return self.source.masks("test", np.empty(0, dtype=np.int64)) is not None

    def _slice(self, chosen: range) -> "Stream":
        plans = tuple(self.plans[index] for index in chosen)
        if chosen.step != 1:  # not one piece of the test block any more
            return replace(self, plans=plans)._placed(self.place)
        train = tuple(self._train[index] for index in chosen)
        return replace(self, plans=plans, _train=train, _first=self._first + chosen.start)

    def _placed(self, place: Place) -> "Stream":
        train, test = _blocks(self.source, self.plans, place)
        return replace(self, place=place, _train=train, _test=test, _first=0)


# Not a subclass of Sequence[ImageTask]: run-time type checks look into those, and would decode a random task.
Sequence.register(Stream)  # pyright: ignore[reportAttributeAccessIssue]


def make_stream(
    data: str | Source,
    split: str | None = None,
    order: str | Sequence[int | str] | None = None,
    seed: int = 1993,
    *,
    scenario: str = "class-incremental",
    shots: int | None = None,
    imbalance: float = 1.0,
    train_per_class: int | None = None,
    test_per_class: int | None = None,
    image_size: int = 64,
    data_seed: int = 0,
) -> Stream:
    """A stream of tasks from a data set: `cillab.stream("shields", split="B0-Inc10", order="pilot", seed=1993)`.

    `seed` draws the class order; `data_seed` renders worlds and divides data that come without a test split, so that
    another order is an order of the same images. `train_per_class` and `test_per_class` take the first images of each
    class in the source's order, or all there are. `image_size` is the size of a rendered world.

    `scenario` is class-incremental (split B0-Inc10, order pilot if not given), few-shot (all classes in one task) or
    base-to-new (the first half of the order, then the second half by name alone; both 16 shots and label order if not
    given). `shots` training images of the first class, falling to `imbalance` times that for the last one in label
    order (`cillab.core.scenario.shots_of`), are drawn by `seed`: fewer shots are a part of more. Without `shots` the
    decay starts from all the images that a class has. A class that has fewer gives all. Test images stay balanced.

    Raises:
        UnknownNameError, InvalidRequestError: a data set, scenario, split, order or number that cannot be.
        DataError: a class without a training image (its name), or a task without a test image.
    """
    per_class: dict[Split, int | None] = {"train": train_per_class, "test": test_per_class}
    for name, count in per_class.items():
        if count is not None and count < 1:
            raise InvalidRequestError(f"{name}_per_class = {count}: at least 1, or leave it out for all images.")
    protocol = Scenario.of(scenario, shots, imbalance)
    split, order = protocol.split(split), DEFAULTS[scenario][1] if order is None else order
    if protocol.shots is not None and train_per_class is not None and train_per_class < protocol.shots:
        raise InvalidRequestError(
            f"train_per_class = {train_per_class} leaves fewer images than shots = {protocol.shots} asks for."
        )
    if isinstance(data, str):
        data = open_source(
            data, seed=data_seed, image_size=image_size, train_per_class=train_per_class, test_per_class=test_per_class
        )
    ids = class_order(order, data.class_names, seed)
    plans = _plans(data, ids, parse_split(split, len(ids)), per_class, protocol, seed)
    native = _native_size(data, plans)
    place = _place(native, torch.device("cpu"), _UNPLACED)
    train, test = _blocks(data, plans, place)
    rule = order if order in ("pilot", "natural") else "list"
    return Stream(data, split, seed, str(rule), per_class, plans, native, place, train, test, scenario=protocol)


def _plans(
    source: Source,
    order: tuple[int, ...],
    sizes: tuple[int, ...],
    per_class: Mapping[Split, int | None],
    scenario: Scenario,
    seed: int,
) -> tuple[Plan, ...]:
    rows = {}
    for split in SPLITS:
        labels = source.labels(split)
        by_class = np.argsort(labels, kind="stable")  # the source's order within each class
        bounds = np.searchsorted(labels[by_class], np.arange(len(source.class_names) + 1))
        rows[split] = [by_class[bounds[c] : bounds[c + 1]][: per_class[split]] for c in order]
    for class_id, found in zip(order, rows["train"], strict=True):
        if len(found) == 0:
            raise DataError(f"{source.name}: class {source.class_names[class_id]!r} has no training image.")
    trained = len(order) - sizes[-1] if scenario.names_only_at_the_end else len(order)
    rows["train"] = _drawn(rows["train"][:trained], order[:trained], scenario, seed)
    rows["train"] += [np.empty(0, dtype=np.int64)] * (len(order) - trained)
    plans, start = [], 0
    for size in sizes:
        span = slice(start, start + size)
        plans.append(Plan(order[span], *(np.concatenate(rows[split][span]) for split in SPLITS)))
        if len(plans[-1].test) == 0:
            names = ", ".join(source.class_names[c] for c in order[span][:5])
            raise DataError(f"{source.name}: task {len(plans) - 1} ({names}) has no test image.")
        start += size
    return tuple(plans)


def _drawn(
    rows: list[np.ndarray], classes: tuple[int, ...], scenario: Scenario, seed: int
) -> list[Int64[np.ndarray, " image"]]:
    """The training images that the scenario leaves of each class, in the source's order; all of them by default.

    A class's draw depends on the seed and the class alone, and a smaller number takes a part of a larger one's images.
    """
    if scenario.shots is None and scenario.imbalance == 1:
        return rows
    rank, kept = {c: k for k, c in enumerate(sorted(classes))}, []
    for class_id, found in zip(classes, rows, strict=True):
        most = len(found) if scenario.shots is None else scenario.shots
        count = shots_of(most, scenario.imbalance, len(classes))[rank[class_id]]
        kept.append(np.sort(numpy_stream(seed, "shots", class_id).permutation(found)[:count]))
    return kept


def _rows(plan: Plan, split: Split) -> Int64[np.ndarray, " image"]:
    return plan.train if split == "train" else plan.test


def _native_size(source: Source, plans: Sequence[Plan]) -> Size | None:
    """The size that all images of the plans share, unless it is so large that a canvas saves memory."""
    common = set[Size | None]()
    for split in SPLITS:
        common.add(source.common_size(split, np.concatenate([_rows(plan, split) for plan in plans])))
        if None in common or len(common) > 1:
            return None
    (size,) = common
    return size if size is not None and max(size) <= MAX_NATIVE else None


def _place(native: Size | None, device: torch.device, canvas: Preprocessing) -> Place:
    return Place(device, native, None) if native else Place(device, (canvas.resize, canvas.resize), canvas)


def _blocks(source: Source, plans: Sequence[Plan], place: Place) -> tuple[tuple[Block, ...], Block]:
    train = tuple(Block(source, "train", [plan.train], place) for plan in plans)
    return train, Block(source, "test", [plan.test for plan in plans], place)
