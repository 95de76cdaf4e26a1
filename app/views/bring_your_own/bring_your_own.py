"""Bring your own: images for a learner, a folder as a data set, a run folder that somebody sent."""

import streamlit as st

from app.shell import html, safety, state
from app.views.bring_your_own import bring

PARTS = {
    "images": ("Images", bring.show_images),
    "data": ("A data set", bring.show_data),
    "run": ("A run", bring.show_run),
}

html.heading(
    "Bring your own",
    "Ask a learner about your images and follow the answer from task to task, train on a folder of your own, or open a "
    "run that somebody sent you.",
)
if safety.read_only():
    safety.show_read_only("Uploading and registering folders")
else:
    part = st.segmented_control(
        "What", list(PARTS), key="own", default="images", required=True, format_func=lambda name: PARTS[name][0],
        label_visibility="collapsed", **state.bound(),
    )  # fmt: skip
    PARTS[part or "images"][1]()
