"""Report: one self-contained page about a run, to keep or to send; it opens without a network."""

import streamlit as st

from app.shell import html, picker, state
from app.views.report import paper

html.heading(
    "Report",
    "Every figure of a run, its numbers and its protocol in one file. It opens in any browser, without a network and "
    "without cillab.",
)
run, _, _ = picker.pick()
state.mirror("run")
if run:
    picker.badge(run)
    if not st.session_state.setdefault(paper.WANTED, True):
        html.note(paper.expected(run))
        st.session_state[paper.WANTED] = st.button("Draw the report", key="report-draw", icon=":material/draw:")
    page = paper.report(run) if st.session_state[paper.WANTED] else None
    if isinstance(page, str):
        html.empty("There is no report of this run", page)
    elif page is not None:
        with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
            st.download_button(
                "Download", page, paper.file_name(run), "text/html", key="report-file", type="primary",
                icon=":material/download:", on_click="ignore",
            )  # fmt: skip
            st.caption(f"{len(page) / 1e6:.1f} MB, most of it the drawing library, once")
        st.code(f"cillab report {run.run.path} --out {paper.file_name(run)}", language="bash")
        if st.toggle("Preview", key="preview", **state.bound()):
            st.iframe(page.decode(), height=paper.PREVIEW_PX, alt=f"Report of {run.title}")
