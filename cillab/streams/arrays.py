"""Sources whose pixels are in memory from the start: the bundled world and scikit-learn's digits."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import final

import numpy as np
from jaxtyping import Bool, Int64, UInt8
from PIL import Image

from cillab.core.errors import InvalidRequestError
from cillab.core.pixels import Preprocessing
from cillab.core.registry import sources
from cillab.streams.pictures import to_canvas
from cillab.streams.sources import Options, Size, Source, Split, hold_out


@dataclass(frozen=True, eq=False)
class Images:
    """One split in memory. `ids` are stable names; `masks` say where the thing is, if that is known."""

    images: UInt8[np.ndarray, "image 3 height width"]
    labels: Int64[np.ndarray, " image"]
    ids: tuple[str, ...]
    masks: Bool[np.ndarray, "image height width"] | None = None


@final
class ArraySource(Source):
    """Images of one size in NumPy arrays."""

    def __init__(
        self,
        name: str,
        class_names: tuple[str, ...],
        splits: Mapping[Split, Images],
        families: tuple[int, ...] | None = None,
    ) -> None:
        self.name, self.class_names, self.families = name, class_names, families
        self._splits = dict(splits)

    def labels(self, split: Split) -> Int64[np.ndarray, " image"]:
        """The class of every image of `split`."""
        return self._splits[split].labels

    def ids(self, split: Split, index: Int64[np.ndarray, " image"]) -> tuple[str, ...]:
        """Stable names of images."""
        return tuple(self._splits[split].ids[row] for row in index.tolist())

    def common_size(self, split: Split, index: Int64[np.ndarray, " image"]) -> Size | None:
        """The size of the arrays: the same for all images."""
        height, width = self._splits[split].images.shape[2:]
        return height, width

    def images(
        self, split: Split, index: Int64[np.ndarray, " image"], canvas: Preprocessing | None = None
    ) -> UInt8[np.ndarray, "image 3 height width"]:
        """Pixels at their own size, or on the canvas of a backbone."""
        found = self._splits[split].images[index]
        if canvas is None or len(found) == 0:
            return found
        drawn = [to_canvas(Image.fromarray(image.transpose(1, 2, 0)), canvas) for image in found]
        return np.stack([np.asarray(image) for image in drawn]).transpose(0, 3, 1, 2)

    def digest(self, split: Split, index: Int64[np.ndarray, " image"]) -> str:
        """SHA-256 over the size and the pixels of these images."""
        found = self._splits[split].images
        state = sha256(repr(found.shape[1:]).encode())
        for row in index.tolist():
            state.update(found[row].tobytes())
        return state.hexdigest()

    def masks(
        self, split: Split, index: Int64[np.ndarray, " image"], canvas: Preprocessing | None = None
    ) -> Bool[np.ndarray, "image height width"] | None:
        """Masks at the size of the images that `images` gives for the same request."""
        masks = self._splits[split].masks
        if masks is None or canvas is None or len(index) == 0:
            return masks if masks is None else masks[index]
        return np.stack([np.asarray(to_canvas(Image.fromarray(mask), canvas)) for mask in masks[index]])


@sources.register("shields")
def open_shields(where: str, options: Options) -> Source:
    """100 kinds of painted shields in ten families, rendered here: any size, any number, with masks."""
    from cillab.streams import shields  # noqa: PLC0415  (building the world takes a moment)

    if not 8 <= options.image_size <= 1024:
        raise InvalidRequestError(f"image_size = {options.image_size}: shields are drawn from 8 to 1024 px.")
    if options.seed < 0:
        raise InvalidRequestError(f"seed = {options.seed}: the seed of a rendered world is not negative.")
    default: dict[Split, int] = {"train": shields.TRAIN_PER_CLASS, "test": shields.TEST_PER_CLASS}
    splits: dict[Split, Images] = {}
    for split, usual in default.items():
        count = options.per_class[split] or usual
        images, labels, masks = shields.dataset(
            split, count, seed=options.seed, size=options.image_size, cache=options.cache / "shields"
        )
        ids = tuple(f"{split}/{label}/{k}" for label in range(len(shields.CLASSES)) for k in range(count))
        splits[split] = Images(images, labels.astype(np.int64), ids, masks)
    families = tuple(shields.family_of(class_id) for class_id in range(len(shields.CLASSES)))
    return ArraySource("shields", tuple(kind.name for kind in shields.CLASSES), splits, families)


@sources.register("digits")
def open_digits(where: str, options: Options) -> Source:
    """1,797 handwritten digits of 8 x 8 px from scikit-learn, 80/20 split: seconds per run, no download."""
    from sklearn.datasets import load_digits  # noqa: PLC0415  (a second to import)

    pixels, target = load_digits(return_X_y=True)
    grey = np.round(np.asarray(pixels).reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)  # stored as 0..16
    images = np.ascontiguousarray(np.broadcast_to(grey[:, None], (len(grey), 3, 8, 8)))
    labels = np.asarray(target, dtype=np.int64)
    names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    splits: dict[Split, Images] = {
        split: Images(images[rows], labels[rows], tuple(f"{split}/{row}" for row in rows))
        for split, rows in hold_out(labels, names, options.seed).items()
    }
    return ArraySource("digits", names, splits)
