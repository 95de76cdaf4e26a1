"""A ViT of two blocks with random weights and tasks of coloured patterns: everything in milliseconds, no file."""

from collections.abc import Iterator

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from cillab.backbones.vision import TimmBackbone, timm_anatomy
from cillab.core.contract import Task
from cillab.core.pixels import Preprocessing
from cillab.learners.checks import Bench

SIZE = 32


def backbone(precision: str = "fp32") -> TimmBackbone:
    """The same weights every time, drawn without touching the global generator."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = VisionTransformer(
            img_size=SIZE, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=0, global_pool="token"
        )
        for parameter in module.parameters():  # timm's small initial weights hardly let an image through
            if parameter.ndim > 1:
                parameter.data.mul_(4)
    preprocessing = Preprocessing(SIZE, 1.0, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return TimmBackbone(
        module, tag="timm:tiny", anatomy=timm_anatomy(module, "vit"), preprocessing=preprocessing, precision=precision
    )


def pictures(class_id: int, count: int, seed: int) -> Tensor:
    """A pattern per class, with noise and brightness per image."""
    pattern = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(1000 + class_id)).sub(0.5).mul(180)
    pattern = pattern.repeat_interleave(8, 1).repeat_interleave(8, 2)
    rng = torch.Generator().manual_seed(seed * 7919 + class_id)
    noise = torch.randn(count, 3, SIZE, SIZE, generator=rng) * 40
    light = torch.randn(count, 1, 1, 1, generator=rng) * 15
    return (128 + pattern + noise + light).clamp(0, 255).to(torch.uint8)


class TinyTask(Task):
    """Two classes of pictures."""

    def __init__(self, index: int, classes: tuple[int, ...], count: int = 12) -> None:
        self.index, self.classes = index, classes
        self.class_names = {c: f"pattern {c}" for c in classes}
        self._images = torch.cat([pictures(c, count, seed=1) for c in classes])
        self._labels = torch.tensor([c for c in classes for _ in range(count)])

    def __len__(self) -> int:
        return len(self._labels)

    def batches(self, batch_size: int, shuffle: torch.Generator | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.arange(len(self)) if shuffle is None else torch.randperm(len(self), generator=shuffle)
        for chosen in order.to(self._images.device, non_blocking=True).split(batch_size):
            yield self._images[chosen], self._labels[chosen]


def tasks(count: int = 3) -> tuple[TinyTask, ...]:
    return tuple(TinyTask(i, (2 * i, 2 * i + 1)) for i in range(count))


def bench(name: str, **quick: object) -> Bench:
    own = tasks()
    test = [
        (
            torch.cat([pictures(c, 6, seed=2) for c in task.classes]),
            torch.tensor([c for c in task.classes for _ in range(6)]),
        )
        for task in own
    ]
    return Bench(name, backbone(), own, test, quick)
