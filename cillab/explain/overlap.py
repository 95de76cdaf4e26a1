"""Does a map lie on the object? Two numbers an image, given the object's mask; NaN where a map is zero everywhere."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from cillab.core.pixels import Preprocessing, evaluation_crop


def energy_inside(
    maps: Float[Tensor, "image row column"], masks: Bool[Tensor, "image height width"]
) -> Float[Tensor, " image"]:
    """Share of a map's mass that falls inside the mask.

        sum over cells of map * (share of the cell inside the mask) / sum over cells of map

    Range [0, 1], higher is better. A map that is the same everywhere gives the mask's share of the image: compare with
    that, not with zero.
    Source: Wang et al., Score-CAM, CVPR-W 2020, arXiv:1910.01279 (there for boxes).
    """
    inside = F.adaptive_avg_pool2d(masks.float().unsqueeze(1), (maps.shape[1], maps.shape[2])).squeeze(1).to(maps)
    return (maps * inside).sum(dim=(1, 2)) / maps.sum(dim=(1, 2))  # 0 / 0 is NaN


def pointing_game(
    maps: Float[Tensor, "image row column"],
    masks: Bool[Tensor, "image height width"],
    *,
    tolerance: int | None = None,
) -> Float[Tensor, " image"]:
    """1 where the hottest cell points at the object, 0 where it does not.

        hits / (hits + misses) over images,    hit = the hottest cell touches the mask

    Range [0, 1], higher is better. The centre of the hottest cell must lie within `tolerance` pixels (in each
    direction) of the mask; by default half a cell, so that the cell need only touch it. Source: Zhang et al., IJCV
    2018, arXiv:1608.00507.
    """
    height, width = masks.shape[1:]
    cell_height, cell_width = height / maps.shape[1], width / maps.shape[2]
    reach = int(max(cell_height, cell_width) / 2) if tolerance is None else tolerance
    near = F.max_pool2d(masks.float().unsqueeze(1), 2 * reach + 1, stride=1, padding=reach).squeeze(1)
    hottest = maps.flatten(1).argmax(dim=1)
    row = ((hottest // maps.shape[2] + 0.5) * cell_height).long()
    column = ((hottest % maps.shape[2] + 0.5) * cell_width).long()
    hit = near[torch.arange(len(maps), device=maps.device), row, column].to(maps)
    return hit.masked_fill(maps.flatten(1).amax(dim=1) == 0, torch.nan)


def as_seen(
    masks: Bool[Tensor, "image height width"], preprocessing: Preprocessing
) -> Bool[Tensor, "image {preprocessing.size} {preprocessing.size}"]:
    """Masks of stored images as the backbone sees those images: the same resize and crop."""
    pixels = (masks.to(torch.uint8) * 255).unsqueeze(1).expand(-1, 3, -1, -1)
    return evaluation_crop(pixels, preprocessing)[:, 0] > 127
