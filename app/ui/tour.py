"""The guided tour: a minute through the pages, as data. `?tour=1` starts it; every stop is a link of its own."""

from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from app.ui import html, state, ways


@dataclass(frozen=True)
class Stop:
    """A page, what to look at there, and what the page is to show."""

    page: str
    title: str
    text: str
    view: dict[str, Any] = field(default_factory=dict)


STOPS: tuple[Stop, ...] = (
    Stop(
        "start", "A network learns one task after another",
        "Classes arrive in tasks; old images do not come back. The pictures are the images that are looked at again "
        "after every task. The bars show the accuracy on everything seen so far.",
    ),
    Stop(
        "step_through", "Every dot is an image",
        "A fixed plane of feature space. Grey dots are classes still to come, rings are errors. Press play: what moves "
        "on screen has moved in the network.",
        {"run": "demo-finetune", "step": 0},
    ),
    Stop(
        "drift", "What is lost, and where",
        "This run trains all weights on the newest task only. Rows fade to the left: that is forgetting, and the "
        "curves say how much of it lies in features that moved.",
        {"run": "demo-finetune", "step": 9},
    ),
    Stop(
        "head_lab", "The head, or the features?",
        "The same features with another head: each class is its mean, nothing is trained. What comes back was never "
        "lost from the features.",
        {"run": "demo-finetune", "step": 9, "head": "euclidean"},
    ),
    Stop(
        "grad_cam", "What it looks at",
        "The same image after every task, on one scale. A map that fades has really faded.",
        {"run": "demo-min", "step": 9},
    ),
    Stop(
        "toy_collapse", "Why a frame?",
        "Three classes pull themselves into a simplex; a fourth, learnt without old images, breaks it. The buttons on "
        "top show what holds it.",
        {"toy_classes": 3, "toy_dim": 3, "toy_images": 12, "toy_loss": "ce", "toy_head": "learned",
         "toy_model": "free", "toy_decay": -2.25, "toy_imbalance": 1, "toy_added": 1, "toy_old": False, "toy_seed": 0},
    ),
    Stop(
        "compare", "Which is better?",
        "Runs are ranked only against runs of the same protocol, and differences come with intervals. That was the "
        "tour; Train makes a run of your own.",
    ),
)  # fmt: skip


def at() -> int | None:
    """Which stop the link asks for, counted from 0; None without a tour."""
    given = state.get("tour")
    if given is None or not given.isdecimal() or not 1 <= int(given) <= len(STOPS):
        return None
    return int(given) - 1


def go(index: int) -> None:
    """Show a stop: its view first, so that the page opens on it."""
    stop = STOPS[index]
    ways.go(stop.page, tour=index + 1, **stop.view)


def end() -> None:
    """Leave the tour where it is."""
    state.put("tour", None)


def bar(page: str) -> None:
    """The card of the current stop, on any page; `page` is the file name of the one that is shown."""
    index = at()
    state.mirror("tour")
    if index is None:
        return
    stop, last = STOPS[index], len(STOPS) - 1
    with st.container(border=True, key="tour"):
        left, right = st.columns([1.6, 1], vertical_alignment="center", gap="medium")
        with left:
            html.show(
                f"<p><b>{index + 1} of {len(STOPS)}. {html.safe(stop.title)}</b> {html.safe(stop.text)}</p>", "ci-tour"
            )
        with right, st.container(horizontal=True, gap="small", horizontal_alignment="right"):
            if page != stop.page:
                moved = st.button("Go there", key="tour-there", type="primary")
                if moved:
                    go(index)
            if st.button("Back", key="tour-back", shortcut="Alt+Left", disabled=index == 0):
                go(index - 1)
            if index < last and st.button("Next", key="tour-next", type="primary", shortcut="Alt+Right"):
                go(index + 1)
            st.button("End", key="tour-end", shortcut="Esc", on_click=end)


def invitation() -> None:
    """The way in, from Start."""
    if at() is None and st.button("Take the 60-second tour", key="tour-start", icon=":material/tour:"):
        go(0)
