"""Step through: the player with the numbers of the step, and the charts under it."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from app.ui import captions, following, html, state, theme, ways
from app.ui.plane import flat
from app.ui.player import player
from app.ui.store import Opened, fragment

PLAYER = "player"


def page(runs: Sequence[Opened], kind: str) -> None:
    """The player with the numbers of the step, and the charts under it as soon as the map is on screen."""
    step = state.step(max(len(run.steps) for run in runs))
    state.mirror("run", "versus", "step", "point")
    with st.container(key="stage"):  # not dimmed while the first charts are made: it is in use already
        if len(runs) == 1:
            left, right = st.columns([2.35, 1], gap="large")
            beside = [right]
        else:
            left, beside = st.container(), st.columns(2, gap="small")
    st.divider()
    board = following.lay_out(runs)
    if following.due(PLAYER) or not all(flat(run, kind) for run in runs):  # without a player nobody would say so
        following.start(board, step, theme.mode())
    with left:
        stage(runs, kind, beside, board)


@fragment
def stage(runs: Sequence[Opened], kind: str, beside: Sequence[Any], board: following.Board) -> None:
    """The player, and what changes with a step. A step that the player reports on pause reruns this part only."""
    step = state.step(max(len(run.steps) for run in runs))
    state.mirror("run", "versus", "step", "point")
    if not player(runs, kind, step, key=PLAYER, tell_ready=True):
        html.empty(
            "These features do not share one plane",
            "The width of the features changes during this run, so no fixed map fits all its steps.",
        )
    for place, run in zip(beside, runs, strict=True):
        with place:
            now(run, step, hint=run is runs[0])
    if board.started:
        following.follow(board, step)
    elif following.due(PLAYER):
        st.rerun()  # the player has just said that it is on screen: now the charts


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
                ways.go("grad_cam", run=run.key)
        elif hint:
            html.note(
                "Hover a point for its image and numbers, click to keep it. Rings are errors, diamonds class means, "
                "grey points are still to come."
            )
