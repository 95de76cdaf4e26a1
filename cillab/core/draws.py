"""Random numbers by name, for NumPy: what reads runs and deals streams draws without loading torch."""

from hashlib import blake2b

import numpy as np


def seed_of(seed: int, *names: str | int) -> int:
    """A 63-bit seed that depends on `seed` and every name, in order: `seed_of(1993, "augment", task.index)`."""
    text = "\x1f".join([str(seed), *(f"{type(name).__name__}:{name}" for name in names)])
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def numpy_stream(seed: int, *names: str | int) -> np.random.Generator:
    """A NumPy generator for one named purpose."""
    return np.random.default_rng(seed_of(seed, *names))
