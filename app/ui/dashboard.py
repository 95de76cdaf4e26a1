"""The parts of Step through: the player with the numbers of the step, and the curves under it."""

from collections.abc import Sequence

import streamlit as st

from app.ui import captions, charts, html, state
from app.ui.player import player
from app.ui.store import Opened


@st.fragment
def stage(runs: Sequence[Opened], kind: str) -> None:
    """Player, numbers and charts. A step that the player reports on pause reruns this part only."""
    count = max(len(run.steps) for run in runs)
    step = state.step(count)
    state.mirror("run", "versus", "step", "point")
    if len(runs) == 1:
        left, right = st.columns([2.35, 1], gap="large")
        with left:
            drawn = player(runs, kind, step)
        with right:
            now(runs[0], step)
    else:
        drawn = player(runs, kind, step)
        for column, run in zip(st.columns(2, gap="small"), runs, strict=True):
            with column:
                now(run, step, hint=run is runs[0])
    if not drawn:
        html.empty(
            "These features do not share one plane",
            "The width of the features changes during this run, so no fixed map fits all its steps.",
        )
    st.divider()
    charts.overview(runs, step)


def now(run: Opened, step: int, hint: bool = True) -> None:
    """The step in numbers and one sentence."""
    if step >= len(run.steps):
        html.empty("No snapshot here", f"{run.title} has {len(run.steps)} steps.")
        return
    with st.container(border=True, key=f"now-{run.key}"):
        html.show(f"<p>{html.safe(run.title)}</p>", "ci-kicker")
        st.subheader(run.label(step), anchor=False)
        html.show(html.facts(captions.facts(run, step), "small"))
        html.show(f"<p>{html.safe(captions.sentence(run, step))}</p>", "ci-sentence")
        point = state.get("point")
        if point is not None and point in {str(i) for i in run.run.probe.ids}:
            index = [str(i) for i in run.run.probe.ids].index(point)
            name = run.run.info.name_of(int(run.run.probe.labels[index]))
            html.note(f"Chosen image: {name}")
            if st.button("See what it looks at", key=f"cam-{run.key}", icon=":material/visibility:"):
                state.put("run", run.key)
                st.switch_page("views/grad_cam.py")
        elif hint:
            html.note(
                "Hover a point for its image and numbers, click to keep it. Rings are errors, diamonds class means, "
                "grey points are still to come."
            )
