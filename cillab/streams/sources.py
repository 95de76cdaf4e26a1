"""Where images come from: what every source can be asked, and how a source is found by its name."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from cillab.core.errors import InvalidRequestError, shown, unknown_name
from cillab.core.pixels import Preprocessing
from cillab.core.places import cache_dir
from cillab.core.registry import sources
from cillab.core.rng import numpy_stream

Split = Literal["train", "test"]
SPLITS: tuple[Split, Split] = ("train", "test")
Size = tuple[int, int]  # height, width
Divide = Callable[[Any, Sequence[str], Sequence[str]], "dict[Split, Any]"]
"""Labels, class names and names of images that come in one piece -> rows of each split."""


class Source(ABC):
    """Labelled images in two splits, "train" and "test", in a fixed order that never depends on what is asked.

    A label is an index into `class_names`. Images are decoded when asked for and not kept: a Stream keeps them.
    """

    name: str  # what `open_source` makes it again from
    class_names: tuple[str, ...]
    families: tuple[int, ...] | None  # a group for every class, where the source knows of groups

    @abstractmethod
    def labels(self, split: Split) -> Int64[np.ndarray, " image"]:
        """The class of every image of `split`."""

    @abstractmethod
    def ids(self, split: Split, index: Int64[np.ndarray, " image"]) -> tuple[str, ...]:
        """Stable names of images: a path inside the folder, a row of the table. No name is in both splits."""

    @abstractmethod
    def common_size(self, split: Split, index: Int64[np.ndarray, " image"]) -> Size | None:
        """Height and width if all these images have the same, else None. Looks at headers only."""

    @abstractmethod
    def images(
        self, split: Split, index: Int64[np.ndarray, " image"], canvas: Preprocessing | None = None
    ) -> UInt8[np.ndarray, "image 3 height width"]:
        """Pixels in sRGB, upright: at their own size, or drawn by PIL onto the canvas of a backbone.

        Raises:
            DataError: an unreadable image (its file or row), or images of several sizes and no canvas.
        """

    @abstractmethod
    def digest(self, split: Split, index: Int64[np.ndarray, " image"]) -> str:
        """SHA-256 over the stored bytes of these images, in this order."""

    @abstractmethod
    def masks(
        self, split: Split, index: Int64[np.ndarray, " image"], canvas: Preprocessing | None = None
    ) -> Bool[np.ndarray, "image height width"] | None:
        """Where in the image the thing is that decides its class, for sources that know."""

    notes: tuple[str, ...] = ()  # what was understood of data that lie on disk, in one sentence; then what is odd there
    near_leaked: int | None = None  # test images that look like a training image; None = nobody asked
    domains: tuple[int, ...] = ()  # of every class: which of several data sets it comes from; empty = there is one

    @property
    def leaked(self) -> int | None:
        """Test images that are byte for byte a training image; None = not counted."""
        return None


@dataclass(frozen=True)
class Options:
    """What may be asked of a source beyond its name. A source ignores what does not concern it."""

    seed: int = 0  # of a rendered world, and of the 80/20 division of data that come in one piece
    image_size: int = 64  # of a rendered world, in pixels
    per_class: Mapping[Split, int | None] = field(default_factory=lambda: {"train": None, "test": None})
    cache: Path = field(default_factory=cache_dir)
    image_column: str | None = None  # of a table; found by its name or type if not given
    label_column: str | None = None  # likewise


class Opener(Protocol):
    """What is registered: makes a source from the part of its name after the colon. Its docstring is the listing."""

    def __call__(self, where: str, options: Options) -> Source:
        """Open what is at `where`; empty for kinds that have only one place."""
        ...


def open_source(
    name: str,
    *,
    seed: int = 0,
    image_size: int = 64,
    train_per_class: int | None = None,
    test_per_class: int | None = None,
    cache: Path | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
) -> Source:
    """The source called `name`: `shields`, `digits`, a named set (`cub200`), `folder:DIR`, `parquet:DIR` or `hf:NAME`.

    Several with ` + ` between them are one (`shields + digits`). `train_per_class` and `test_per_class` tell a rendered
    world how many images are wanted; other sources have what they have, and it is the Stream that takes the first ones.
    `image_column` and `label_column` are for tables (`parquet:DIR`, `hf:NAME`) whose columns do not speak for
    themselves.

    Raises:
        UnknownNameError: no such kind, with the nearest one.
        InvalidRequestError: a kind that needs a place and got none, or the other way round; a column of what is no
            table.
        DataError, HubError: the place holds no usable data, or cannot be reached.
    """
    if " + " in name:
        from cillab.streams.union import Union  # noqa: PLC0415 - it is made of sources

        names, more = name.split(" + "), {"train_per_class": train_per_class, "test_per_class": test_per_class}
        if not any(map(is_table, names)):
            refuse_columns(name, image_column, label_column)
        return Union([
            open_source(
                one, seed=seed, image_size=image_size, cache=cache, **more,
                image_column=image_column if is_table(one) else None,
                label_column=label_column if is_table(one) else None,
            )
            for one in names
        ])  # fmt: skip
    kind, colon, where = name.partition(":")
    registered = {entry.partition(":")[0]: entry for entry in sources}
    if kind not in registered:
        raise unknown_name("data set", name, sources)
    wants = registered[kind].partition(":")[2]
    if bool(wants) != bool(where) or (colon and not where):
        raise InvalidRequestError(f"data = {name!r}: write {registered[kind]!r}.")
    per_class: dict[Split, int | None] = {"train": train_per_class, "test": test_per_class}
    if not is_table(name):
        refuse_columns(name, image_column, label_column)
    options = Options(seed, image_size, per_class, cache or cache_dir(), image_column, label_column)
    return sources[registered[kind]](where, options)


def by_seed(seed: int) -> Divide:
    """`hold_out` under a seed."""
    return lambda labels, class_names, _ids: hold_out(labels, class_names, seed)


def is_table(name: str) -> bool:
    """Whether the data set called `name` has columns."""
    return name.removeprefix("held-out:").partition(":")[0] in ("parquet", "hf")


def refuse_columns(name: str, image_column: str | None, label_column: str | None) -> None:
    """Refuse names of columns for what is no table.

    Raises:
        InvalidRequestError: with the one that was given.
    """
    for option, given in (("image_column", image_column), ("label_column", label_column)):
        if given is not None:
            raise InvalidRequestError(f"{option} = {shown(given)}: {name} is no table; parquet:DIR and hf:NAME are.")


def hold_out(
    labels: Int64[np.ndarray, " image"], class_names: Sequence[str], seed: int
) -> dict[Split, Int64[np.ndarray, " _"]]:
    """Divide images 80/20 into train and test within every class, for data that come in one piece.

    The draw of a class depends on the seed, its name and its number of images alone, so adding a class moves no image
    of another. From two images on, both sides get at least one; a single image is for training.
    """
    test = []
    for class_id, class_name in enumerate(class_names):
        rows = np.flatnonzero(labels == class_id)
        count = max(1, round(0.2 * len(rows))) if len(rows) > 1 else 0
        test.append(numpy_stream(seed, "hold out", class_name).permutation(rows)[:count])
    held = np.isin(np.arange(len(labels)), np.concatenate(test))
    return {"train": np.flatnonzero(~held), "test": np.flatnonzero(held)}
