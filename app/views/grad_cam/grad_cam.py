"""Grad-CAM: which patches of an image speak for a class, at every task, on one scale."""

import streamlit as st

from app.charts import parts
from app.images import gallery, saliency
from app.shell import html, picker, state
from app.shell.store import Opened, fragment
from cillab.cockpit import clearest

html.heading(
    "Grad-CAM",
    "Which parts of an image speak for its true class, for the class the network answers, and for the one against the "
    "other. All maps of an image share one scale, so a map that fades over the tasks has really faded.",
)


@fragment
def looked(run: Opened, step: int) -> None:
    """The images of a step to choose from, and the maps of the chosen one; a choice reruns this and not the page."""
    gallery.atlas(run)
    left, right = st.columns([1, 1.75], gap="large")
    with left:
        among = gallery.filters(run, step)
        index = gallery.chosen_index(run, among, clearest([run.snapshots[step]]))
        state.mirror("run", "step", "point")
        gallery.grid(run, step, among, index)
    if index is None:
        return
    maps = saliency.collect(run, index)
    with right:
        live, large = saliency.wanted(run, maps), st.empty()
    strip = st.empty()
    for again in (False, True) if live else (False,):  # what is recorded is there at once, the rest when it comes
        if again:
            with right:
                maps = saliency.ask(run, index, maps)
        with large.container():
            saliency.primary(run, step, index, maps)
        with strip.container():
            saliency.strip(run, step, index, maps)
    if live:
        saliency.attention(run, step, index)


chosen, _, columns = picker.pick(extra=1)
if chosen:
    at = picker.step_control(chosen, columns[0])
    picker.badge(chosen)
    looked(chosen, at)
    if (there := parts.of("grad_cam", chosen).get("object")) is not None:
        st.divider()
        parts.draw(there, chosen, at)
