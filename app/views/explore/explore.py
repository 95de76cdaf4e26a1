"""Explore points: a map of the probe, a selection on it, the images behind it, and one of them through all tasks."""

from app.shell import html, picker
from app.views.explore import layouts, stage

html.heading(
    "Explore points",
    "Every point is a test image that the network is shown again after each task. Draw around some of them, see which "
    "they are, and follow one through the tasks.",
)
run, _, columns = picker.pick(extra=2)
if run:
    with columns[0]:
        kind = layouts.choose(run)
    with columns[1]:
        focused = layouts.focus(run)
    picker.badge(run)
    stage.stage(run, kind, focused)
