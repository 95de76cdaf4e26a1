"""Noise mixing: how the generators of a noise method are weighted, which are dead, and what happens without them."""

import streamlit as st

from app.ui import charts, html, mixing, picker, state

html.heading(
    "Noise mixing",
    "Each task adds a small generator whose noise shifts the features of every layer; a mixture of all of them is what "
    "the classifier sees. Look at the weights, then turn generators down and see which answers change.",
)
run, _, columns = picker.pick(extra=1)
if run:
    step = mixing.step_control(run, columns[0])
    state.mirror("run", "step")
    picker.badge(run)
    if not mixing.recorded(run):
        mixing.nothing_to_mix(run)
    else:
        charts.draw("mixing", "Weights, strength and likeness", run.run, step, key="mixing", wide=True)
        mixing.dead(run, step)
        st.divider()
        mixing.what_if(run, step)
