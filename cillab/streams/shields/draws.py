"""Random numbers that belong to an image: a hash of (the image's seed, the quantity's name), with no state at all.

Nothing depends on how many images are drawn, on their order, or on which other quantities exist; a new quantity
shifts no old one. SplitMix64's finaliser (Steele, Lea & Flood 2014, doi:10.1145/2714064.2660195) does the mixing.
"""

from zlib import crc32

import numpy as np
from numpy.typing import NDArray

Seeds = NDArray[np.uint64]


def scramble(values: Seeds) -> Seeds:
    """SplitMix64's finaliser, elementwise: nearby integers become unrelated ones."""
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def uniform(seeds: Seeds, name: str, low: int | float = 0.0, high: int | float = 1.0) -> NDArray[np.float32]:
    """One number per seed, uniform in [low, high), for the quantity called `name`."""
    salted = scramble(scramble(seeds) ^ np.uint64(crc32(name.encode())))
    return (low + (high - low) * (salted >> np.uint64(40)).astype(np.float64) / 2**24).astype(np.float32)


def integers(seeds: Seeds, name: str, count: int) -> NDArray[np.intp]:
    """One of 0, ..., count - 1 per seed."""
    return (uniform(seeds, name).astype(np.float64) * count).astype(np.intp)


def chance(seeds: Seeds, name: str, probability: float) -> NDArray[np.float32]:
    """1.0 with the given probability, otherwise 0.0."""
    return (uniform(seeds, name) < probability).astype(np.float32)
