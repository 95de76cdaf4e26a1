"""Defaults are chosen without test images: a source whose test split is a fifth of another one's training images."""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from cillab.core.errors import InvalidRequestError
from cillab.core.pixels import Preprocessing
from cillab.core.registry import sources
from cillab.streams.opening import open_source
from cillab.streams.sources import Options, Size, Source, Split, hold_out


class HeldOut(Source):
    """The training images of `source` in two splits; its test images cannot be reached from here."""

    def __init__(self, source: Source, seed: int) -> None:
        self.name = f"held-out:{source.name}"
        self.class_names, self.families, self.notes = source.class_names, source.families, source.notes
        self._source = source
        self._labels = source.labels("train")
        self._rows = hold_out(self._labels, self.class_names, seed)

    def _at(self, split: Split, index: Int64[np.ndarray, " image"]) -> Int64[np.ndarray, " image"]:
        return self._rows[split][index]

    def labels(self, split: Split) -> Int64[np.ndarray, " image"]:
        """The class of every image of `split`."""
        return self._labels[self._rows[split]]

    def ids(self, split: Split, index: Int64[np.ndarray, " image"]) -> tuple[str, ...]:
        """The names that the images have in the source."""
        return self._source.ids("train", self._at(split, index))

    def common_size(self, split: Split, index: Int64[np.ndarray, " image"]) -> Size | None:
        """As the source says."""
        return self._source.common_size("train", self._at(split, index))

    def images(
        self, split: Split, index: Int64[np.ndarray, " image"], canvas: Preprocessing | None = None
    ) -> UInt8[np.ndarray, "image 3 height width"]:
        """As the source says."""
        return self._source.images("train", self._at(split, index), canvas)

    def digest(self, split: Split, index: Int64[np.ndarray, " image"]) -> str:
        """As the source says."""
        return self._source.digest("train", self._at(split, index))

    def masks(
        self, split: Split, index: Int64[np.ndarray, " image"], canvas: Preprocessing | None = None
    ) -> Bool[np.ndarray, "image height width"] | None:
        """As the source says."""
        return self._source.masks("train", self._at(split, index), canvas)


@sources.register("held-out:NAME")
def open_held_out(where: str, options: Options) -> Source:
    """The training images of another data set, a fifth of each class held out as test images: to choose defaults on."""
    if where.startswith("held-out"):
        raise InvalidRequestError(f"data = 'held-out:{where}': name a data set, not another held-out one.")
    inner = replace(options, per_class={"train": None, "test": None})
    source = open_source(
        where, seed=inner.seed, image_size=inner.image_size, cache=inner.cache,
        image_column=inner.image_column, label_column=inner.label_column,
    )  # fmt: skip
    return HeldOut(source, options.seed)
