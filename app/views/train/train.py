"""Train: ask for a run, watch it, steer it. The run is a process of its own that only writes files."""

import streamlit as st

from app.shell import html, safety
from app.views.train import ahead, catalogue, form, training

html.heading(
    "Train",
    "Put a run together, see what it would take, and watch it learn. It is a process of its own: closing this page "
    "does not stop it.",
)
if safety.read_only():
    safety.show_read_only("Training")
else:
    training.watch()
    known = catalogue.catalogue()
    if isinstance(known, str):
        html.empty("The library cannot be asked", known)
    else:
        st.header("A new run", anchor=False)
        request = form.show(known)
        if request.spec is None:
            html.refused("This cannot be run", f"<p>{html.safe(request.problem)}</p>")
        else:
            st.code(request.spec.command(), language="bash", wrap_lines=True)
            with st.container(horizontal=True, gap="small"):
                st.button(
                    "Check and estimate", key="train-estimate", icon=":material/timer:", on_click=ahead.ask,
                    args=(request.spec,), help="Loads the library, weights and some images, and times a few batches.",
                )  # fmt: skip
                st.button(
                    "Start", key="train-start", type="primary", icon=":material/play_arrow:", on_click=training.start,
                    args=(request.name, request.spec), disabled=isinstance(ahead.known(request.spec), str),
                )  # fmt: skip
            ahead.show(request.spec)
    training.stopped()
