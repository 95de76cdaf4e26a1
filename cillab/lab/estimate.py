"""How long a run would take, from a few batches: the first task in miniature, twice, and some forward passes."""

import math
import platform
import time
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch

from cillab.backbones import FrozenBackbone
from cillab.core.contract import Learner
from cillab.lab.prepare import Ready, make_learner_of, prepare
from cillab.lab.spec import RunSpec
from cillab.streams.images import ImageSet, ImageTask
from cillab.streams.sources import Split

FEW, MORE = 48, 144  # training images of the two miniatures
LOOKED_AT = 64  # images of the timed forward pass
PATIENCE_S = 60.0  # after this the second miniature is left out
_CAM_FACTOR = 2.0  # three maps an image: one forward pass and the short way back from the last block


@dataclass(frozen=True)
class Estimate:
    """Seconds of a run, and what they were worked out from."""

    learn_s: float  # over all tasks
    look_s: float  # test sets and probe after every task
    tasks: int
    classes: int
    train_images: int
    test_images: int
    learn_images_per_second: float  # of the task's images, all epochs and passes together
    look_images_per_second: float
    device: str
    params: dict[str, Any]  # every hyper-parameter as it would be used
    notes: tuple[str, ...] = ()  # what was understood of data on disk, and what is odd there

    @property
    def total_s(self) -> float:
        """Learning and looking; loading comes on top once."""
        return self.learn_s + self.look_s

    def as_json(self) -> dict[str, Any]:
        """Plain JSON, with the total."""
        return {**asdict(self), "notes": list(self.notes), "total_s": self.total_s}


def estimate(spec: RunSpec) -> Estimate:
    """Learn the first task with a few images, then with three times as many: a line through both gives the rest.

        seconds(task) = fixed + images * slope,     look(t) = (test images seen + probe) / speed

    A method that looks back at earlier tasks takes longer than its first task says; one that remembers features looks
    faster. Nothing is written.

    Raises:
        CillabError: what would refuse the run, in the same words.
    """
    ready = prepare(spec)
    _ = ready.stream.source.leaked  # counted, so that the notes name it
    sizes = [len(plan.train) for plan in ready.stream.plans]
    few, small = _timed(ready, FEW)
    more, large = _timed(ready, MORE) if small < PATIENCE_S / 4 else (few, small)
    slope = (large - small) / (more - few) if more > few and large > small else large / max(more, 1)
    fixed = max(0.0, small - slope * few)
    speed = _look_speed(ready)
    seen = list(accumulate(len(plan.test) for plan in ready.stream.plans))
    classes = list(accumulate(ready.stream.sizes))
    points = spec.probe_points * (_CAM_FACTOR if spec.cams else 1.0)
    looks = sum(s + points + c * spec.train_probe_per_class for s, c in zip(seen, classes, strict=True))
    return Estimate(
        learn_s=sum(fixed + n * slope for n in sizes),
        look_s=looks / speed,
        tasks=len(sizes),
        classes=classes[-1],
        train_images=sum(sizes),
        test_images=seen[-1],
        learn_images_per_second=1 / slope if slope > 0 else math.inf,
        look_images_per_second=speed,
        device=f"{ready.backbone.device} ({platform.machine()}, {torch.get_num_threads()} threads)",
        params=ready.learner.params.model_dump(mode="json"),
        notes=ready.stream.source.notes,
    )


def _timed(ready: Ready, count: int) -> tuple[int, float]:
    """Number of images and seconds of the first task with about `count` of them, nothing remembered from before."""
    task, learner = _task(ready, count), make_learner_of(ready.spec, ready.backbone)
    if isinstance(ready.backbone, FrozenBackbone):
        ready.backbone.memory.clear()
    began = time.perf_counter()
    _exhaust(learner, task)
    return len(task), time.perf_counter() - began


def _task(ready: Ready, count: int) -> ImageTask:
    stream = ready.stream
    names = {c: str(stream.class_names[c]) for c in stream.classes[0]}
    return ImageTask(0, names, _images(ready, "train", count))


def _images(ready: Ready, split: Split, count: int) -> ImageSet:
    """About `count` images of the first task, the same number of each class, and only those decoded."""
    plan, source, place = ready.stream.plans[0], ready.stream.source, ready.stream.on(ready.backbone).place
    rows, labels = getattr(plan, split), source.labels(split)
    each = max(1, -(-count // len(plan.classes)))
    chosen = np.concatenate([rows[labels[rows] == c][:each] for c in plan.classes])
    pixels = torch.from_numpy(np.ascontiguousarray(source.images(split, chosen, place.canvas))).to(place.device)
    return ImageSet(pixels, torch.from_numpy(labels[chosen]).to(place.device), source.ids(split, chosen))


def _exhaust(learner: Learner[Any], task: ImageTask) -> None:
    for _ in learner.observe(task):
        pass


def _look_speed(ready: Ready) -> float:
    """Test images a second through a learner that has seen one task."""
    _exhaust(ready.learner, _task(ready, 2 * len(ready.stream.plans[0].classes)))
    images = _images(ready, "test", 2 * LOOKED_AT).images
    half = len(images) // 2
    with torch.no_grad():
        ready.learner.logits(images[: max(half, 1)])  # warms up
        began = time.perf_counter()
        ready.learner.features(images[half:])
        ready.learner.logits(images[half:])  # may remember the features, as in the probe
    return (len(images) - half) / max(time.perf_counter() - began, 1e-6)
