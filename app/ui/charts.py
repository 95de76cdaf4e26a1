"""Figures of the package on a page: theme, alternative text and the sentence under each, and honest gaps."""

import inspect
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import streamlit as st

from app.ui import export, html, terms, theme
from app.ui.store import Opened, signature
from cillab.core.errors import CillabError, one_line
from cillab.runs import Run

CONFIG = {"displaylogo": False, "displayModeBar": "hover", "toImageButtonOptions": {"format": "svg"}}
HAS_ALT = "alt" in inspect.signature(st.plotly_chart).parameters


def draw(name: str, title: str, *args: Any, key: str, wide: bool = False, **options: Any) -> None:
    """One figure by name with a heading, its finding and how to read it; the reason where a run lacks what it shows."""
    if wide:
        st.header(title, anchor=False, help=terms.tip(name))
    else:
        st.markdown(f"##### {title}", help=terms.tip(name))
    options["theme"] = theme.mode()
    if args and isinstance(args[0], Run):
        picture = _remembered(
            name, key, args[1:], tuple(sorted(options.items())), (str(args[0].path), *signature(args[0].path)), args[0]
        )
    else:
        picture = _made(name, key, *args, **options)
    if isinstance(picture, str):
        html.empty("Not in this run", picture)
    else:
        _put(picture, key, title)


@st.cache_resource(max_entries=600, show_spinner=False)
def _remembered(name: str, key: str, args: tuple, options: tuple, changed: tuple, _run: Run) -> Any:
    """A figure of a run as it is on disk, made once for all who look. Nobody may change it."""
    picture = _made(name, key, _run, *args, **dict(options))
    if not isinstance(picture, str):  # Streamlit asks for this copy at every run: half of what a chart costs the server
        ready = picture.figure.to_dict()
        picture.figure.to_dict = lambda: ready
    return picture


def _made(name: str, key: str, *args: Any, **options: Any) -> Any:
    try:
        return _dressed(getattr(import_module("cillab.figures"), name)(*args, **options), key)
    except (CillabError, AttributeError, KeyError, ValueError, ImportError) as error:
        return one_line(error)


def _dressed(picture: Any, key: str) -> Any:
    """On the ground of the page, in its font; its zoom outlives a change of step."""
    picture.figure.update_layout(
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        uirevision=key,
        title=None,
        font={"family": '"Source Sans", sans-serif'},
    )
    return picture


def panel(picture: Any, key: str, title: str) -> None:
    """A figure with its finding, how to read it, and a way to take it along."""
    _put(_dressed(picture, key), key, title)


def _put(picture: Any, key: str, title: str) -> None:
    extra = {"alt": picture.sentence} if HAS_ALT else {}
    st.plotly_chart(picture.figure, key=key, theme=None, config=CONFIG, **extra)
    with st.container(horizontal=True, gap="small", vertical_alignment="top", key=f"under-{key}"):
        html.note(picture.sentence, *picture.notes)
        export.offer(lambda: picture, key, title)


def overview(runs: Sequence[Opened], step: int) -> None:
    """Collapse over steps, accuracy matrix, angles and drift: two to a row, or run beside run."""
    panels = (
        ("collapse", "Neural collapse over steps"),
        ("accuracy_matrix", "Accuracy by task"),
        ("angles", "Angles between class means"),
        ("drift", "Drift of class means since they were learnt"),
    )
    cells = [(name, title, run) for name, title in panels for run in runs]
    for pair in (cells[0:2], cells[2:4], cells[4:6], cells[6:8]):
        for column, (name, title, run) in zip(st.columns(2, gap="large"), pair, strict=False):
            with column:
                heading = title if len(runs) == 1 else f"{title}: {html.markdown(run.title)}"
                draw(name, heading, run.run, min(step, len(run.steps) - 1), key=f"{name}-{run.key}")
