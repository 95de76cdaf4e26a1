"""The plane of the player, kept as long as the run does not change."""

import streamlit as st

from app.ui.store import Opened
from cillab.player import PLANES, Flat, flatten, nearest_simplex

__all__ = ["PLANES", "Flat", "flat", "nearest_simplex"]


@st.cache_resource(max_entries=8, show_spinner=False)
def _flat(token: str, kind: str, corners: tuple[int, ...], _view: Opened, _beside: Opened | None) -> Flat | None:
    beside = None if _beside is None else (_beside.run, _beside.snapshots)
    return flatten(_view.run, _view.snapshots, kind, corners, beside)


def flat(
    view: Opened, kind: str = "classes", corners: tuple[int, ...] = (), beside: Opened | None = None
) -> Flat | None:
    """Probe points, class means and head rows of every step in one plane; None where features change their width.

    `kind` is one of `PLANES`, or `simplex`: the plane through the last means of three classes, the `corners`. With a
    run `beside` it the plane is that of both.
    """
    if not view.steps:
        return None
    return _flat(f"{view.token}|{beside.token if beside else ''}", kind, corners, view, beside)
