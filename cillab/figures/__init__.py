"""Figures: arrays of a run in, a plotly figure and one sentence out. No torch, no files written, no randomness.

Every name here is a function `(run, step=None, *, theme="light") -> Picture`. Each stands in a module of the same name
beside a `read_...` (run -> arrays) and a `draw_...` (arrays -> Picture), so that an app can keep the arrays.
"""

from cillab.figures.accuracy import accuracy
from cillab.figures.accuracy_matrix import accuracy_matrix
from cillab.figures.angles import angles
from cillab.figures.collapse import collapse
from cillab.figures.confusion import confusion
from cillab.figures.cosine import cosine
from cillab.figures.drift import drift
from cillab.figures.forgetting import forgetting
from cillab.figures.mixing import mixing
from cillab.figures.picture import Picture
from cillab.figures.projecting import Projection, dequantise, project, quantise
from cillab.figures.projection import projection

__all__ = [
    "Picture",
    "Projection",
    "accuracy",
    "accuracy_matrix",
    "angles",
    "collapse",
    "confusion",
    "cosine",
    "dequantise",
    "drift",
    "forgetting",
    "mixing",
    "project",
    "projection",
    "quantise",
]
