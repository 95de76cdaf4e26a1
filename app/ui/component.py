"""Components of our own: an ES module and a style sheet, by default beside this file, registered once per server."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

_HERE = Path(__file__).parent


@st.cache_resource(show_spinner=False)
def component(name: str, html: str, home: Path = _HERE) -> Callable[..., Any] | None:
    """What mounts `name`.js with `name`.css of `home` in the element `html`; None where Streamlit has no components v2.

    The files are trusted code: no text of a run is ever formatted into them, it arrives as data.
    """
    module = getattr(st.components, "v2", None)
    if module is None:
        return None
    css, js = ((home / f"{name}.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    return module.component(f"cillab_{name}", html=html, css=css, js=js)
