"""Stored training images, for learners that are allowed to keep some (or, for the upper bound, all)."""

from collections.abc import Iterator, Mapping
from typing import final

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from cillab.core.contract import Part, State, Task


@final
class Exemplars(Part):
    """Images and labels kept from task to task. Only learning needs them; a checkpoint holds them all."""

    def __init__(self, device: torch.device | None = None) -> None:
        self.device = device
        self.images = torch.zeros(0, 3, 1, 1, dtype=torch.uint8, device=device)
        self.labels = torch.zeros(0, dtype=torch.int64, device=device)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def add(self, images: UInt8[Tensor, "image 3 height width"], labels: Int64[Tensor, " image"]) -> None:
        """Keep these images too; all must have one size."""
        self.images = images.clone() if not len(self) else torch.cat([self.images, images])
        self.labels = torch.cat([self.labels, labels])

    def task(self, index: int, names: Mapping[int, str]) -> "ExemplarTask":
        """All that is stored, as one task to train on."""
        return ExemplarTask(index, self.images, self.labels, names)

    def state(self) -> State:
        """Images and labels."""
        tensors = {"images": self.images, "labels": self.labels}
        return State(tensors, learning_only=frozenset(tensors))

    def load(self, state: State) -> None:
        """Take over images and labels; a slim state has none."""
        empty = Exemplars(self.device)
        self.images = state.tensors.get("images", empty.images).clone().to(self.device)
        self.labels = state.tensors.get("labels", empty.labels).clone().to(self.device)


@final
class ExemplarTask(Task):
    """Stored images in the form that training loops take."""

    def __init__(self, index: int, images: Tensor, labels: Tensor, names: Mapping[int, str]) -> None:
        self.index, self._images, self._labels = index, images, labels
        self.classes = tuple(dict.fromkeys(labels.tolist()))
        self.class_names = {c: names.get(c, str(c)) for c in self.classes}

    def __len__(self) -> int:
        return len(self._labels)

    def batches(self, batch_size: int, shuffle: torch.Generator | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Each stored image once."""
        order = torch.arange(len(self)) if shuffle is None else torch.randperm(len(self), generator=shuffle)
        for chosen in order.to(self._labels.device).split(batch_size):
            yield self._images[chosen], self._labels[chosen]
