"""Compare: all runs by protocol, their curves on shared axes, and learners over seeds."""

import streamlit as st

from app.shell import html
from app.shell.picker import no_runs
from app.views.compare import tables

html.heading(
    "Compare",
    "Every run with the protocol that its numbers belong to. Only runs that agree in data, split, order, seed, weights "
    "and transform are ranked against each other.",
)
everything, found = tables.rows("a_last")
if not everything:
    no_runs()
else:
    kept, by = tables.filters(everything)
    if not kept:
        html.empty("No run passes these filters", "Choose other data, another split or other learners.")
    else:
        tables.leaderboard(kept, by)
        st.divider()
        tables.curves(kept, found)
        st.divider()
        tables.seeds(kept, by)
