"""What the page shows, held in the URL: run, second run, step, chosen and selected images, head. A link shows it again.

These few outlive a change of page and are set by components as well as by widgets, so they live in the session under
their own names and are mirrored into the query string. Options of a single page are bound by Streamlit itself
(`bind="query-params"`).
"""

from typing import Any

import streamlit as st

NAMES = ("run", "versus", "step", "point", "sel", "tour", "by", "frame")


def get(name: str) -> str | None:
    """The value in this session; on the first visit, what the link says."""
    if name not in NAMES:
        raise KeyError(name)
    if name not in st.session_state:
        st.session_state[name] = st.query_params.get(name)
    return st.session_state[name]


def put(name: str, value: str | int | None) -> None:
    """Set a value; `None` forgets it."""
    if name not in NAMES:
        raise KeyError(name)
    st.session_state[name] = None if value is None else str(value)


def adopt() -> None:
    """Take what the address says: a page that was just opened shows what its link says."""
    for name in NAMES:
        if name in st.query_params:
            st.session_state[name] = st.query_params[name]


def mirror(*names: str) -> None:
    """Write the values that matter on this page into the URL, only where they differ: a write is a message."""
    for name in names:
        value = get(name)
        if value is None and name in st.query_params:
            del st.query_params[name]
        elif value is not None and st.query_params.get(name) != value:
            st.query_params[name] = value


def step(count: int) -> int:
    """The position among `count` snapshots: what the URL says where that is possible, else the last one."""
    given = get("step")
    if given is None or not given.isdecimal():
        return count - 1
    return min(int(given), count - 1)


def bound(**options: Any) -> dict[str, Any]:
    """Arguments that bind an option of a page to the URL and keep it over changes of page."""
    return {"bind": "query-params", "persist_state": "session", **options}
