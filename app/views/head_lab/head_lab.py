"""Head lab: another head on the same features, answered at once and without training anything."""

from app.shell import html, picker, state
from app.views.head_lab import heads

html.heading(
    "Head lab",
    "How much of an accuracy is in the features, and how much in the head? Keep the features of a step and put another "
    "head on them. Nothing is trained: heads are worked out from the class means and the scatter of training images.",
)
run, _, columns = picker.pick(extra=1)
if run:
    step = picker.step_control(run, columns[0])
    state.mirror("run", "step")
    picker.badge(run)
    heads.lab(run, step)
