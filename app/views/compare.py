"""Compare: all runs by protocol, their curves on shared axes, and learners over seeds."""

import streamlit as st

from app.ui import compare, html
from app.ui.picker import no_runs

html.heading(
    "Compare",
    "Every run with the protocol that its numbers belong to. Only runs that agree in data, split, order, seed, weights "
    "and transform are ranked against each other.",
)
everything, found = compare.rows("a_last")
if not everything:
    no_runs()
else:
    kept, by = compare.filters(everything)
    if not kept:
        html.empty("No run passes these filters", "Choose other data, another split or other learners.")
    else:
        compare.leaderboard(kept, by)
        st.divider()
        compare.curves(kept, found)
        st.divider()
        compare.seeds(kept, by)
