"""Step through: one screen on which everything follows the step, drawn in the browser from arrays that come once."""

from collections.abc import Sequence

import streamlit as st

from app.player.player import player
from app.shell import html, picker, state, theme, tour, ways
from app.shell.store import Opened, fragment
from app.views.step_through import captions, live_strip
from cillab.cockpit import panels
from cillab.figures.pages import PAGES
from cillab.figures.registry import named
from cillab.plane import PLANES
from cillab.protocol import protocol_key
from cillab.runs.index import stated_as

PLAYER = "player"
_ASKED = "cockpit-asked"
_STYLE = """
.stMainBlockContainer { max-width: none; padding: 3.7rem 1.4rem 0.6rem; }
.st-key-cockpit-bar h1 { font-size: 1.35rem; padding: 0; white-space: nowrap; }
.st-key-cockpit-bar [data-testid="stHeading"] { margin: 0; }
.st-key-cockpit-bar { margin-bottom: -0.6rem; }
body { --cockpit-height: calc(100vh - 150px); }
body:has(.st-key-tour) { --cockpit-height: calc(100vh - 218px); }
.st-key-tour { padding: 0.4rem 0.9rem; margin-bottom: -0.5rem; }
body:has(.st-key-live-strip) { --cockpit-height: calc(100vh - 202px); }
[data-lecture] body { --cockpit-height: calc(100vh - 72px); }
[data-lecture] body:has(.st-key-tour) { --cockpit-height: calc(100vh - 174px); }
[data-lecture] .stMainBlockContainer { padding-top: 0.7rem; } [data-lecture] .st-key-cockpit-bar { display: none; }
@media (min-width: 901px) { .st-key-cockpit-bar [data-testid="stHeading"] { position: relative; top: -8px; } }
@media (max-width: 900px) { .stMainBlockContainer { padding: 4rem 0.8rem 1rem; } }
@media (max-width: 900px) { .st-key-cockpit-bar h1 { padding-bottom: 0.6rem; } }
"""


def bar() -> tuple[list[Opened], str]:
    """The slim row on top: what is shown, beside what, in which plane, and the protocol behind a button."""
    theme.sheet(_STYLE)
    with st.container(key="cockpit-bar"):
        title, first, second, third, about = st.columns(
            [0.8, 1.3, 1.3, 1.1, 0.25], gap="small", vertical_alignment="center"
        )
        with title:
            st.title("Step through", anchor=False)
        found = picker.found()
        if not found:
            picker.no_runs()
            return [], ""
        with first:
            key = picker.choose("run", "Run", found, hidden=True)
        with second:
            other = picker.choose("versus", "Compare with", found, optional=True, hidden=True)
        with third:
            kind = st.selectbox(
                "Plane", list(PLANES), format_func=lambda one: f"Plane: {PLANES[one].lower()}", key="plane",
                label_visibility="collapsed", **state.bound(),
            )  # fmt: skip
        waiting = live_strip.waiting(found, key)
        runs = [] if waiting else picker.shown(found, key, other)
        with about, st.popover("", icon=":material/info:", help="Protocol, and the command that makes the run"):
            for run in runs:
                st.markdown(f"**{html.markdown(run.title)}**")
                picker.badge(run)
            html.note(
                "The plane is a linear map of the features, fitted once on all steps: its axes never change, so motion "
                "on screen is motion of features."
            )
    live_strip.show(waiting or (runs[0] if runs else None))
    return runs, kind or "classes"


@fragment
def stage(runs: Sequence[Opened], kind: str) -> None:
    """The player and its panels. A step that is reported on pause reruns this part only, and changes the address."""
    step = state.step(max(len(run.steps) for run in runs))
    state.mirror("run", "versus", "step", "point", "by", "frame")
    _leave()
    said = [captions.sentences(run) for run in runs]
    extra = {"stop": tour.panel(), "pack": panels, "warning": warning(runs), "sentences": said}
    if not player(runs, kind, step, key=PLAYER, panels=extra, asked=_ask):
        html.empty(
            "These features do not share one plane",
            "The width of the features changes during this run, so no fixed map fits all its steps.",
        )


def _ask(figure: str | None) -> None:
    st.session_state[_ASKED] = figure or ""


def _leave() -> None:
    """To the page that explains the panel which was pressed twice."""
    figure = st.session_state.pop(_ASKED, None)
    if not figure:
        return
    if figure == "cams":
        ways.go("grad_cam")
    one = named(figure)
    key = PAGES[one.page].key if one.page in PAGES else ""
    ways.go(one.page, **({key: one.part} if key else {}))


def warning(runs: Sequence[Opened]) -> str:
    """What differs in the protocols of two runs, in one line; empty when their numbers may stand side by side."""
    if len(runs) < 2:
        return ""
    first, second = (run.run.protocol for run in runs)
    differ = [name for name in protocol_key() if getattr(first, name) != getattr(second, name)]
    if not differ:
        return ""
    said = ", ".join(
        f"{name.replace('_', ' ')} ({_short(getattr(first, name))} against {_short(getattr(second, name))})"
        for name in differ[:3]
    )
    more = f" and {len(differ) - 3} more" if len(differ) > 3 else ""
    return f"Not the same protocol: {said}{more}. The difference is not one of the methods alone."


def _short(value: object) -> str:
    return "not stated" if value in (None, "") else str(stated_as(value))[:24]
