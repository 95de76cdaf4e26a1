"""Start: what this is, a recorded run to look at, the runs on this machine. Draws no figure and loads no torch."""

import streamlit as st

from app.shell import html, tour
from app.shell.picker import no_runs
from app.shell.store import Opened, entries, opened
from app.views.start import overview

html.heading(
    "Watch a network learn, one task after another",
    "cillab teaches a pre-trained network new classes in steps and looks inside after each one: what it still knows, "
    "how its features move, how close they come to neural collapse. Every number and picture comes from a run on disk, "
    "and nothing on these pages changes it.",
)
found = entries()
runs = [(entry, opened(entry)) for entry in found]
usable = [run for _, run in runs if isinstance(run, Opened) and run.steps]
tour.invitation()
if usable:
    overview.hero(overview.best(usable))
else:
    no_runs()

if runs:
    st.header("Runs", anchor=False)
    overview.table(runs)

st.header("This machine", anchor=False)
overview.environment()
