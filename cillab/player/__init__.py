"""The player: probe points of a run moving through its snapshots, in the app and in notebooks.

`player.js` draws and listens; it takes what `pack` makes of one or more runs. Neither torch nor plotly is imported.
"""

from cillab.player.flat import PLANES, Flat, flatten, nearest_simplex
from cillab.player.packing import CSS, JS, Blob, Named, encode, margins, name, pack, pack_run, positions

__all__ = [
    "CSS",
    "JS",
    "PLANES",
    "Blob",
    "Flat",
    "Named",
    "encode",
    "flatten",
    "margins",
    "name",
    "nearest_simplex",
    "pack",
    "pack_run",
    "positions",
]
