"""Collapse: neural collapse over the tasks, in all its parts, one at a time."""

from app.charts import pairs, parts
from app.shell import html, picker

html.heading(
    "Collapse",
    "A network that has learnt its classes thoroughly lets them collapse: every class to a point, the points to a "
    "simplex. Here is how close a run comes to that after every task, and where it falls apart.",
)
if chosen_step := picker.at_step():
    run, step = chosen_step
    there = parts.of("collapse", run)
    chosen = parts.choose(there, "collapse", run)
    parts.draw(there[chosen], run, step)
    if chosen == "classes":
        html.section("The closest pairs", "pairs")
        pairs.closest_pairs(run, step)
