"""Components of our own: an ES module and a style sheet, by default beside this file, registered once per server."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

from cillab.player import CSS, source

_HERE = Path(__file__).parent


@st.cache_resource(show_spinner=False)
def component(name: str, html: str, shared: bool = False) -> Callable[..., Any] | None:
    """What mounts `name`.js with `name`.css in the element `html`; None where Streamlit has no components v2.

    They stand beside this file, or, if `shared`, in `cillab.player`, whose modules notebooks use as well.

    The files are trusted code: no text of a run is ever formatted into them, it arrives as data.
    """
    module = getattr(st.components, "v2", None)
    if module is None:
        return None
    home = CSS.parent if shared else _HERE
    css = (home / f"{name}.css").read_text(encoding="utf-8")
    js = source(name) if shared else (home / f"{name}.js").read_text(encoding="utf-8")
    return module.component(f"cillab_{name}", html=html, css=css, js=js)
