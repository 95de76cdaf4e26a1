"""Taking things along: a figure as numbers, page or picture, and the command that makes a run again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

from app.shell import html, theme
from app.shell.component import component
from app.shell.public import without_places
from app.shell.store import Opened
from cillab.core.errors import CillabError, one_line

_HOME = Path(__file__).parent
_GROUND = {"light": "#FFFFFF", "dark": "#12151B"}


def offer(picture: Callable[[], Any], key: str, title: str, *, image: bool = True) -> None:
    """CSV and a stand-alone page, made when asked for, and PNG and SVG from the browser (`image`: a chart is shown)."""
    name, ground = file_name(f"{title} {key}"), _GROUND[theme.mode()]
    with st.popover("Export", key=f"export-{key}", type="tertiary", icon=":material/download:"):
        st.download_button(
            "CSV: the numbers", lambda: picture().csv(), f"{name}.csv", "text/csv", key=f"csv-{key}", on_click="ignore",
            width="stretch",
        )  # fmt: skip
        st.download_button(
            "HTML: opens offline", lambda: picture().page(title, ground), f"{name}.html", "text/html",
            key=f"html-{key}", on_click="ignore", width="stretch",
        )  # fmt: skip
        # PNG and SVG are drawn by the browser from the figure on screen: no engine on the server is needed.
        if image and (mount := component("export", '<div class="export"></div>', _HOME)) is not None:
            mount(key=f"image-{key}", data={"figure": f"st-key-{css_key(key)}", "name": name})


def file_name(text: str) -> str:
    """A name that every file system takes."""
    words = "".join(c.lower() if c.isascii() and c.isalnum() else " " for c in text).split()
    return "-".join(dict.fromkeys(words))[:80] or "figure"


def css_key(key: str) -> str:
    """The class that Streamlit gives to an element with this key."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in key)


def command(run: Opened) -> None:
    """The line that makes this run again, to copy."""
    from cillab.lab.spec import RunSpec  # noqa: PLC0415 (pydantic and YAML only, but not on every page)

    with st.popover("Copy command", key=f"command-{run.key}", type="tertiary", icon=":material/terminal:"):
        try:
            line = RunSpec.of({**run.run.spec, "out": None}).command()
        except CillabError as error:
            html.note(f"This version of cillab cannot write the command of this run: {one_line(error)}")
            return
        st.code(without_places(line), language="bash", wrap_lines=True)
        html.note("The same numbers on the same machine; other hardware may differ in the last digits.")
