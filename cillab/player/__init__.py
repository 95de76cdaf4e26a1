"""The player: probe points of a run moving through its snapshots, in the app and in notebooks.

The modules under `js` draw and listen; they take what `pack` makes of one or more runs. Neither torch nor plotly is
imported.
"""

from cillab.player.bundle import source
from cillab.player.frame import frame
from cillab.player.heads import HEADS, head_answers, head_at
from cillab.player.packing import CSS, NONE, Blob, Named, encode, margins, name, pack, pack_run, positions

__all__ = [
    "CSS",
    "HEADS",
    "NONE",
    "Blob",
    "Named",
    "encode",
    "frame",
    "head_answers",
    "head_at",
    "margins",
    "name",
    "pack",
    "pack_run",
    "positions",
    "source",
]
