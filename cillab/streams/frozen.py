"""A division for sets that have no official one: by the names of the images, the same on every machine for ever."""

from collections.abc import Sequence
from hashlib import sha256

import numpy as np
from jaxtyping import Int64

from cillab.streams.sources import SPLITS, Source, Split

RULE = "fifth-by-name/1"
"""Name of the rule; another rule would get another number."""
DIGEST = "c5e272afaf0c0329247e5988aff5f8358dedf32f28e4db36b93fec10e2dd4c28"
"""SHA-256 of what the rule does to a thousand made-up images: tests recompute it."""


def fifth_by_name(
    labels: Int64[np.ndarray, " image"], class_names: Sequence[str], ids: Sequence[str]
) -> dict[Split, Int64[np.ndarray, " _"]]:
    """Divide images 80/20 within every class: those whose hash is smallest are test images.

        rank within class c by  sha256("c/file"),   test = the first round(n_c / 5), at least one of two or more

    No generator takes part, so no version of a library can move an image; the name counts without the folders around
    it, so neither can an unpacking program. Another image in the class moves at most the images at the border.
    """
    test = []
    for class_id, class_name in enumerate(class_names):
        rows = np.flatnonzero(labels == class_id).tolist()
        rows.sort(key=lambda row: (_rank(class_name, ids[row]), ids[row]))
        test += rows[: max(1, round(len(rows) / 5)) if len(rows) > 1 else 0]
    held = np.zeros(len(labels), dtype=bool)
    held[test] = True
    return {"train": np.flatnonzero(~held), "test": np.flatnonzero(held)}


def _rank(class_name: str, image: str) -> bytes:
    return sha256(f"{class_name}/{image.rpartition('/')[2]}".encode()).digest()


def split_digest(source: Source) -> str:
    """SHA-256 over the sorted lines `split id`: equal exactly when the same names are divided in the same way."""
    lines = [f"{split} {name}" for split in SPLITS for name in source.ids(split, np.arange(len(source.labels(split))))]
    return sha256("\n".join(sorted(lines)).encode()).hexdigest()
