"""Where images come from: what every source can be asked."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from cillab.core.pixels import Preprocessing
from cillab.core.places import cache_dir
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


class Shelf(ABC):
    """One split of encoded images with their labels."""

    labels: Int64[np.ndarray, " image"]

    @abstractmethod
    def read(self, row: int) -> bytes:
        """The encoded bytes of an image. Called from one thread, most often with growing rows."""

    @abstractmethod
    def where(self, row: int) -> str:
        """How to find the image outside this program: for error messages."""

    @abstractmethod
    def id(self, row: int) -> str:
        """A name that is stable when the data set is moved."""

    def lengths(self) -> Sequence[int] | None:
        """Number of bytes of every image, where that is known without reading them."""
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


def by_seed(seed: int) -> Divide:
    """`hold_out` under a seed."""
    return lambda labels, class_names, _ids: hold_out(labels, class_names, seed)


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
