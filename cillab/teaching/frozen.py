"""Features of all images of a stream, once: where several notebooks begin."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cillab.core.contract import Backbone
from cillab.streams.stream import Stream

_BATCH = 256  # images per forward pass: bounds the memory, not the result


class Frozen(NamedTuple):
    """What a frozen backbone sees of a stream, on the CPU; images stand in the order of the tasks."""

    x: Float[Tensor, "train feature"]
    y: Int64[Tensor, " train"]  # class ids
    test_x: Float[Tensor, "test feature"]
    test_y: Int64[Tensor, " test"]
    classes: tuple[tuple[int, ...], ...]  # class ids of every task


def frozen_features(stream: Stream, backbone: Backbone) -> Frozen:
    """Training and test features of `stream`, one forward pass per image and no gradient."""
    placed = stream.on(backbone)
    train = [placed.train(task) for task in range(len(placed))]
    images, labels = torch.cat([part.images for part in train]), torch.cat([part.labels for part in train])
    test = placed.test()
    x, test_x = (_features(backbone, every) for every in (images, test.images))
    return Frozen(x, labels.cpu(), test_x, test.labels.cpu(), placed.classes)


def _features(backbone: Backbone, images: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([backbone(part).float().cpu() for part in images.split(_BATCH)])
