"""Head lab: another head on the same features, answered at once and without training anything."""

import streamlit as st

from app.ui import changes, heads, html, mixing, picker, state

html.heading(
    "Head lab",
    "How much of an accuracy is in the features, and how much in the head? Keep the features of a step and put another "
    "head on them. Nothing is trained: heads are worked out from the class means and the scatter of training images.",
)
run, _, columns = picker.pick(extra=1)
if run:
    step = mixing.step_control(run, columns[0])
    state.mirror("run", "step")
    picker.badge(run)
    found = heads.bench(run, step)
    if len(found.classes) < 2 or not len(found.rows):
        html.empty("Too few classes yet", "A head needs two classes, and probe images of them. Choose a later step.")
    else:
        left, right = st.columns([1, 1.75], gap="large")
        with left:
            asked = heads.controls(found)
            heads.made_of(found, asked)
        with right:
            before, after = heads.numbers(run, found, asked)
        changes.pictures(run, before, after, "No answer differs from the learner's own head.")
        st.divider()
        heads.journey(run, found, asked)
