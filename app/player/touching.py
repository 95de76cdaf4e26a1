"""Touch, on the server: the learner of the step is woken when asked, and answers mixtures, heads and maps at once.

The player says "wake" and "stop"; its questions and their answers go through a component of its own, so that a question
reruns this component alone and the arrays of the run are not looked at again.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from app.learner import live, waking
from app.shell import safety
from app.shell.component import component
from app.shell.store import Opened
from cillab.cockpit import TARGETS
from cillab.core.errors import CillabError
from cillab.plane import Plane, quantise, square
from cillab.player import NONE, encode, head_at, positions

_POLL_S = 0.7
_HOME = Path(__file__).parent
_HTML = '<div class="touched"></div>'


def possible() -> bool:
    """May visitors wake learners here? Not on a server for others: models are large."""
    return not safety.read_only() and component("touched", _HTML, _HOME) is not None


def listen(view: Opened, told: dict[str, Any] | None) -> None:
    """A message of the player, in its callback."""
    if not told or not possible():
        return
    step = min(max(int(told.get("step") or 0), 0), len(view.steps) - 1)
    task = view.snapshots[step].task
    if told["ask"] == "wake":
        waking.start(view, task)
    elif told["ask"] == "stop" and (job := waking.job(view, task)) is not None:
        job.end()


def tell(view: Opened, step: int, token: str, plane: Plane) -> None:
    """Say how far the learner of this step is, and answer the last question about it."""
    if not possible():
        return
    job = waking.job(view, view.snapshots[step].task)
    going = _going(job)
    st.fragment(_tell, run_every=_POLL_S if going else None)(view, step, token, plane, going)


def _going(job: waking.Waking | None) -> bool:
    """Is there something to look at again soon?"""
    return job is not None and (job.state == "waking" or job.measuring)


def _tell(view: Opened, step: int, token: str, plane: Plane, going: bool) -> None:
    job = waking.job(view, view.snapshots[step].task)
    if going and not _going(job):
        st.rerun()  # the whole page: nothing is polled from now on
    mount = component("touched", _HTML, _HOME)

    def hear() -> None:
        asked = (st.session_state.get("touched") or {}).get("ask")
        if asked:
            st.session_state["touch-question"] = {**asked, "run": view.token}

    if mount is not None:
        with st.container(key="touched-place"):
            data = {"token": token, "step": step, **_status(view, step, job, plane)}
            mount(key="touched", data=data, on_ask_change=hear)


def _status(view: Opened, step: int, job: waking.Waking | None, plane: Plane) -> dict[str, Any]:
    task = view.snapshots[step].task
    if job is None:
        if view.run.checkpoint(task) is None:
            kept = [at for at, shot in enumerate(view.snapshots) if shot.task in live.available(view)]
            return {"state": "none", "words": live.why_not(view, task), "kept": kept}
        return {"state": "asleep", "words": f"For Grad-CAM and mixtures. {waking.expected(view, task)}"}
    if job.state in ("waking", "failed"):
        return {"state": job.state, "words": job.said(), "share": job.share}
    if job.state == "stopped" or job.what_if is None:
        return {"state": "stopped", "words": f"Stopped. {waking.expected(view, task)}"}
    found = job.what_if
    words = "Awake: Grad-CAM follows the head. It mixes nothing that could be dragged."
    return {
        "state": "awake", "words": words, "terms": found.count, "agreement": found.agreement,
        "measuring": job.said(), "halted": job.halted,
        "answer": _answer(view, step, found, plane), "floors": [job.floors.get(name) for name in TARGETS],
    }  # fmt: skip


def _answer(view: Opened, step: int, found: Any, plane: Plane) -> dict[str, Any] | None:
    """The answer to the last question, if it is about this step of this run."""
    asked = st.session_state.get("touch-question")
    if not asked or asked["step"] != step or asked["run"] != view.token:
        return None
    done = st.session_state.get("touch-answer")  # while mixtures are measured the page looks again and again
    if done is None or done[0] != asked:
        done = st.session_state["touch-answer"] = (asked, _answered(view, step, found, plane, asked))
    return done[1]


def _answered(view: Opened, step: int, found: Any, plane: Plane, asked: dict[str, Any]) -> dict[str, Any] | None:
    began = time.perf_counter()
    factors = tuple(min(max(float(value), 0.0), 2.0) for value in asked["factors"] or found.one)
    if len(factors) != found.count:
        return None
    head = None if asked["head"] == "learned" else view.snapshots[step].once(head_at, asked["head"])
    reply = found.reply(factors, head)
    place = positions(view.run)
    codes = np.array([place.get(int(c), NONE) for c in reply.classes])
    cam, index = None, asked.get("index")
    if isinstance(index, int) and 0 <= index < len(view.run.probe):
        cam = _maps(found, index, factors, head)
    return {
        "at": asked["at"], "head": asked["head"], "exact": reply.exact, "predicted": encode(codes, np.uint16),
        "xy": _places(plane, found.features(factors)[0]), "cam": cam,
        "ms": round(1000 * (time.perf_counter() - began), 1),
    }  # fmt: skip


def _places(plane: Plane, features: np.ndarray) -> str | None:
    """Where these features lie on the map, in the whole numbers of the player; None where it is no linear map."""
    if plane.projection is None or features.shape[1] != len(plane.projection.centre):
        return None
    return encode(quantise(plane.projection(features), square(plane.points)), np.int16)


def _maps(found: Any, index: int, factors: tuple[float, ...], head: Any) -> dict[str, Any] | None:
    try:
        maps = found.maps(index, factors, head)
    except CillabError:
        return None
    if not maps:
        return None
    grid = next(iter(maps.values())).shape
    return {"index": index, "grid": list(grid), "maps": {k: encode(v, np.float32) for k, v in maps.items()}}
