"""A run that is being trained, on Step through: how far it is, and the map that grows with every finished task."""

from collections.abc import Mapping

import streamlit as st

from app.charts import curves
from app.shell import html, state, ways
from app.shell.store import Broken, Entry, Opened, opened
from app.shell.theme import task_colour
from cillab.core.errors import CillabError
from cillab.runs import Run

_GOING = ("queued", "running", "paused")
_POLL_S = 1.0
_SPARK = (150, 26, 80)  # width, height in pixels, points


def waiting(there: Mapping[str, Entry], key: str | None) -> Opened | None:
    """The chosen run, if it is going on and has not finished its first task: there is something to wait for."""
    run = opened(there[key]) if key and key in there else None
    return None if run is None or isinstance(run, Broken) or run.steps or run.liveness not in _GOING else run


def show(run: Opened | None) -> None:
    """The strip of a run that is going on; nothing for any other."""
    if run is None or run.liveness not in _GOING:
        return
    with st.container(key="live-strip"):
        st.fragment(_look, run_every=_POLL_S)(run)
    if not run.steps:
        html.empty(
            "The first task is being learnt",
            f"The map of “{run.key}” opens by itself when it is finished; the numbers above are of this moment.",
        )


def _look(run: Opened) -> None:
    """One look: three small files. A finished task, or the end, draws the page anew."""
    try:
        now = Run(run.run.path)
        status, live, steps = now.status, now.liveness(), now.steps
    except (CillabError, OSError):
        st.rerun()
    words, middle, right = st.columns([2.2, 0.7, 0.5], vertical_alignment="center", gap="small")
    with right, st.container(horizontal=True, horizontal_alignment="right"):
        if st.button("Train", key="live-train", icon=":material/model_training:", help="Pause, cancel, queue"):
            ways.go("train")
    with middle:
        words_of_it = "Show each task as soon as it is finished."
        follow = st.toggle("Follow", True, key="follow", help=words_of_it, **state.bound())
    if len(steps) != len(run.steps) or live != run.liveness:
        if follow:
            state.put("step", len(steps) - 1 if steps else None)
        st.rerun()
    with words:
        html.show(_line(now, status, live, len(run.steps)), "ci-live")


def _line(run: Run, status, live: str, done: int) -> str:
    """State, place, loss with its course, and pace, in one line."""
    facts = [f"task {(status.task or 0) + 1} of {len(run.info.tasks)}", status.stage]
    if status.epochs:
        facts.append(f"epoch {status.epoch + 1} of {status.epochs}")
    if status.images_per_second:
        facts.append(f"{status.images_per_second:.0f} images a second")
    if status.eta_s is not None and live == "running":
        facts.append(f"about {html.duration(status.eta_s)} left")
    loss = "" if status.loss is None else f"loss <b>{html.number(status.loss)}</b> {_spark(run)}"
    shown = " · ".join(html.safe(fact) for fact in facts if fact)
    return f'<p><span class="ci-state {html.safe(live)}"><i></i>{html.safe(live)}</span> {shown} {loss}</p>'


def _spark(run: Run) -> str:
    """The loss of this task as a line of a few pixels."""
    key = "live-tail"
    tail = st.session_state.get(key)
    if tail is None or tail.path != run.path / "metrics.jsonl":
        tail = st.session_state[key] = curves.Tail(run.path / "metrics.jsonl")
    rows = tail.read()
    mine = [loss for task, loss in rows if task == rows[-1][0]]
    if len(mine) < 2:
        return ""
    width, height, most = _SPARK
    picked = [mine[int(at)] for at in curves.thinned(len(mine), most)]
    low, high = min(picked), max(picked)
    points = " ".join(
        f"{width * at / (len(picked) - 1):.1f},{2 + (height - 4) * (high - value) / ((high - low) or 1):.1f}"
        for at, value in enumerate(picked)
    )
    return (
        f'<svg width="{width}" height="{height}" role="img" aria-label="Loss of this task, from {mine[0]:.3g} to '
        f'{mine[-1]:.3g}"><polyline points="{points}" fill="none" stroke="{task_colour(rows[-1][0])}" '
        'stroke-width="1.6"/></svg>'
    )
