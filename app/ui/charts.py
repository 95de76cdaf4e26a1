"""Figures of the package on a page: theme, alternative text and the sentence under each, and honest gaps."""

import inspect
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import streamlit as st

from app.ui import export, html, terms, theme
from app.ui.store import Opened
from cillab.core.errors import CillabError, one_line

CONFIG = {"displaylogo": False, "displayModeBar": "hover", "toImageButtonOptions": {"format": "svg"}}
HAS_ALT = "alt" in inspect.signature(st.plotly_chart).parameters


def draw(name: str, title: str, *args: Any, key: str, wide: bool = False, **options: Any) -> None:
    """One figure by name with a heading, its finding and how to read it; the reason where a run lacks what it shows."""
    if wide:
        st.header(title, anchor=False, help=terms.tip(name))
    else:
        st.markdown(f"##### {title}", help=terms.tip(name))
    try:
        figure = getattr(import_module("cillab.figures"), name)
        picture = figure(*args, theme=theme.mode(), **options)
    except (CillabError, AttributeError, KeyError, ValueError, ImportError) as error:
        html.empty("Not in this run", one_line(error))
        return
    panel(picture, key, title)


def panel(picture: Any, key: str, title: str) -> None:
    """A figure with its finding, how to read it, and a way to take it along."""
    picture.figure.update_layout(
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        uirevision=key,
        title=None,
        font={"family": '"Source Sans", sans-serif'},
    )
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
