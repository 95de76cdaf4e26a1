"""Inside the method: whatever a method shows of itself that no page of its own explains."""

from app.charts import parts
from app.shell import html, picker

html.heading(
    "Inside the method",
    "What a method keeps beside its classifier: prompts and who chooses them, directions that tasks added, anchors "
    "that classes are drawn to, a classifier before and after it was aligned.",
)
if chosen_step := picker.at_step():
    run, step = chosen_step
    parts.page("method", run, step)
