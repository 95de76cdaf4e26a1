"""Colours and the one style sheet. A task has the same colour everywhere; light and dark have their own shades."""

from pathlib import Path
from typing import Literal

import streamlit as st
from PIL import Image, ImageDraw

Mode = Literal["light", "dark"]

# The hues of `cillab.figures.palette` (a test keeps them equal): importing that would load plotly on every page.
TASK_COLOURS: dict[Mode, tuple[str, ...]] = {
    "light": (
        "#0072B2", "#E08E00", "#009E73", "#C9629B", "#4AA8DE", "#D0500A", "#882255", "#8A8A2A", "#4B3AA8", "#6B7480",
    ),
    "dark": (
        "#3FA0E0", "#F0A830", "#2CC498", "#E08CBB", "#8CD0F5", "#F07A3C", "#C8628F", "#BDBD55", "#9587F0", "#A2ABB8",
    ),
}  # fmt: skip

NARROW = "theme-narrow"  # in the session: what the browser said last
_STYLE = Path(__file__).with_name("style.css")


@st.cache_resource(show_spinner=False)
def icon() -> Image.Image:
    """The page icon: three class means of a simplex. Drawn here, because a named icon would be fetched from the web."""
    picture = Image.new("RGBA", (128, 128), (0, 0, 0, 0))
    pen = ImageDraw.Draw(picture)
    corners = [(64, 22), (22, 100), (106, 100)]
    for corner in corners:
        pen.line([(64, 72), corner], fill="#8a93a3", width=6)
    for corner, colour in zip(corners, TASK_COLOURS["light"], strict=False):
        pen.ellipse([corner[0] - 20, corner[1] - 20, corner[0] + 20, corner[1] + 20], fill=colour)
    return picture


def apply() -> None:
    """Put the style sheet on the page."""
    sheet(_STYLE.read_text())


def sheet(css: str) -> None:
    """Put rules on the page."""
    st.html(f"<style>{css}</style>")


def mode() -> Mode:
    """The theme that the browser shows."""
    return "dark" if getattr(st.context.theme, "type", None) == "dark" else "light"


def narrow() -> bool:
    """Is the window of the browser too narrow for panels side by side? It says so when it arrives."""
    return bool(st.session_state.get(NARROW))


def task_colour(task: int) -> str:
    """Colour of a task in the current theme; it repeats after ten tasks."""
    colours = TASK_COLOURS[mode()]
    return colours[task % len(colours)]
