"""Figures of the package on a page: theme, alternative text and the sentence under each, and honest gaps."""

import inspect
from collections.abc import Callable, Hashable
from typing import Any

import streamlit as st

from app.charts import terms
from app.charts.once import once
from app.shell import export, html, theme
from app.shell.kept import keep, weight
from app.shell.store import signature
from cillab.core.errors import CillabError, one_line
from cillab.runs import Run

CONFIG = {"displaylogo": False, "displayModeBar": "hover", "toImageButtonOptions": {"format": "svg"}}
_FIGURES_BYTES = 96_000_000  # kept for all who look
HAS_ALT = "alt" in inspect.signature(st.plotly_chart).parameters


def draw(name: str, title: str, *args: Any, key: str, wide: bool = False, **options: Any) -> None:
    """One figure by name with a heading, its finding and how to read it; the reason where a run lacks what it shows."""
    if wide:
        st.header(title, anchor=False, help=terms.tip(name))
    else:
        html.section(title, key, help=terms.tip(name))
    found = picture(name, key, *args, theme=theme.mode(), **options)
    if isinstance(found, str):
        html.empty("Not in this run", found)
    else:
        _put(found, key, title)


def picture(name: str, key: str, *args: Any, **options: Any) -> Any:
    """A figure by name, or in one line why there is none; that of a run is made once."""
    if args and isinstance(args[0], Run):
        changed = (str(args[0].path), *signature(args[0].path))
        return _remembered(name, key, args[1:], tuple(sorted(options.items())), (*changed, theme.narrow()), args[0])
    return _made(name, key, *args, **options)


def _size(picture: Any) -> int:
    """Bytes of a figure: once in its traces, once in the copy that is sent."""
    return 1000 if isinstance(picture, str) else 2 * weight(picture.figure.to_dict())


def _asked(name: str, key: str, args: tuple, options: tuple, changed: tuple, run: Run) -> Hashable:
    return repr((name, key, args, options, changed))


@keep(_FIGURES_BYTES, _size, _asked)
def _remembered(name: str, key: str, args: tuple, options: tuple, changed: tuple, run: Run) -> Any:
    """A figure of a run as it is on disk, made once for all who look. Nobody may change it."""
    return _made(name, key, run, *args, **dict(options))


def _made(name: str, key: str, *args: Any, **options: Any) -> Any:
    try:
        from cillab.figures import named  # noqa: PLC0415 (plotly: only pages with figures load it)

        return dressed(named(name).draw(*args, **options), key)
    except (CillabError, AttributeError, KeyError, ValueError, ImportError) as error:
        return one_line(error)


def dressed(picture: Any, key: str) -> Any:
    """On the ground of the page, in its font, in one column where the window is narrow; its zoom outlives a step."""
    if theme.narrow():
        from cillab.figures.narrow import stacked  # noqa: PLC0415 (plotly: only pages with figures load it)

        stacked(picture.figure)
    picture.figure.update_layout(
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        uirevision=key,
        title=None,
        font={"family": '"Source Sans", sans-serif'},
    )
    ready = once(picture.figure.to_dict())  # Streamlit asks for it at every run: half of what a chart costs the server
    picture.figure.to_dict = lambda: ready
    return picture


def panel(picture: Any, key: str, title: str) -> None:
    """A figure with its finding, how to read it, and a way to take it along."""
    _put(dressed(picture, key), key, title)


def show(picture: Any, key: str) -> None:
    """The chart alone. Its place is as high as it will be before it is drawn: what stands below does not jump."""
    extra = {"alt": picture.sentence} if HAS_ALT else {}
    height = picture.figure.layout.height or "content"
    st.plotly_chart(picture.figure, key=key, theme=None, config=CONFIG, height=height, **extra)


def _put(picture: Any, key: str, title: str) -> None:
    show(picture, key)
    under(key, title, lambda: picture, picture.sentence, *picture.notes)


def under(key: str, title: str, picture: Callable[[], Any], sentence: str, *notes: str) -> None:
    """What stands below a chart: its finding, how to read it, and a way to take it along, made when asked for."""
    with st.container(horizontal=True, gap="small", vertical_alignment="top", key=f"under-{key}"):
        html.note(sentence, *notes)
        export.offer(picture, key, title)
