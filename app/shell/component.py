"""Components of our own: an ES module and a style sheet, registered once per server."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

from cillab.player import CSS, source


@st.cache_resource(show_spinner=False)
def component(name: str, html: str, home: Path | None = None) -> Callable[..., Any] | None:
    """What mounts `name`.js with `name`.css in the element `html`; None where Streamlit has no components v2.

    They stand in the folder `home`, without one in `cillab.player`, whose modules notebooks use as well.

    The files are trusted code: no text of a run is ever formatted into them, it arrives as data.
    """
    module = getattr(st.components, "v2", None)
    if module is None:
        return None
    css = ((home or CSS.parent) / f"{name}.css").read_text(encoding="utf-8")
    js = (home / f"{name}.js").read_text(encoding="utf-8") if home else source(name)
    return module.component(f"cillab_{name}", html=html, css=css, js=js)
