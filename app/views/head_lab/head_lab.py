"""Head lab: another head on the same features, answered at once and without training anything."""

from app.shell import html, picker
from app.views.head_lab import heads

html.heading(
    "Head lab",
    "How much of an accuracy is in the features, and how much in the head? Keep the features of a step and put another "
    "head on them. Nothing is trained: heads are worked out from the class means and the scatter of training images.",
)
if chosen_step := picker.at_step():
    run, step = chosen_step
    heads.lab(run, step)
