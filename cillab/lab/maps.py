"""Grad-CAM of the probe points, and what a map has to exceed to say anything."""

from collections.abc import Generator

import numpy as np
import torch
from torch import Tensor

from cillab.core.contract import Learner, Progress
from cillab.lab import measures
from cillab.streams.images import ImageSet

CAM_TARGETS = ("true", "predicted", "difference")
FLOOR_IMAGES, FLOOR_DRAWS = 24, 4  # of the noise floor of maps: images, and random heads


def maps_of(learner: Learner, points: ImageSet, batch: int) -> Generator[Progress, None, dict[str, np.ndarray]]:
    """Grad-CAM of every probe point; a map is value / 255 * scale, and its scale is NaN where it is not defined."""
    from cillab.explain.gradcam import gradcam, learner_backbone  # noqa: PLC0415 - only runs with maps

    objects: list[dict[str, np.ndarray]] = []
    pieces: dict[str, list[np.ndarray]] = {name: [] for name in CAM_TARGETS}
    for done in range(0, len(points), batch):
        images, labels = points.images[done : done + batch], points.labels[done : done + batch]
        maps = gradcam(learner, images, CAM_TARGETS, labels=labels)
        for name in CAM_TARGETS:
            pieces[name].append(maps[name].detach().float().cpu().numpy())
        if points.masks is not None:
            masks = points.masks[done : done + batch]
            objects.append(measures.on_object(maps, masks, learner_backbone(learner).preprocessing))
        yield Progress("gradcam", done + len(images), len(points))
    found: dict[str, np.ndarray] = {}
    for name, parts in pieces.items():
        values = np.concatenate(parts)
        scale = values.max(axis=(1, 2))
        shares = np.nan_to_num(values / np.where(scale > 0, scale, 1)[:, None, None])
        found[f"cam/{name}"] = np.round(255 * shares).clip(0, 255).astype(np.uint8)
        found[f"cam_scale/{name}"] = scale.astype(np.float32)
    for name in objects[0] if objects else ():
        found[name] = np.concatenate([part[name] for part in objects])
    floors = cam_floors(learner, points.images, points.labels)
    return found | {f"cam_floor/{name}": np.array(floor, dtype=np.float32) for name, floor in floors.items()}


def cam_floors(learner: Learner, images: Tensor, labels: Tensor) -> dict[str, float]:
    """What 95 % of the maps of a random head stay below, by target, on some of the images of seen classes."""
    from cillab.explain.gradcam import noise_floors  # noqa: PLC0415

    some = _spread(labels, learner.seen)
    return noise_floors(learner, images[some], CAM_TARGETS, labels=labels[some], draws=FLOOR_DRAWS)


def _spread(labels: Tensor, seen: tuple[int, ...]) -> Tensor:
    """Positions of at most FLOOR_IMAGES images of seen classes, evenly over the probe."""
    known = torch.isin(labels, torch.tensor(seen, device=labels.device)).nonzero().flatten()
    return known[torch.linspace(0, len(known) - 1, min(len(known), FLOOR_IMAGES), device=labels.device).round().long()]
