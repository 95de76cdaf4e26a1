"""Pixels on the device: resampling, cropping and normalising whole batches, in agreement with PIL.

Resampling is separable: along each axis a row of filter weights per output pixel, so cutting a box out of an image,
resizing and mirroring it is `rows @ image @ columns.T` with two small matrices per image. That covers evaluation and
augmentation, enlarging and (with antialiasing) shrinking, integer and fractional boxes, on any device.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from cillab.core.arrays import sent
from cillab.core.errors import InvalidRequestError

Preset = Literal["tag", "whole", "pilot_compat"]
Interpolation = Literal["bicubic", "bilinear"]
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the input of a backbone. Belongs to the weights; its `preset` is in every result.

    tag: shortest side to `resize`, centre crop of `size`, the mean and std that the weights' tag states.
    whole: the whole image squeezed to `size` x `size`, no crop, the tag's mean and std.
    pilot_compat: resize to 256/224 of `size`, centre crop, values in [0, 1] without normalisation (as PILOT does).
    """

    size: int
    crop_fraction: float
    interpolation: Interpolation
    mean: Triple
    std: Triple
    preset: Preset = "tag"

    @property
    def resize(self) -> int:
        """Length of the shortest side before the crop, in pixels. As timm: floor(size / crop_fraction)."""
        return int(self.size / self.crop_fraction)

    def under(self, preset: Preset, size: int | None = None) -> "Preprocessing":
        """The same weights' preprocessing under another named preset and, if given, another input size."""
        own = replace(self, size=size or self.size, preset=preset)
        match preset:
            case "tag":
                return own
            case "whole":
                return replace(own, crop_fraction=1.0)
            case "pilot_compat":
                return replace(own, crop_fraction=224 / 256, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
            case _:
                raise InvalidRequestError(f"transform = {preset!r}. Valid: tag, whole, pilot_compat.")

    def as_json(self) -> dict[str, Any]:
        """Plain JSON for run.json and cache keys."""
        return asdict(self)


def _kernel(distance: Float[Tensor, "..."], interpolation: Interpolation) -> Float[Tensor, "..."]:
    """PIL's filters: Keys' cubic with a = -0.5 (support 2), or the triangle (support 1)."""
    if interpolation == "bilinear":
        return distance.abs().neg_().add_(1).clamp_(min=0)
    near = distance.abs().neg_().add_(1)  # 1 - |x|; the cubic is (1 + near)^2 near / 2 + near_+^2 (1 - 2 near)
    wide = (near + 1).clamp_(min=0)
    far = wide.square_().mul_(near).mul_(0.5)
    inner = near.clamp(min=0)
    return far.add_(inner.square().mul_(near.mul_(-2).add_(1)))


def filter_rows(
    start: Float[Tensor, " image"],
    length: Float[Tensor, " image"],
    source: int,
    target: int,
    interpolation: Interpolation = "bicubic",
    mirrored: Bool[Tensor, " image"] | None = None,
) -> Float[Tensor, "image target source"]:
    """Weights that resample `[start, start + length)` of `source` pixels to `target` pixels, one matrix per image.

    Output pixel i looks at centre `start + (i + 0.5) * length / target`; when shrinking, the filter is widened by
    `length / target`, which is the antialiasing that PIL does. Rows sum to 1 and look only inside the box.
    """
    scale = (length / target).unsqueeze(1)
    steps = torch.arange(target, device=start.device, dtype=start.dtype) + 0.5
    centre = start.unsqueeze(1) + steps * scale
    if mirrored is not None:
        centre = torch.where(mirrored.unsqueeze(1), centre.flip(1), centre)
    pixel = torch.arange(source, device=start.device, dtype=start.dtype) + 0.5
    weight = _kernel((pixel - centre.unsqueeze(2)) / scale.clamp(min=1).unsqueeze(2), interpolation)
    first, last = start.floor()[:, None, None], (start + length).ceil()[:, None, None]
    weight = weight * ((pixel > first) & (pixel < last))
    return weight / weight.sum(dim=2, keepdim=True)


def resample(
    images: UInt8[Tensor, "image 3 height width"],
    boxes: Float[Tensor, "image 4"],
    height: int,
    width: int,
    interpolation: Interpolation = "bicubic",
    mirrored: Bool[Tensor, " image"] | None = None,
) -> UInt8[Tensor, "image 3 {height} {width}"]:
    """Cut `boxes` (top, left, height, width in pixels) out of `images`, resize each to the same size, mirror some."""
    top, left, box_height, box_width = boxes.to(images.device, torch.float32, non_blocking=True).unbind(1)
    flipped = mirrored.to(images.device, non_blocking=True) if mirrored is not None else None
    rows = filter_rows(top, box_height, images.shape[2], height, interpolation)
    columns = filter_rows(left, box_width, images.shape[3], width, interpolation, flipped)
    return _two_passes(images, rows, columns)


def resize(
    images: UInt8[Tensor, "image 3 height width"], height: int, width: int, interpolation: Interpolation = "bicubic"
) -> UInt8[Tensor, "image 3 {height} {width}"]:
    """Resize a batch of images of one size: two matrices for all of them."""
    if tuple(images.shape[2:]) == (height, width):
        return images
    zero = torch.zeros(1, device=images.device)
    rows = filter_rows(zero, zero + images.shape[2], images.shape[2], height, interpolation)
    columns = filter_rows(zero, zero + images.shape[3], images.shape[3], width, interpolation)
    return _two_passes(images, rows, columns)


def _two_passes(
    images: UInt8[Tensor, "image 3 height width"],
    rows: Float[Tensor, "matrix target_height height"],
    columns: Float[Tensor, "matrix target_width width"],
) -> UInt8[Tensor, "image 3 target_height target_width"]:
    """Columns first, rounded and clamped in between: PIL keeps bytes between its two passes, and so do we.

    One matrix per image, or one for all. The channels of an image stand in one matrix: each pass is one product.
    """
    count, channels, height, width = images.shape
    wide = images.float().reshape(count, channels * height, width) @ columns.transpose(1, 2)
    bytes_ = wide.round_().clamp_(0, 255).view(count, channels, height, -1).transpose(1, 2).reshape(count, height, -1)
    tall = (rows @ bytes_).round_().clamp_(0, 255).to(torch.uint8)
    return tall.view(count, rows.shape[1], channels, -1).transpose(1, 2).contiguous()


def centre_crop(images: UInt8[Tensor, "image 3 height width"], size: int) -> UInt8[Tensor, "image 3 {size} {size}"]:
    """The middle `size` x `size` pixels, rounded as torchvision does."""
    top, left = (round((side - size) / 2) for side in images.shape[2:])
    return images[:, :, top : top + size, left : left + size]


def evaluation_crop(
    images: UInt8[Tensor, "image 3 height width"], preprocessing: Preprocessing
) -> UInt8[Tensor, "image 3 {preprocessing.size} {preprocessing.size}"]:
    """Stored images as the backbone sees them in evaluation, before normalisation."""
    size = preprocessing.size
    if preprocessing.preset == "whole":
        return resize(images, size, size, preprocessing.interpolation)
    height, width = images.shape[2:]
    short = preprocessing.resize
    upright = height > width
    target = (int(short * height / width), short) if upright else (short, int(short * width / height))
    return centre_crop(resize(images, *target, preprocessing.interpolation), size)


def normalise(
    images: UInt8[Tensor, "image 3 height width"],
    mean: Triple,
    std: Triple,
    out: Float[Tensor, "image 3 height width"] | None = None,
) -> Float[Tensor, "image 3 height width"]:
    """`(images / 255 - mean) / std` per channel, in float32; written to `out` where given."""
    scale = sent(1 / (255 * torch.tensor(std)).view(3, 1, 1), images.device)
    shift = sent((torch.tensor(mean) / torch.tensor(std)).view(3, 1, 1), images.device)
    pixels = images.float() if out is None else out.copy_(images)
    return pixels.mul_(scale).sub_(shift)  # in place: a third of the time of three new tensors
