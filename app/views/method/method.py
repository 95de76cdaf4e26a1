"""Inside the method: whatever a method shows of itself that no page of its own explains."""

from app.charts import parts
from app.shell import html, picker, state

html.heading(
    "Inside the method",
    "What a method keeps beside its classifier: prompts and who chooses them, directions that tasks added, anchors "
    "that classes are drawn to, a classifier before and after it was aligned.",
)
run, _, columns = picker.pick(extra=1)
if run:
    step = picker.step_control(run, columns[0])
    state.mirror("run", "step")
    picker.badge(run)
    parts.page("method", run, step)
