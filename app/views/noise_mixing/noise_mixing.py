"""Noise mixing: how the generators of a noise method are weighted, which are dead, and what happens without them."""

import streamlit as st

from app.charts import parts
from app.shell import html, picker
from app.views.noise_mixing import generators

html.heading(
    "Noise mixing",
    "Each task adds a small generator whose noise shifts the features of every layer; a mixture of all of them is what "
    "the classifier sees. Look at the weights, then turn generators down and see which answers change.",
)
if chosen_step := picker.at_step():
    run, step = chosen_step
    there = parts.of("noise_mixing", run)
    if not there:
        parts.page("noise_mixing", run, step)
    else:
        parts.draw(there["mixing"], run, step)
        generators.dead(run, step)
        st.divider()
        generators.what_if(run, step)
