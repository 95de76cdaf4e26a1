"""Training views of images: drawn in one step, applied in another, for a whole batch on its device."""

from dataclasses import dataclass
from math import log
from typing import Literal

import torch
from jaxtyping import Bool, Float, UInt8
from pydantic import Field, model_validator
from torch import Tensor

from cillab.core.params import HyperParams
from cillab.core.pixels import Interpolation, resample

_ATTEMPTS = 10  # as torchvision's RandomResizedCrop; then the largest centre crop of a permitted shape


@dataclass(frozen=True, eq=False)
class Drawn:
    """What was drawn for a batch, on the CPU: the same draws on any device, and replayable."""

    boxes: Float[Tensor, "image 4"]  # top, left, height, width: whole pixels
    mirrored: Bool[Tensor, " image"]
    brightness: Float[Tensor, " image"] | None  # factors


class Augment(HyperParams):
    """How training images are varied. One record of numbers; randomness comes only from the generator given to `draw`.

    rrc-flip: a random part of the image, resized (torchvision's RandomResizedCrop), mirrored half of the time.
    flip: the middle of the image, mirrored half of the time.
    none: the middle of the image.

    The range of areas is that of PILOT's training transform (0.05 to 1), not torchvision's default (0.08 to 1).
    """

    kind: Literal["rrc-flip", "flip", "none"] = "rrc-flip"
    """What is done to the image."""
    scale: tuple[float, float] = (0.05, 1.0)
    """Smallest and largest area of the part, as a fraction of the image."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Smallest and largest width / height of the part, drawn uniformly in its logarithm."""
    brightness: float = Field(default=0.0, ge=0, le=1)
    """Brightness is multiplied by a factor drawn from 1 - this to 1 + this."""

    @model_validator(mode="after")
    def _ordered(self) -> "Augment":
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale must rise within (0, 1], got {self.scale}")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"ratio must rise and be positive, got {self.ratio}")
        return self

    @property
    def constant(self) -> bool:
        """Is every view of an image the same?"""
        return self.kind == "none" and not self.brightness

    def draw(self, rng: torch.Generator, n: int, height: int, width: int, crop_fraction: float = 1.0) -> Drawn:
        """Boxes, mirrorings and brightness factors for `n` images of `height` x `width` pixels.

        `crop_fraction` is how much of the shortest side "flip" and "none" keep: give the backbone's own to train on
        the part of the image that evaluation looks at.
        """
        if self.kind == "rrc-flip":
            boxes = self._random_boxes(rng, n, height, width)
        else:
            side = max(1, round(min(height, width) * crop_fraction))
            boxes = torch.tensor([[(height - side) // 2, (width - side) // 2, side, side]]).expand(n, 4)
        mirrored = torch.rand(n, generator=rng) < 0.5 if self.kind != "none" else torch.zeros(n, dtype=torch.bool)
        factors = 1 + self.brightness * (2 * torch.rand(n, generator=rng) - 1) if self.brightness else None
        return Drawn(boxes.float(), mirrored, factors)

    def apply(
        self,
        images: UInt8[Tensor, "image 3 height width"],
        drawn: Drawn,
        size: int,
        interpolation: Interpolation = "bicubic",
    ) -> UInt8[Tensor, "image 3 {size} {size}"]:
        """Cut, resize, mirror and brighten a batch on its own device; follows nothing but its arguments."""
        views = resample(images, drawn.boxes, size, size, interpolation, drawn.mirrored)
        if drawn.brightness is None:
            return views
        factors = drawn.brightness.to(images.device, non_blocking=True).view(-1, 1, 1, 1)
        return (views * factors).clamp_(max=255).to(torch.uint8)  # torchvision cuts off fractions too

    def _random_boxes(self, rng: torch.Generator, n: int, height: int, width: int) -> Tensor:
        """The rule of torchvision, all attempts of all images at once.

            area = height * width * U(scale),  ratio = exp(U(log ratio)),  w = round(sqrt(area * ratio)),  h likewise

        The first attempt that fits is taken, at a uniformly drawn place.
        """
        area = height * width * _uniform(rng, (n, _ATTEMPTS), *self.scale)
        ratio = _uniform(rng, (n, _ATTEMPTS), log(self.ratio[0]), log(self.ratio[1])).exp()
        w, h = (area * ratio).sqrt().round().long(), (area / ratio).sqrt().round().long()
        fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
        first = fits.int().argmax(dim=1, keepdim=True)  # the first of the largest
        some = fits.any(dim=1)
        largest_h, largest_w = self._largest(height, width)
        h = torch.where(some, h.gather(1, first).squeeze(1), largest_h)
        w = torch.where(some, w.gather(1, first).squeeze(1), largest_w)
        down, along = torch.rand(2, n, generator=rng, dtype=torch.float64)
        top = torch.where(some, (down * (height - h + 1)).long(), (height - h) // 2)
        left = torch.where(some, (along * (width - w + 1)).long(), (width - w) // 2)
        return torch.stack([top, left, h, w], dim=1)

    def _largest(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the largest box of a permitted shape."""
        if width / height < self.ratio[0]:
            return max(1, round(width / self.ratio[0])), width
        if width / height > self.ratio[1]:
            return height, max(1, round(height * self.ratio[1]))
        return height, width


def _uniform(rng: torch.Generator, shape: tuple[int, ...], low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=rng, dtype=torch.float64)
