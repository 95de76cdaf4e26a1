"""Toy collapse: neural collapse in a problem small enough to see whole, solved anew with every knob."""

import streamlit as st

from app.shell import html
from app.views.toy_collapse import toy

html.heading(
    "Toy collapse",
    "Train a classifier to the end on a few points and its last features arrange themselves: one point per class, all "
    "as far apart as can be. Watch it happen, then break it.",
)


@st.fragment
def solved_anew() -> None:
    """Knobs, frames and words; a knob reruns this and not the page."""
    toy.prepare()
    toy.presets()
    with st.expander("Knobs", expanded=True, icon=":material/tune:"):
        asked = toy.controls()
    if not asked:
        return
    toy.watch()
    solved = toy.stage(asked)
    toy.told(solved)
    toy.take_along(solved)
    html.note(
        "Full-batch gradient descent with momentum on every image, 600 steps per task; frames are denser at the "
        "beginning. Axes are fixed over all frames: in space for up to four classes, else the two directions in which "
        "the last frame is widest. Images here are random points, not pictures."
    )


solved_anew()
