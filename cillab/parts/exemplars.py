"""Stored training images, for learners that are allowed to keep some (or, for the upper bound, all)."""

from collections.abc import Iterator, Mapping
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from cillab.core.arrays import double
from cillab.core.contract import Task
from cillab.parts.module import ModulePart, empty


class Images(ModulePart):
    """Images as stored, with their labels. Only learning needs them."""

    learning_only: ClassVar[frozenset[str]] = frozenset({"images", "labels"})
    images: Tensor
    labels: Tensor

    def __init__(self, device: torch.device | None = None) -> None:
        super().__init__()
        self.register_buffer("images", empty(0, 3, 1, 1, device=device, dtype=torch.uint8))
        self.register_buffer("labels", empty(0, device=device, dtype=torch.int64))

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def counts(self, classes: tuple[int, ...]) -> Int64[Tensor, " cls"]:
        """Stored images of each class."""
        return torch.stack([(self.labels == c).sum() for c in classes])

    def task(self, index: int, names: Mapping[int, str]) -> "ExemplarTask":
        """All that is stored, as one task to train on."""
        return ExemplarTask(index, self.images, self.labels, names)

    def beside(self, task: Task) -> "ExemplarTask":
        """The images of `task` and all that is stored, mixed, as one task to train on."""
        pairs = list(task.batches(256))
        images = torch.cat([x for x, _ in pairs] + ([self.images] if len(self) else []))
        labels = torch.cat([y for _, y in pairs] + [self.labels])
        return ExemplarTask(task.index, images, labels, task.class_names)


@final
class Exemplars(Images):
    """Images kept from task to task, class by class in the order of their worth: cutting a list keeps its best."""

    def add(self, images: UInt8[Tensor, "image 3 height width"], labels: Int64[Tensor, " image"]) -> None:
        """Keep these images too; all must have one size."""
        self.images = images.clone() if not len(self) else torch.cat([self.images, images])
        self.labels = torch.cat([self.labels, labels])

    def cut(self, each: int) -> None:
        """Keep the first `each` images of every class."""
        place = torch.zeros_like(self.labels)
        for c in self.labels.unique().tolist():
            own = self.labels == c
            place[own] = torch.arange(int(own.sum()), device=place.device)
        self.images, self.labels = self.images[place < each], self.labels[place < each]

    def without(self, label: int) -> UInt8[Tensor, "image 3 height width"]:
        """Take the images of one class out, and return them."""
        own = self.labels == label
        taken = self.images[own]
        self.images, self.labels = self.images[~own], self.labels[~own]
        return taken


@final
class Reservoir(Images):
    """A uniform sample of all images ever shown, of a size fixed in advance, with the logits each had when it came.

        item n = 0, 1, ...:   n < B: into place n;   else j uniform on 0..n, into place j if j < B

    After n items each is stored with probability B / n (Vitter, ACM TOMS 11(1) 1985). Logits are as wide as the head
    was then, which `widths` says: columns of later classes are 0 and mean nothing. Call `open` before the first `show`
    of a task: from there on places are written in place, and what was there before stays whole.
    """

    plain: ClassVar[tuple[str, ...]] = ("shown",)
    learning_only: ClassVar[frozenset[str]] = frozenset({"images", "labels", "logits", "widths"})
    logits: Tensor
    widths: Tensor

    def __init__(self, capacity: int, device: torch.device | None = None) -> None:
        super().__init__(device)
        self.capacity, self.shown = capacity, 0
        self.register_buffer("logits", empty(0, 0, device=device))
        self.register_buffer("widths", empty(0, device=device, dtype=torch.int64))

    def open(self, columns: int) -> None:
        """Copy what is stored, with logits of `columns` columns, so that writing leaves no trace on an undone task."""
        missing = columns - self.logits.shape[1]
        self.logits = F.pad(self.logits, (0, missing))
        self.images, self.labels, self.widths = self.images.clone(), self.labels.clone(), self.widths.clone()

    def show(
        self,
        images: UInt8[Tensor, "image 3 height width"],
        labels: Int64[Tensor, " image"],
        logits: Float[Tensor, "image cls"],
        draws: torch.Generator,
    ) -> None:
        """Offer these images one after another."""
        room = max(0, self.capacity - self.shown)
        fresh = min(room, len(labels))
        if fresh:
            self.images = images[:fresh].clone() if not len(self) else torch.cat([self.images, images[:fresh]])
            self.labels = torch.cat([self.labels, labels[:fresh]])
            self.logits = torch.cat([self.logits, logits[:fresh]])
            self.widths = torch.cat([self.widths, self.widths.new_full((fresh,), logits.shape[1])])
        for i in range(fresh, len(labels)):
            j = int(torch.randint(self.shown + i + 1, (), generator=draws))
            if j < self.capacity:
                self.images[j], self.labels[j], self.logits[j] = images[i], labels[i], logits[i]
                self.widths[j] = logits.shape[1]
        self.shown += len(labels)

    def draw(self, count: int, draws: torch.Generator) -> Int64[Tensor, " image"]:
        """Places of `count` stored images, or of all if there are fewer, without repetition."""
        return torch.randperm(len(self), generator=draws)[:count].to(self.labels.device, non_blocking=True)


def herded(features: Float[Tensor, "image feature"], count: int) -> Int64[Tensor, " chosen"]:
    """Images whose mean follows the class mean, one after another: herding.

        i_k = argmin over i not yet chosen of || mu - (f_1 + ... + f_{k-1} + f_i) / k ||,   mu = mean of all f    (1)

    The list for a smaller count is the beginning of the list for a larger one. Ties go to the first. Source: iCaRL,
    Rebuffi et al., CVPR 2017, arXiv:1611.07725, algorithm 4 (there and here on unit features, which the caller gives).
    """
    f = double(features)
    mean, total = f.mean(dim=0), torch.zeros_like(f[0])
    free, chosen = torch.ones(len(f), dtype=torch.bool, device=f.device), list[Tensor]()
    for k in range(1, min(count, len(f)) + 1):
        away = torch.linalg.vector_norm(mean - (total + f) / k, dim=1).masked_fill(~free, torch.inf)
        best = away.argmin()
        chosen.append(best)
        total, free[best] = total + f[best], False
    found = torch.stack(chosen) if chosen else torch.zeros(0, dtype=torch.int64)
    return found.to(features.device)


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
        for chosen in order.to(self._labels.device, non_blocking=True).split(batch_size):
            yield self._images[chosen], self._labels[chosen]
