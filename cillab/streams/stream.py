"""A Stream deals the images of a Source out as Tasks, and writes down which image is where."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import Any, final, overload

import numpy as np
import torch
from jaxtyping import Int64

from cillab.core.contract import Backbone
from cillab.core.pixels import Preprocessing
from cillab.protocol.dealing import check_deck, check_plans, settled
from cillab.protocol.named import must_allow_training
from cillab.protocol.rarity import falling, thirds_of
from cillab.protocol.scenario import Deck, Plan, Scenario, make_scenario
from cillab.protocol.specs import StreamSpec, order_text
from cillab.protocol.splits import class_order, numbers_read_as_ids
from cillab.streams.images import Block, ImageSet, ImageTask, Place
from cillab.streams.leaks import near_duplicates as near_duplicates_in, said_of
from cillab.streams.opening import open_source
from cillab.streams.sources import SPLITS, Size, Source, Split

log = logging.getLogger(__name__)

MAX_NATIVE = 256
"""Images that all have one size up to this many pixels are kept as they are and resized on the device."""

_UNPLACED = Preprocessing(224, 1.0, "bicubic", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


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
    spec: StreamSpec  # what was asked for
    plans: tuple[Plan, ...]
    native_size: Size | None  # height and width that all images share, if they do and it is small
    place: Place
    _train: tuple[Block, ...]  # a block per task: a task shares no memory with the next
    _test: Block  # one block for all, so that "everything seen so far" is a view
    _first: int = 0  # position in `_test` of this stream's first task

    @property
    def scenario(self) -> Scenario:
        """How the images were dealt out."""
        return self.spec.scenario

    @property
    def split(self) -> str:
        """Which classes form a task."""
        return self.spec.split

    @property
    def seed(self) -> int:
        """What decided class order and draws."""
        return self.spec.seed

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of all classes of the source; a class id is a position in it."""
        return self.source.class_names

    @property
    def classes(self) -> tuple[tuple[int, ...], ...]:
        """Class ids that every task brings, without decoding anything; a class that comes back is in its first task."""
        return tuple(plan.brings for plan in self.plans)

    @property
    def order(self) -> tuple[int, ...]:
        """Class ids in the order in which they are learnt."""
        return tuple(class_id for plan in self.plans for class_id in plan.brings)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of classes that every task brings."""
        return tuple(map(len, self.classes))

    @property
    def names_only(self) -> tuple[int, ...]:
        """Classes that come by name alone, without a training image."""
        return tuple(c for plan in self.plans if not len(plan.train) for c in plan.brings)

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
        return thirds_of(falling(self.train_images)) if self.scenario.falls else {}

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
        return f"Stream({self.source.name}, {self.split}, {self.spec.order}, seed {self.seed}: {len(self)} tasks)"

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
            **self.spec.model_dump(mode="json"),
            "order_rule": self.spec.order if self.spec.order in ("pilot", "natural") else "list",
            "order": list(self.order),
            "sizes": list(self.sizes),
            "class_names": {str(class_id): self.class_names[class_id] for class_id in self.order},
            "families": None if families is None else {str(class_id): families[class_id] for class_id in self.order},
            "num_train_images": sum(len(plan.train) for plan in self.plans),
            "num_test_images": sum(len(plan.test) for plan in self.plans),
            "stored_size": [height, width],
            "canvas": None if self.place.canvas is None else self.place.canvas.as_json(),
            "pixel_bytes": self._test.num_bytes + sum(block.num_bytes for block in self._train),
            "has_masks": self._has_masks(),
            "digest": self.digest,
        }

    def _has_masks(self) -> bool:
        return self.source.masks("test", np.empty(0, dtype=np.int64)) is not None

    def _slice(self, chosen: range) -> "Stream":
        plans = tuple(self.plans[index] for index in chosen)
        if any(plan.back for plan in plans):  # what comes back may come first here: then it brings its test images
            return replace(self, plans=self._anew(plans))._placed(self.place)
        if chosen.step != 1:  # not one piece of the test block any more
            return replace(self, plans=plans)._placed(self.place)
        train = tuple(self._train[index] for index in chosen)
        return replace(self, plans=plans, _train=train, _first=self._first + chosen.start)

    def _anew(self, plans: tuple[Plan, ...]) -> tuple[Plan, ...]:
        """`plans` without those before them."""
        labels, rows = self.source.labels("test"), np.concatenate([plan.test for plan in self.plans])
        test = {c: rows[labels[rows] == c] for c in self.order}
        return settled(((plan.classes, plan.train) for plan in plans), test)

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
    scenario: str | Mapping[str, Any] | Scenario = "class-incremental",
    train_per_class: int | None = None,
    test_per_class: int | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    near_duplicates: bool = False,
    image_size: int = 64,
    data_seed: int = 0,
    **settings: Any,
) -> Stream:
    """A stream of tasks from a data set: `cillab.stream("shields", split="B0-Inc10", order="pilot", seed=1993)`.

    `scenario` names how the images are dealt out, and `settings` are its parameters: `scenario="few-shot", way=5`
    (docs/scenarios.md has them all); split and order that it implies need not be given. `seed` draws the class order
    and whatever the scenario draws; `data_seed` renders worlds and divides data that come without a test split, so that
    another order is an order of the same images. `train_per_class` and `test_per_class` take the first images of each
    class in the source's order, or all there are. `image_column` and `label_column` name the columns of a table;
    `near_duplicates` counts the test images that look like a training image. `image_size` is the size of a rendered
    world.

    Raises:
        UnknownNameError, InvalidRequestError: a data set, scenario, split, order or number that cannot be.
        DataError: a class without a training image (its name), or a task without a test image.
    """
    given = {
        "split": split, "train_per_class": train_per_class, "test_per_class": test_per_class,
        "image_column": image_column, "label_column": label_column, "near_duplicates": near_duplicates,
    }  # fmt: skip
    wanted = make_scenario(scenario, **settings)
    asked = {"scenario": wanted, "seed": seed, **{name: value for name, value in given.items() if value is not None}}
    spec = StreamSpec.of({**asked, "order": wanted.order}, "stream")  # refused before anything is opened
    if isinstance(data, str):
        must_allow_training(data)
        data = open_source(
            data, seed=data_seed, image_size=image_size, train_per_class=train_per_class, test_per_class=test_per_class,
            image_column=image_column, label_column=label_column,
        )  # fmt: skip
    return stream_of(spec, data, order)


def stream_of(spec: StreamSpec, source: Source | None = None, order: str | Sequence[int | str] | None = None) -> Stream:
    """The stream that a record asks for, of the data set that it names or of `source`, in its order or in `order`.

    Raises:
        CillabError: as `make_stream`.
    """
    must_allow_training(spec.data if source is None else source.name)
    if source is None:
        source = open_source(
            spec.data, train_per_class=spec.train_per_class, test_per_class=spec.test_per_class,
            image_column=spec.image_column, label_column=spec.label_column,
        )  # fmt: skip
    rule = spec.order if order is None else order
    ids = class_order(rule, source.class_names, spec.seed)
    _say(source, numbers_read_as_ids(rule, source.class_names, ids))
    if spec.near_duplicates and source.near_leaked is None:
        found = near_duplicates_in(source)
        source.near_leaked = len(found)
        tests = len(source.labels("test"))
        _say(source, said_of(found, tests, "look like a training image") if found else None)
    spec = spec.model_copy(update={"data": source.name, "order": order_text(rule, ids)})
    deck = _deck(source, spec, ids)
    check_deck(deck)
    plans = spec.scenario.deal(deck)
    check_plans(deck, plans)
    native = _native_size(source, plans)
    place = _place(native, torch.device("cpu"), _UNPLACED)
    train, test = _blocks(source, plans, place)
    return Stream(source, spec, plans, native, place, train, test)


def _say(source: Source, note: str | None) -> None:
    """Something odd about the data, in the log and in the notes, once."""
    if note is not None and note not in source.notes:
        source.notes = (*source.notes, note)
        log.warning("%s: %s", source.name, note)


def _deck(source: Source, spec: StreamSpec, order: tuple[int, ...]) -> Deck:
    """Rows of every class of `order`, in the source's order, as many as are taken."""
    rows: dict[Split, dict[int, Int64[np.ndarray, " image"]]] = {}
    taken: dict[Split, int | None] = {"train": spec.train_per_class, "test": spec.test_per_class}
    for split in SPLITS:
        labels = source.labels(split)
        by_class = np.argsort(labels, kind="stable")
        bounds = np.searchsorted(labels[by_class], np.arange(len(source.class_names) + 1))
        rows[split] = {c: by_class[bounds[c] : bounds[c + 1]][: taken[split]] for c in order}
    return Deck(
        source.name, source.class_names, order, rows["train"], rows["test"], spec.split, spec.seed, source.domains
    )


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
