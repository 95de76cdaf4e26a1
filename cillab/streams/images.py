"""Images on a device: sets that can be batched, and the block of memory they live in."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, final

import numpy as np
import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor

from cillab.core.contract import Task
from cillab.core.errors import InvalidRequestError
from cillab.core.pixels import Preprocessing
from cillab.streams.sources import Size, Source, Split

Batch = tuple[UInt8[Tensor, "image 3 height width"], Int64[Tensor, " image"]]


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images with their labels on one device. Knows nothing of where they came from."""

    images: UInt8[Tensor, "image 3 height width"]
    labels: Int64[Tensor, " image"]
    ids: tuple[str, ...]  # stable names, as in the manifest
    masks: Bool[Tensor, "image height width"] | None = None  # where the thing is, if the source knows

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, batch_size: int, shuffle: torch.Generator | None = None) -> Iterator[Batch]:
        """Every image once with its label: in the stored order (views), or shuffled by a CPU generator (copies)."""
        if batch_size < 1:
            raise InvalidRequestError(f"batch_size = {batch_size}: a batch holds at least one image.")
        if not len(self):
            return  # splitting nothing gives one empty piece
        if shuffle is None:
            yield from zip(self.images.split(batch_size), self.labels.split(batch_size), strict=True)
            return
        order = torch.randperm(len(self), generator=shuffle).to(self.images.device, non_blocking=True)
        for part in order.split(batch_size):
            yield self.images[part], self.labels[part]

    def take(self, index: Sequence[int] | Int64[Tensor, " chosen"]) -> "ImageSet":
        """The images at these positions, copied."""
        chosen = torch.as_tensor(index, dtype=torch.int64, device=self.images.device)
        masks = None if self.masks is None else self.masks[chosen]
        ids = tuple(self.ids[position] for position in chosen.tolist())
        return ImageSet(self.images[chosen], self.labels[chosen], ids, masks)


@final
class ImageTask(Task):
    """The training images of one step of a stream, in memory of their own."""

    def __init__(self, index: int, class_names: Mapping[int, str], data: ImageSet) -> None:
        self.index = index
        self.classes = tuple(class_names)
        self.class_names = MappingProxyType(dict(class_names))
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def batches(self, batch_size: int, shuffle: torch.Generator | None = None) -> Iterator[Batch]:
        """Images as stored and their label ids, each once; in the stored order, or shuffled by `shuffle`."""
        return self.data.batches(batch_size, shuffle)

    def __repr__(self) -> str:
        return f"ImageTask({self.index}: {len(self)} images of {', '.join(self.class_names.values())})"


class Place(NamedTuple):
    """Where pixels go, and in which form: their own size (`canvas` None), or drawn onto a backbone's canvas."""

    device: torch.device
    size: Size
    canvas: Preprocessing | None


@final
class Block:
    """Images of some tasks in one piece of memory, decoded part by part when first asked for, then kept.

    Takes images x 3 x height x width bytes on the device, plus one part on the host while it is being decoded.
    """

    def __init__(self, source: Source, split: Split, parts: Sequence[Int64[np.ndarray, "_"]], place: Place) -> None:
        self._source, self._parts, self._place = source, tuple(parts), place
        self._split: Split = split
        self._starts = np.cumsum([0, *map(len, self._parts)]).tolist()
        self._filled: set[int] = set()
        self._images: Tensor | None = None
        self._masks: Tensor | None = None

    @property
    def num_bytes(self) -> int:
        """Bytes of pixels once everything is decoded."""
        return self._starts[-1] * 3 * self._place.size[0] * self._place.size[1]

    def view(self, first: int, last: int) -> ImageSet:
        """Parts `first` to `last - 1`, decoded if they were not yet. A view: no pixel is copied."""
        for part in range(first, last):
            if part not in self._filled:
                self._fill(part)
        images = self._memory()
        rows = np.concatenate([np.empty(0, dtype=np.int64), *self._parts[first:last]])
        labels = torch.from_numpy(self._source.labels(self._split)[rows]).to(self._place.device)
        span = slice(self._starts[first], self._starts[last])
        masks = None if self._masks is None else self._masks[span]
        return ImageSet(images[span], labels, self._source.ids(self._split, rows), masks)

    def _memory(self) -> UInt8[Tensor, "image 3 height width"]:
        if self._images is None:
            shape = (self._starts[-1], 3, *self._place.size)
            self._images = torch.empty(shape, dtype=torch.uint8, device=self._place.device)
        return self._images

    def _fill(self, part: int) -> None:
        memory, span = self._memory(), slice(self._starts[part], self._starts[part + 1])
        rows, canvas = self._parts[part], self._place.canvas
        if len(rows):
            memory[span] = torch.from_numpy(np.ascontiguousarray(self._source.images(self._split, rows, canvas)))
            masks = self._source.masks(self._split, rows, canvas)
            if masks is not None:
                if self._masks is None:
                    shape = (len(memory), *self._place.size)
                    self._masks = torch.zeros(shape, dtype=torch.bool, device=self._place.device)
                self._masks[span] = torch.from_numpy(np.ascontiguousarray(masks))
        self._filled.add(part)
