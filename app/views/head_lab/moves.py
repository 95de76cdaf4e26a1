"""Charts that stay: what changes in them is told to the browser, which changes it in place."""

from pathlib import Path
from typing import Any

import streamlit as st

from app.shell import export
from app.shell.component import component

_HOME = Path(__file__).parent
_HTML = '<div class="moves"></div>'


def possible() -> bool:
    """Can a chart be changed in place here?"""
    return component("moves", _HTML, _HOME) is not None


def figure(key: str, sentence: str, **what: Any) -> dict[str, Any]:
    """The change of one chart: its `cursor` (corners, in units of the axes) or `lines` (number of trace, values)."""
    return {"figure": f"st-key-{export.css_key(key)}", "sentence": sentence, **what}


def tell(changes: list[dict[str, Any]], key: str = "moves") -> None:
    """Change the charts of this page."""
    mount = component("moves", _HTML, _HOME)
    if mount is not None:
        with st.container(key=f"{key}-place"):
            mount(key=key, data={"moves": changes})
