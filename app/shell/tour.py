"""Lectures: stops that play like slides through the pages, from a YAML file. The guided tour is one of them.

`?tour=3` is the third stop of the tour, `?tour=monday.3` that of `<runs>/lectures/monday.yaml`. Page Down and Page Up,
as the buttons of a presenter send them, go on and back; F fills the screen and makes the type large (`ways.js`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.shell import html, state, ways
from app.shell.store import runs_folder
from cillab.core.errors import CillabError, InvalidRequestError, one_line
from cillab.core.params import complaint

_TOUR = Path(__file__).with_name("tour.yaml")
_VIEWS = Path(__file__).parents[1] / "views"
_PLAYER_VIEW = "panel"  # of the cockpit: read from the stop, no key of a widget


class Stop(BaseModel):
    """A page, what to look at there, and what the page is to show."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    page: str
    title: str
    text: str = ""
    view: dict[str, Any] = Field(default_factory=dict)


class Script(BaseModel):
    """A lecture: what the button on Start says, and the stops in their order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    stops: list[Stop] = Field(min_length=1)


def read(path: Path) -> Script:
    """A script from its file.

    Raises:
        InvalidRequestError: it is no YAML of this form, or names a page that does not exist.
    """
    try:
        script = Script.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidRequestError(f"{path.name} cannot be read: {one_line(error)}") from error
    except ValidationError as error:
        raise InvalidRequestError(f"{path.name}: {complaint(error)}") from error
    pages = sorted(page.stem for page in _VIEWS.glob("*/*.py") if page.stem == page.parent.name)
    for stop in script.stops:
        if stop.page not in pages:
            raise InvalidRequestError(f"{path.name}: there is no page {stop.page!r}. Valid: {', '.join(pages)}.")
    return script


@st.cache_resource(max_entries=16, show_spinner=False)
def _script(path: str, changed: int) -> Script | str:
    del changed
    try:
        return read(Path(path))
    except CillabError as error:
        return one_line(error)


def script(name: str = "") -> Script | str:
    """The lecture of this name, the tour without one; or, in a line, what is wrong with its file."""
    path = lectures().get(name, Path()) if name else _TOUR
    return _script(str(path), path.stat().st_mtime_ns) if path.is_file() else f"There is no lecture {name!r}."


def lectures() -> Mapping[str, Path]:
    """The files of this machine's own lectures, by name."""
    folder = runs_folder() / "lectures"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))} if folder.is_dir() else {}


def current() -> tuple[str, Script, int] | None:
    """The lecture that the link asks for, its name, and the stop counted from 0; None without one."""
    name, _, number = f".{state.get('tour') or ''}".rpartition(".")
    found = script(name.removeprefix("."))
    if isinstance(found, str) or not number.isdecimal() or not 1 <= int(number) <= len(found.stops):
        return None
    return name.removeprefix("."), found, int(number) - 1


def at() -> int | None:
    """Which stop the link asks for, counted from 0; None without a lecture."""
    found = current()
    return None if found is None else found[2]


def panel() -> dict[str, Any] | None:
    """What the stop of now wants of the cockpit, and a name for it that changes with the stop."""
    found = current()
    if found is None or found[1].stops[found[2]].page != "step_through":
        return None
    return {"panel": found[1].stops[found[2]].view.get(_PLAYER_VIEW), "stop": state.get("tour")}


def go(index: int, name: str = "") -> None:
    """Show a stop: its view first, so that the page opens on it."""
    found = script(name)
    if isinstance(found, str):
        st.error(found)
        return
    stop = found.stops[index]
    view = {key: value for key, value in stop.view.items() if key != _PLAYER_VIEW}
    ways.go(stop.page, tour=f"{name}.{index + 1}" if name else str(index + 1), **view)


def end() -> None:
    """Leave the lecture where it is."""
    state.put("tour", None)


def bar(page: str) -> None:
    """The card of the current stop, on any page; `page` is the file name of the one that is shown."""
    found = current()
    state.mirror("tour")
    if found is None:
        return
    name, lecture, index = found
    stop, last = lecture.stops[index], len(lecture.stops) - 1
    with st.container(border=True, key="tour"):
        # Three buttons in a row at 1,000 px.
        left, right = st.columns([1.7, 1], vertical_alignment="center", gap="medium")
        with left:
            html.show(
                f"<p><b>{index + 1} of {last + 1}. {html.safe(stop.title)}</b> {html.safe(stop.text)}</p>", "ci-tour"
            )
        with right, st.container(horizontal=True, gap="small", horizontal_alignment="right"):
            if page != stop.page:
                moved = st.button("Go there", key="tour-there", type="primary")
                if moved:
                    go(index, name)
            if st.button("Back", key="tour-back", shortcut="Alt+Left", disabled=index == 0):
                go(index - 1, name)
            if index < last and st.button("Next", key="tour-next", type="primary", shortcut="Alt+Right"):
                go(index + 1, name)
            st.button("End", key="tour-end", shortcut="Esc", on_click=end)


def invitation() -> None:
    """The way in, from Start: the tour, and the lectures of this machine."""
    if at() is not None:
        return
    with st.container(horizontal=True, gap="small"):
        for name in ("", *lectures()):
            found = script(name)
            if isinstance(found, str):
                html.note(found)
            elif st.button(html.markdown(found.title), key=f"tour-start{name and '-'}{name}", icon=":material/tour:"):
                go(0, name)
