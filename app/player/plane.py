"""The plane of a run, kept as long as the run does not change."""

import streamlit as st

from app.shell.store import Opened
from cillab.core.errors import CillabError
from cillab.plane import Plane, lay


@st.cache_resource(max_entries=8, show_spinner=False)
def _laid(token: str, kind: str, corners: tuple[int, ...], _view: Opened, _beside: Opened | None) -> Plane | None:
    beside = None if _beside is None else (_beside.run, _beside.snapshots)
    try:
        return lay(_view.run, _view.snapshots, kind, corners, beside)
    except CillabError:
        return None


def laid(
    view: Opened, kind: str = "classes", corners: tuple[int, ...] = (), beside: Opened | None = None
) -> Plane | None:
    """`cillab.plane.lay`, or None where these features have no plane."""
    return _laid(f"{view.token}|{beside.token if beside else ''}", kind, corners, view, beside)
