"""Step through: one or two runs, step by step, in one fixed plane, with the numbers of the step beside it."""

import streamlit as st

from app.ui import dashboard, html, picker, state
from app.ui.plane import PLANES

html.heading("Step through")
run, versus, columns = picker.pick(second=True, extra=1)
state.mirror("run", "versus", "point")
if run:
    with columns[0]:
        kind = st.selectbox(
            "Plane", list(PLANES), format_func=PLANES.__getitem__, key="plane", **state.bound(),
            help="A linear map of the features, fitted once on all steps: its axes never change, so motion on screen "
            "is motion of features.",
        )  # fmt: skip
    picker.badge(run)
    dashboard.page([run, *([versus] if versus else [])], kind or "classes")
