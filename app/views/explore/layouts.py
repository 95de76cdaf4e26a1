"""The map of the Explore page: a fixed plane, or a joint UMAP that a job computes and that brings its quality along."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import streamlit as st

from app.player.plane import laid
from app.shell import html, safety, state
from app.shell.store import Opened
from cillab.core.errors import CillabError, one_line
from cillab.core.places import cache_dir
from cillab.plane import PLANES, Plane, joint

MAPS = {**PLANES, "simplex": "Plane through three class means", "umap": "Joint UMAP of all tasks"}
_WORDS = {
    "classes": "A linear map, fitted once on all tasks: the plane in which classes lie furthest apart (LDA).",
    "variance": "A linear map, fitted once on all tasks: the two directions of largest variance (PCA).",
    "simplex": "The plane through the last means of the first three classes in focus. Squares are the corners of the "
    "simplex nearest to all class means: where collapse would put them.",
}
MOST_IN_FOCUS = 8  # hues that can be told apart


def choose(run: Opened) -> str:
    """The select box of maps."""
    chosen = st.selectbox(
        "Map", list(MAPS), key="map", format_func=MAPS.__getitem__, **state.bound(),
        help="The linear maps keep their axes over all tasks, so motion on screen is motion of features. UMAP shows "
        "neighbourhoods better and distances worse.",
    )  # fmt: skip
    return chosen or "classes"


def focus(run: Opened) -> list[int]:
    """The classes in focus, by class id: coloured one by one, all others grey."""
    info = run.run.info
    names = {class_id: info.name_of(class_id) for class_id in run.run.order}
    return st.multiselect(
        "Classes in focus", list(names), key="focus", format_func=names.__getitem__, max_selections=MOST_IN_FOCUS,
        placeholder="none: colours by task", **state.bound(),
    )  # fmt: skip


def find(run: Opened, kind: str, focused: list[int]) -> tuple[str, Plane] | None:
    """The map and a name for all that it depends on; None after saying why there is none."""
    if kind == "umap":
        return _umap(run)
    seen = run.snapshots[-1]["seen"].tolist()
    corners = tuple([c for c in focused if c in seen][:3]) if kind == "simplex" else ()
    if kind == "simplex" and len(corners) < 3:
        corners = tuple(dict.fromkeys([*corners, *seen]))[:3]
    found = laid(run, kind, corners) if kind != "simplex" or len(corners) == 3 else None
    if found is None:
        html.empty(
            "No plane for these features",
            "The width of the features changes during this run, or there are too few classes to span a plane.",
        )
        return None
    words = _WORDS[kind]
    if kind == "simplex":
        words += f" Here: {', '.join(run.run.info.name_of(c) for c in corners)}."
    html.note(f"{words} It holds {html.percent(found.share)} of the variance of all tasks.")
    return f"{kind}:{corners}", found


def _home(run: Opened) -> Path | None:
    """Where a computed layout is kept: with the run, or, for a recorded demo that ships as it is, in the cache."""
    return cache_dir() / "layouts" / run.key if run.entry.kind == "demo" else None


def _umap(run: Opened) -> tuple[str, Plane] | None:
    try:
        layout = joint.read(run.run, home=_home(run))
        said = joint.state(run.run, home=_home(run)) if layout is None else None
    except (CillabError, OSError, TypeError) as error:
        html.empty("The layout cannot be read", one_line(error))
        return None
    if layout is not None:
        html.note(
            layout.sentence,
            "Trustworthiness: 1 when no image is shown near one that is far from it in feature space. Neighbours kept: "
            "share of the nearest in feature space that are nearest on the map. The shift of images that hardly moved "
            "should be small; where it is not, motion on the map is not motion of features.",
        )
        return f"umap:{joint.key_of(run.run)}", layout.plane
    if said is not None and said.running:
        _progress(run)
        return None
    _offer(run, said)
    return None


@st.fragment(run_every=1.0)
def _progress(run: Opened) -> None:
    said = joint.state(run.run, home=_home(run))
    if said is None or not said.running:
        st.rerun()
    else:
        st.progress(min(said.share, 1.0), text=f"Joint UMAP: {html.markdown(said.stage)}")
        html.note("It runs in a process of its own. The other maps can be used meanwhile, and this page can be closed.")
        if not safety.read_only():
            st.button(
                "Stop", key="umap-stop", icon=":material/stop:", disabled=said.pid is None, on_click=_stop, args=(run,)
            )


def _stop(run: Opened) -> None:
    joint.stop(run.run, home=_home(run))


def _offer(run: Opened, said: joint.State | None) -> None:
    if find_spec("umap") is None:
        html.empty("UMAP is not installed", "Install it with: pip install 'cillab[umap]'. The other maps need nothing.")
        return
    if safety.read_only():
        safety.show_read_only("Computing a new layout")
        return
    if said is not None:
        html.empty("The last attempt ended early", said.error or "Its process is gone and left no reason.")
    else:
        points = len(run.run.probe) * len(run.steps)
        html.empty(
            "This map has to be computed first",
            f"One layout for {points:,} points: every probe image at every task. It takes about "
            f"{_minutes(points)} in a process of its own and is kept.",
        )
    if st.button("Compute the joint UMAP", type="primary", icon=":material/scatter_plot:", key="umap-start"):
        try:
            safety.must_be_writable()
            joint.start(run.run, home=_home(run))
        except (CillabError, OSError) as error:
            html.empty("It could not be started", one_line(error))
            return
        st.rerun()


def _minutes(points: int) -> str:
    """From what was measured on two cores: 20,000 points take 24 s and compiling takes 10 s more."""
    seconds = 15 + 1.5 * points / 1000
    return f"{seconds:.0f} seconds" if seconds < 90 else f"{np.ceil(seconds / 60):.0f} minutes"
