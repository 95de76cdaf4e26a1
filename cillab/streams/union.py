"""Several data sets as one: their classes side by side, for streams that cross domains."""

from collections.abc import Sequence
from hashlib import sha256
from itertools import pairwise
from typing import final

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from cillab.core.errors import DataError
from cillab.core.pixels import Preprocessing
from cillab.streams.sources import SPLITS, Size, Source, Split

SIGN = " + "
"""What stands between the names: `shields + digits`."""


@final
class Union(Source):
    """The classes of `parts`, one data set after the other. A class name that two of them have gets the data set's."""

    def __init__(self, parts: Sequence[Source]) -> None:
        self.parts = tuple(parts)
        self.name = SIGN.join(part.name for part in parts)
        named = [(name, part.name) for part in parts for name in part.class_names]
        often = [name for name, _ in named]
        self.class_names = tuple(f"{n} ({owner})" if often.count(n) > 1 else n for n, owner in named)
        self.domains = tuple(k for k, part in enumerate(parts) for _ in part.class_names)
        self.families = self.domains
        self.notes = tuple(f"{part.name}: {note}" for part in parts for note in part.notes)
        firsts = np.cumsum([0, *(len(part.class_names) for part in parts)]).tolist()
        self._labels = {
            split: np.concatenate([part.labels(split) + firsts[k] for k, part in enumerate(parts)]) for split in SPLITS
        }
        self._starts = {
            split: np.cumsum([0, *(len(part.labels(split)) for part in parts)]).tolist() for split in SPLITS
        }

    @property
    def leaked(self) -> int | None:
        """The sum over the data sets, if each was counted."""
        counts = [part.leaked for part in self.parts]
        return None if None in counts else sum(count or 0 for count in counts)

    def labels(self, split: Split) -> Int64[np.ndarray, " image"]:
        """Labels count on from one data set to the next."""
        return self._labels[split]

    def ids(self, split: Split, index: Int64[np.ndarray, " image"]) -> tuple[str, ...]:
        """The data set's place and the name it gives."""
        found: list[str] = [""] * len(index)
        for k, at, rows in self._runs(split, index):
            for position, text in zip(range(*at), self.parts[k].ids(split, rows), strict=True):
                found[position] = f"{k}:{text}"
        return tuple(found)

    def common_size(self, split: Split, index: Int64[np.ndarray, " image"]) -> Size | None:
        """One size only where all data sets share it."""
        found = {self.parts[k].common_size(split, rows) for k, _, rows in self._runs(split, index)}
        return found.pop() if len(found) == 1 else None

    def images(
        self, split: Split, index: Int64[np.ndarray, " image"], canvas: Preprocessing | None = None
    ) -> UInt8[np.ndarray, "image 3 height width"]:
        """Each from its own data set."""
        pieces = [self.parts[k].images(split, rows, canvas) for k, _, rows in self._runs(split, index)]
        if len({piece.shape[1:] for piece in pieces}) > 1:
            raise DataError(f"{self.name}: images of several sizes need a canvas.")
        return np.concatenate(pieces) if pieces else np.empty((0, 3, 1, 1), dtype=np.uint8)

    def digest(self, split: Split, index: Int64[np.ndarray, " image"]) -> str:
        """SHA-256 over the digests of the runs of images of one data set; of one run alone it is that run's."""
        found = [self.parts[k].digest(split, rows) for k, _, rows in self._runs(split, index)]
        return found[0] if len(found) == 1 else sha256("".join(found).encode()).hexdigest()

    def masks(
        self, split: Split, index: Int64[np.ndarray, " image"], canvas: Preprocessing | None = None
    ) -> Bool[np.ndarray, "image height width"] | None:
        """None: a mask for some images only would mean nothing."""
        return None

    def _runs(self, split: Split, index: np.ndarray) -> list[tuple[int, tuple[int, int], np.ndarray]]:
        """Data set, span of positions and rows in it, for every run of images of one data set."""
        starts = self._starts[split]
        owner = np.searchsorted(starts, index, side="right") - 1
        cuts = [0, *(np.flatnonzero(np.diff(owner)) + 1).tolist(), len(index)] if len(index) else [0]
        return [(int(owner[a]), (a, b), index[a:b] - starts[int(owner[a])]) for a, b in pairwise(cuts)]
