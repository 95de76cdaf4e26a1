"""The bundled world: rendered coats of arms with plain-English names, deterministic by seed, at any size.

A class is a `Composition` (division of the field, two tinctures, charge, its tincture). 100 of them, in ten families,
are the incremental classes; 4,000 others are for pre-training. Every image comes with the mask of its visible charge.
"""

from cillab.streams.shields.data import (
    SPLITS,
    TEST_PER_CLASS,
    TRAIN_PER_CLASS,
    WORLD_VERSION,
    class_images,
    dataset,
    image_seeds,
)
from cillab.streams.shields.render import STYLES, Rendered, Style, render
from cillab.streams.shields.world import (
    CLASSES,
    FAMILIES,
    PRETRAINING,
    TINCTURES,
    Composition,
    closest_pairs,
    family_of,
)

__all__ = [
    "CLASSES",
    "FAMILIES",
    "PRETRAINING",
    "SPLITS",
    "STYLES",
    "TEST_PER_CLASS",
    "TINCTURES",
    "TRAIN_PER_CLASS",
    "WORLD_VERSION",
    "Composition",
    "Rendered",
    "Style",
    "class_images",
    "closest_pairs",
    "dataset",
    "family_of",
    "image_seeds",
    "render",
]
