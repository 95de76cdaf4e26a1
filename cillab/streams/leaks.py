"""Test images that are training images: byte for byte, or near enough to look the same."""

from collections.abc import Sequence
from hashlib import sha256

import numpy as np
from jaxtyping import UInt8, UInt64

from cillab.core.pixels import Preprocessing
from cillab.streams.layout import brief
from cillab.streams.sources import Shelf, Source, Split

NEAR_BITS = 4
"""Perceptual hashes of 64 bits that differ in at most so many are of images that look the same.

Chosen after `benchmarks/near_duplicates.py`: it finds 98 % and more of what was compressed again, halved and enlarged,
or made 10 % lighter or darker, and takes at most 0.4 % of different images for copies. 8 bits would find most crops of
2 % as well, and take up to 2.4 % of different images.
"""

_SIDE, _KEPT = 32, 8  # pixels of the thumbnail, and its lowest frequencies that are kept, along each axis
_FLAT = 2.0  # standard deviation of grey values below which an image has no structure to compare
_CHUNK = 4096
_NAMED = 5  # images or classes that a note names before it counts the rest
_THUMBNAIL = Preprocessing(
    _SIDE, 1.0, "bicubic", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), preset="whole"
)  # the whole image, squeezed


def copies(train: Shelf, test: Shelf) -> list[str]:
    """Ids of the test images that are byte for byte a training image.

    Where a shelf knows the lengths of its images, only those of a length that both sides have are read.
    """
    lengths, others = train.lengths(), test.lengths()
    shared = None if lengths is None or others is None else set(lengths) & set(others)
    known = {
        sha256(train.read(row)).digest()
        for row in range(len(train.labels))
        if shared is None or (lengths is not None and lengths[row] in shared)
    }
    return [
        test.id(row)
        for row in range(len(test.labels))
        if (shared is None or (others is not None and others[row] in shared))
        and sha256(test.read(row)).digest() in known
    ]


def near_duplicates(source: Source) -> list[str]:
    """Ids of the test images whose perceptual hash is at most `NEAR_BITS` away from that of a training image.

    The hash is the sign of the 8 x 8 lowest frequencies of a 32 x 32 thumbnail against their median (Zauner 2010,
    "Implementation and benchmarking of perceptual image hash functions", section 3.2.1), so it survives another size,
    another compression and a little light. A crop of 2 % it survives in a quarter to three quarters of images, a mirror
    never. Images without structure have none. Takes one decoding of every image.
    """
    train, _ = _hashes(source, "train")
    test, rows = _hashes(source, "test")
    train, found = np.unique(train), list[int]()
    for start in range(0, len(test), _CHUNK // 16):
        part = slice(start, start + _CHUNK // 16)
        near = np.zeros(len(test[part]), dtype=bool)
        for other in range(0, len(train), _CHUNK):
            apart = np.bitwise_count(test[part, None] ^ train[None, other : other + _CHUNK])
            near |= (apart <= NEAR_BITS).any(axis=1)
        found += rows[part][near].tolist()
    return list(source.ids("test", np.array(found, dtype=np.int64)))


def perceptual_hashes(
    thumbnails: UInt8[np.ndarray, "image 3 32 32"],
) -> tuple[UInt64[np.ndarray, " image"], np.ndarray]:
    """64 bits of every image, and whether it has structure enough for them to mean anything."""
    from scipy.fft import dctn  # noqa: PLC0415 - half a second, and runs on data in arrays look for no leaks

    grey = np.tensordot(np.array([0.299, 0.587, 0.114]), thumbnails.astype(np.float64), axes=([0], [1]))
    waves = np.asarray(dctn(grey, axes=(1, 2)))[:, :_KEPT, :_KEPT].reshape(len(grey), -1)
    bits = waves > np.median(waves[:, 1:], axis=1, keepdims=True)
    hashes = (bits.astype(np.uint64) << np.arange(_KEPT * _KEPT, dtype=np.uint64)).sum(axis=1, dtype=np.uint64)
    return hashes, grey.std(axis=(1, 2)) > _FLAT


def _hashes(source: Source, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of the images that have one, and their rows."""
    count, hashes, rows = len(source.labels(split)), list[np.ndarray](), list[np.ndarray]()
    for start in range(0, count, _CHUNK):
        index = np.arange(start, min(start + _CHUNK, count))
        found, told = perceptual_hashes(np.ascontiguousarray(source.images(split, index, _THUMBNAIL)))
        hashes.append(found[told])
        rows.append(index[told])
    empty = np.empty(0, dtype=np.int64)
    return np.concatenate([empty.astype(np.uint64), *hashes]), np.concatenate([empty, *rows])


def listing(names: Sequence[str]) -> str:
    """The first of `names`, and how many more there are."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def said_of(leaked: Sequence[str], tests: int, how: str = "are byte for byte a training image") -> str:
    """`3 of 10 test images are byte for byte a training image: ...`."""
    return f"{len(leaked)} of {tests} test images {how}: {listing([brief(name) for name in leaked])}."
