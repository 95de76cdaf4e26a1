"""How often does the perceptual hash find an image that was changed, and how often does it take two for one?

    python benchmarks/near_duplicates.py [--images 300] [--data parquet:DIR --data shields ...]

For every data set: the share of test images that are found again at a distance of 0, 2, 4, ... bits after JPEG at
quality 60, half the size and back, a crop of 2 % of each side (then at the old size), and 10 % less or more
brightness; and the share of the unchanged ones that lie as near to another image of their own class, or to any
training image: by chance where no copies are. `NEAR_BITS` of `cillab/streams/leaks.py` is chosen after this table.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from io import BytesIO

from cillab.core.pixels import Preprocessing
from cillab.streams.leaks import _THUMBNAIL, NEAR_BITS, perceptual_hashes
from cillab.streams.opening import open_source
from cillab.streams.pictures import EncodedSource, decode, to_canvas
from cillab.streams.sources import Source, Split

import numpy as np
from PIL import Image, ImageEnhance

BITS = (0, 2, 4, 6, 8, 10, 12)
_DRAWN = Preprocessing(
    224, 1.0, "bicubic", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), preset="whole"
)  # what is rendered


def jpeg(image: Image.Image) -> Image.Image:
    memory = BytesIO()
    image.save(memory, "JPEG", quality=60)
    return Image.open(memory).convert("RGB")


def halved(image: Image.Image) -> Image.Image:
    width, height = image.size
    return image.resize((width // 2, height // 2), Image.Resampling.BICUBIC).resize(
        image.size, Image.Resampling.BICUBIC
    )


def cropped(image: Image.Image) -> Image.Image:
    """2 % of every side, at least one pixel."""
    width, height = image.size
    x, y = max(1, round(0.02 * width)), max(1, round(0.02 * height))
    return image.crop((x, y, width - x, height - y)).resize(image.size, Image.Resampling.BICUBIC)


def lighter(by: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: ImageEnhance.Brightness(image).enhance(by)


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG q=60": jpeg, "half and back": halved, "crop 2 %": cropped, "10 % darker": lighter(0.9),
    "10 % brighter": lighter(1.1),
}  # fmt: skip


def pictures(source: Source, split: Split, rows: np.ndarray) -> Iterator[Image.Image]:
    if isinstance(source, EncodedSource):
        shelf = source.shelf(split)
        for row in rows.tolist():
            yield decode(shelf.read(row), shelf.where(row))
    else:
        for pixels in source.images(split, rows, _DRAWN):
            yield Image.fromarray(pixels.transpose(1, 2, 0))


def hashed(images: list[Image.Image]) -> tuple[np.ndarray, np.ndarray]:
    return perceptual_hashes(np.stack([np.asarray(to_canvas(one, _THUMBNAIL)).transpose(2, 0, 1) for one in images]))


def shares(distances: np.ndarray) -> list[float]:
    return [round(float((distances <= bits).mean()), 4) for bits in BITS]


def measured(name: str, count: int) -> dict[str, object]:
    source, rng = open_source(name), np.random.default_rng(0)
    chosen = np.sort(rng.permutation(len(source.labels("test")))[:count])
    images = list(pictures(source, "test", chosen))
    own, told = hashed(images)
    found: dict[str, object] = {"images": len(images), "without structure": int((~told).sum())}
    for change, by in CHANGES.items():
        other, _ = hashed([by(image) for image in images])
        found[change] = shares(np.bitwise_count(own ^ other)[told])
    rows = np.sort(rng.permutation(len(source.labels("train")))[: 10 * count])
    train, kept = hashed(list(pictures(source, "train", rows)))
    apart = np.bitwise_count(own[told, None] ^ train[None, kept])
    same = source.labels("test")[chosen][told, None] == source.labels("train")[rows][None, kept]
    found["training images"] = len(train)
    found["another of its class"] = shares(np.where(same, apart, 99).min(axis=1))
    found["any training image"] = shares(apart.min(axis=1))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--data", action="append")
    options = parser.parse_args()
    found = {name: measured(name, options.images) for name in options.data or ["shields"]}
    print(json.dumps({"bits": BITS, "threshold": NEAR_BITS, **found}, indent=1))


if __name__ == "__main__":
    main()
