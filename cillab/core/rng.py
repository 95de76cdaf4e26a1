"""Randomness by name: every consumer has a stream of its own, derived from the one seed of the run.

A new consumer shifts nobody, nothing has to be saved to resume, and the global generators are never touched.
Generators live on the CPU, whatever the device: the same seed gives the same draws everywhere.
"""

from hashlib import blake2b

import numpy as np
import torch


def seed_of(seed: int, *names: str | int) -> int:
    """A 63-bit seed that depends on `seed` and every name, in order: `seed_of(1993, "augment", task.index)`."""
    text = "\x1f".join([str(seed), *(f"{type(name).__name__}:{name}" for name in names)])
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def stream(seed: int, *names: str | int) -> torch.Generator:
    """A torch generator for one named purpose."""
    return torch.Generator().manual_seed(seed_of(seed, *names))


def numpy_stream(seed: int, *names: str | int) -> np.random.Generator:
    """A NumPy generator for one named purpose."""
    return np.random.default_rng(seed_of(seed, *names))
