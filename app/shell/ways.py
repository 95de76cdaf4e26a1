"""The one way to another page: it hands over what that page is to show, and Back leads here again.

`st.switch_page` refuses while an option of the page stands in the address, and leaves up to three entries in the
browser's history. Links (`st.page_link`, an address) need none of this.
"""

import time
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlencode

import streamlit as st

from app.shell import state, theme
from app.shell.component import component

_HERE, _COUNT, _DRESSED = "way-here", "way-count", "way-dressed"
_PATIENCE_S, _PATIENCE_FIRST_S, _BEAT_S = 4.0, 2.5, 0.02


def arrive(page: str) -> None:
    """Called once by every run of the app, with the path of its page: what a new page's address says is what it shows.

    On the same page the session knows better than an address that the browser may not have been told yet.
    """
    if st.session_state.get(_HERE) != page:
        state.adopt()
    st.session_state[_HERE] = page
    new = bool(st.context.headers) and not st.session_state.get(_DRESSED)
    told = _mount("ways", {"ask": new}, on_dressed_change=_dressed)
    if told is not None and told.dressed:
        st.session_state[theme.NARROW] = bool(told.dressed["narrow"])
    elif told is not None and new:
        _wait(_PATIENCE_FIRST_S)  # a browser without our style sheet would show the page, then move all of it
    _dressed()


def _dressed() -> None:
    """The browser has our style sheet; how wide its window is, it says on arrival and when that changes."""
    st.session_state[_DRESSED] = True


def file(page: str) -> str:
    """The script of a page, as Streamlit's own links want it: below the folder of `main.py`."""
    return f"views/{page}/{page}.py"


def go(page: str, **view: Any) -> NoReturn:
    """Leave for `page`, which shows `view`.

    Names that `state` holds go into the address; all others are keys of that page's widgets. Call it where something
    has just been asked for (`if st.button(...)`): nothing after it runs.
    """
    for name, value in view.items():
        if name in state.NAMES:
            state.put(name, value)
        else:
            st.session_state[name] = value
    path = "" if page == "start" else page
    query = urlencode({name: value for name in state.NAMES if (value := state.get(name)) is not None})
    if st.context.headers and component("ways", _HTML, _HOME) is not None:
        number = st.session_state[_COUNT] = st.session_state.get(_COUNT, 0) + 1
        to = f"{path}?{query}" if query else path
        _mount(f"way-{number}", {"to": to, "here": st.session_state.get(_HERE, ""), "token": f"{time.time_ns()}"})
        _wait(_PATIENCE_S)  # the browser's answer ends this run; until then the old page stays in sight
        st.stop()
    st.switch_page(file(page))  # nobody's browser has asked


_HOME = Path(__file__).parent
_HTML = '<div class="way"></div>'


def _wait(patience_s: float) -> None:
    """Give the browser time to answer: its answer ends this run, at the next beat."""
    beat, until = st.empty(), time.monotonic() + patience_s
    while time.monotonic() < until:
        time.sleep(_BEAT_S)
        beat.empty()


def _mount(key: str, data: dict[str, Any], **told: Any) -> Any:
    """What the browser said to the component, None where Streamlit has no components v2."""
    mount = component("ways", _HTML, _HOME)
    if mount is None:
        return None
    with st.container(key=f"{key}-place"):
        return mount(key=key, data=data, **told)
