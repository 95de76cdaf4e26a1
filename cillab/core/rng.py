"""Randomness by name: every consumer has a stream of its own, derived from the one seed of the run.

A new consumer shifts nobody, nothing has to be saved to resume, and the global generators are never touched.
Generators live on the CPU, whatever the device: the same seed gives the same draws everywhere.
"""

import torch

from cillab.core.draws import numpy_stream, seed_of


def stream(seed: int, *names: str | int) -> torch.Generator:
    """A torch generator for one named purpose."""
    return torch.Generator().manual_seed(seed_of(seed, *names))


__all__ = ["numpy_stream", "seed_of", "stream"]
