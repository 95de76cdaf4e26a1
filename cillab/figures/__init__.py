"""Figures: arrays of a run in, a plotly figure and one sentence out. No torch, no files written, no randomness.

A figure is a function `(run, step=None, *, theme="light") -> Picture`, declared by `@figure(title=..., page=...,
needs=...)`: what pages, tooltips and the report show is derived from that. A `read_...` beside it makes its arrays.
"""

from cillab.figures.accuracy import accuracy
from cillab.figures.accuracy_matrix import accuracy_matrix
from cillab.figures.angles import angles
from cillab.figures.calibration import calibration
from cillab.figures.cam_strip import cam_strip
from cillab.figures.class_collapse import class_collapse
from cillab.figures.collapse import collapse
from cillab.figures.confusion import confusion
from cillab.figures.cosine import cosine
from cillab.figures.drift import drift
from cillab.figures.epochs import epochs
from cillab.figures.forgetting import forgetting
from cillab.figures.gram import gram
from cillab.figures.head_medium_tail import head_medium_tail
from cillab.figures.inside import adapters, alignment, anchors, low_rank, penalty, prompt_choice, prompt_keys
from cillab.figures.logit_bias import logit_bias
from cillab.figures.mixing import mixing
from cillab.figures.modality_gap import modality_gap
from cillab.figures.moved import prototypes, similarity
from cillab.figures.on_object import on_object
from cillab.figures.over_steps import angle_blocks, generalised, spectrum
from cillab.figures.pages import PAGES, Page, Part
from cillab.figures.picture import Picture
from cillab.figures.projection import projection
from cillab.figures.registry import Figure, Group, Nothing, figure, figures_of, groups, named, shown
from cillab.figures.retention import retention
from cillab.figures.sides import sides
from cillab.figures.text_movement import text_movement
from cillab.figures.text_similarity import text_similarity
from cillab.figures.toy import toy
from cillab.figures.transport import transport
from cillab.figures.variability import variability
from cillab.figures.variants import variants

__all__ = [
    "PAGES",
    "Figure",
    "Group",
    "Nothing",
    "Page",
    "Part",
    "Picture",
    "accuracy",
    "accuracy_matrix",
    "adapters",
    "alignment",
    "anchors",
    "angle_blocks",
    "angles",
    "calibration",
    "cam_strip",
    "class_collapse",
    "collapse",
    "confusion",
    "cosine",
    "drift",
    "epochs",
    "figure",
    "figures_of",
    "forgetting",
    "generalised",
    "gram",
    "groups",
    "head_medium_tail",
    "logit_bias",
    "low_rank",
    "mixing",
    "modality_gap",
    "named",
    "on_object",
    "penalty",
    "projection",
    "prompt_choice",
    "prompt_keys",
    "prototypes",
    "retention",
    "shown",
    "sides",
    "similarity",
    "spectrum",
    "text_movement",
    "text_similarity",
    "toy",
    "transport",
    "variability",
    "variants",
]
