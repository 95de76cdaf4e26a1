"""What the notebooks need beside the library: small plots, features of a frozen backbone, comparisons, solutions.

The checks of the exercises are not here but in `notebooks/checks`, by chapter: each takes a function that the reader
wrote and answers with a `Verdict`. Importing this package loads no torch; names that need it, or a widget library, are
imported when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cillab.geometry.pairing import Paired, paired, share_error
from cillab.teaching import sketch
from cillab.teaching.lifeline import Scorecard, scorecard, solution
from cillab.teaching.places import fresh
from cillab.teaching.plane import cloud_panels, clouds, tiles
from cillab.teaching.toy import Toy, simulate
from cillab.teaching.verdict import Case, Verdict, judge

if TYPE_CHECKING:
    from cillab.teaching.frozen import Frozen, frozen_features
    from cillab.teaching.playing import Player, player

_LATER = {
    "Frozen": "cillab.teaching.frozen",
    "Player": "cillab.teaching.playing",
    "frozen_features": "cillab.teaching.frozen",
    "player": "cillab.teaching.playing",  # needs anywidget
}

__all__ = [
    "Case",
    "Frozen",
    "Paired",
    "Player",
    "Scorecard",
    "Toy",
    "Verdict",
    "cloud_panels",
    "clouds",
    "fresh",
    "frozen_features",
    "judge",
    "paired",
    "player",
    "scorecard",
    "share_error",
    "simulate",
    "sketch",
    "solution",
    "tiles",
]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module 'cillab.teaching' has no attribute {name!r}")
