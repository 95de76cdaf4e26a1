"""Features of many steps in one picture: fitted once (`lay`), the same for all, with numbers for how far to trust.

A linear map is the default: its axes are the same at every step, distances mean something, and a new point costs one
product. `joint` lays all steps out together with UMAP, as a job. The player, the figures and the app draw what is laid
here; `quantise` is the one way into whole numbers. NumPy alone, never torch.
"""

from cillab.plane.box import ABSENT, box, dequantise, quantise, square
from cillab.plane.laying import PLANES, Plane, head_rows, lay, nearest_simplex
from cillab.plane.linear import Projection, along, lda, pca, through
from cillab.plane.together import joint_umap
from cillab.plane.trust import Quality, displacement_of_unmoved, quality

__all__ = [
    "ABSENT",
    "PLANES",
    "Plane",
    "Projection",
    "Quality",
    "along",
    "box",
    "dequantise",
    "displacement_of_unmoved",
    "head_rows",
    "joint_umap",
    "lay",
    "lda",
    "nearest_simplex",
    "pca",
    "quality",
    "quantise",
    "square",
    "through",
]
