"""The 100 classes as data: any number of images per class and split, and the cached default data set."""

import os
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from cillab.streams.shields.draws import Seeds, scramble
from cillab.streams.shields.render import Rendered, Style, render
from cillab.streams.shields.world import CLASSES

WORLD_VERSION = 1
"""Raised whenever the same request would give other bytes than before."""

SPLITS = ("train", "test", "validation")
TRAIN_PER_CLASS, TEST_PER_CLASS = 100, 20
"""The default data set: 100 classes x (100 + 20) images of 64 px."""


def image_seeds(class_id: int, split: str, count: int, seed: int = 0) -> Seeds:
    """The seeds of the first `count` images of a class: a longer list begins with the shorter one.

    Raises:
        ValueError: an unknown split, or a class that does not exist.
    """
    if split not in SPLITS:
        raise ValueError(f"Unknown split {split!r}. Valid: {', '.join(SPLITS)}.")
    if not 0 <= class_id < len(CLASSES):
        raise ValueError(f"Class {class_id} does not exist: shields has classes 0 to {len(CLASSES) - 1}.")
    if count < 0 or seed < 0:
        raise ValueError(f"Counts and seeds are not negative, got count {count} and seed {seed}.")
    key = np.array([seed], dtype=np.uint64)
    for part in (SPLITS.index(split), class_id):
        key = scramble(key) + np.uint64(part)
    return scramble(scramble(key) + np.arange(count, dtype=np.uint64))


def class_images(
    class_id: int, split: str, count: int, *, seed: int = 0, size: int = 64, style: Style | str = "worn"
) -> Rendered:
    """The first `count` images of a class with their charge masks; asking for more changes none of the first."""
    seeds = image_seeds(class_id, split, count, seed)
    return render([CLASSES[class_id]] * count, seeds, size, style)


def dataset(
    split: str, per_class: int, *, seed: int = 0, size: int = 64, cache: Path | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.bool_]]:
    """Images, labels and charge masks of all 100 classes, class by class, the first `per_class` of each.

    With a `cache` folder the arrays are kept in one file named by world version, split, seed, size and count. A file
    that cannot be read is made again; a file is complete as soon as its name exists.
    """
    labels = np.repeat(np.arange(len(CLASSES)), per_class)
    path = cache and cache / f"shields-v{WORLD_VERSION}-{split}-seed{seed}-{size}px-{per_class}.npz"
    if path and path.exists():
        found = _read(path, (len(labels), 3, size, size))
        if found is not None:
            return found.images, labels, found.masks
    seeds = [image_seeds(class_id, split, per_class, seed) for class_id in range(len(CLASSES))]
    images, masks = render([CLASSES[label] for label in labels], np.concatenate(seeds), size)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        try:
            with unfinished.open("wb") as file:
                np.savez(file, images=images, masks=np.packbits(masks, axis=-1))
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    return images, labels, masks


def _read(path: Path, shape: tuple[int, int, int, int]) -> Rendered | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            images, packed = file["images"], file["masks"]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
    masks = np.unpackbits(packed, axis=-1, count=shape[-1]).view(np.bool_)
    if images.shape != shape or images.dtype != np.uint8 or masks.shape != (shape[0], *shape[2:]):
        return None
    return Rendered(images, masks)
