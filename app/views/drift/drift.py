"""Drift and forgetting: what is lost, whether it is gone or only hidden, and where the features went."""

from app.charts import pairs, parts
from app.shell import html, picker

html.heading(
    "Drift and forgetting",
    "Accuracy on old tasks falls for different reasons: features move, more classes compete, or the head no longer "
    "fits. This page takes them apart.",
)
if chosen_step := picker.at_step():
    run, step = chosen_step
    there = parts.of("drift", run)
    chosen = parts.choose(there, "drift", run)
    options = {"by": pairs.by_class_or_task(run)} if chosen == "confusion" else {}
    parts.draw(there[chosen], run, step, **options)
    if chosen == "confusion":
        html.section("The most frequent mistakes", "mistakes")
        pairs.mistakes(run, step)
