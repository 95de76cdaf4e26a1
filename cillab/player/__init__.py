"""The player: probe points of a run moving through its snapshots, in the app and in notebooks.

The modules under `js` draw and listen; they take what `pack` makes of one or more runs. Neither torch nor plotly is
imported.
"""

from cillab.player.bundle import source
from cillab.player.packing import CSS, Blob, Named, encode, margins, name, pack, pack_run, positions

__all__ = [
    "CSS",
    "Blob",
    "Named",
    "encode",
    "margins",
    "name",
    "pack",
    "pack_run",
    "positions",
    "source",
]
