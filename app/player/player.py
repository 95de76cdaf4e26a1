"""The player as a component of Streamlit: what to draw is for `cillab.player` to say, here is whom to tell."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import streamlit as st

from app.player import touching
from app.player.plane import laid
from app.shell import state
from app.shell.component import component
from app.shell.store import Opened
from app.shell.theme import TASK_COLOURS
from cillab.plane import Plane
from cillab.player import Named, encode, pack


@st.cache_resource(max_entries=8, show_spinner=False)
def _data(token: str, _views: Sequence[Opened], _planes: Sequence[Plane], _beside: Any) -> dict[str, Any]:
    named = [Named(v.run, v.snapshots, v.title, [v.label(i) for i in range(len(v.steps))]) for v in _views]
    facts, blob = pack(named, _planes, token, TASK_COLOURS, _beside)
    # A table of one cell: at every step Streamlit parses, sorts and hashes JSON, and only hashes tables.
    return {**facts, "blob": pa.table({"blob": pa.array([blob], pa.binary())})}


@dataclass(frozen=True)
class Selecting:
    """Selection on the player: what the page has decided, and whom to tell of a gesture. Positions in the probe."""

    visible: np.ndarray  # bool [probe], False = filtered out
    focus: Sequence[int]  # positions of classes in the order of the stream; empty = colours by task
    selected: Sequence[int]
    picked: int | None
    tell: Callable[[Sequence[int]], None]

    def overlay(self, revision: int) -> dict[str, Any]:
        """As the component takes it; the token changes whenever it has to look."""
        body = {
            "visible": None if self.visible.all() else encode(self.visible, np.uint8),
            "focus": list(map(int, self.focus)),
            "selected": list(map(int, self.selected)),
            "picked": self.picked,
            "revision": revision,
        }
        return body | {"token": hashlib.blake2b(repr(body).encode(), digest_size=8).hexdigest()}


def player(
    views: Sequence[Opened],
    kind: str,
    step: int,
    *,
    key: str = "player",
    planes: Sequence[Plane] | None = None,
    selecting: Selecting | None = None,
    panels: Mapping[str, Any] | None = None,
    asked: Callable[[str | None], None] | None = None,
) -> bool:
    """Draw the player for one or two runs. False when features cannot share one plane, so that the page can say so.

    The data do not change with the step: the step is sent along only as the place to start from, so that playing and
    scrubbing cost no traffic. `planes` come with a `kind` that names all they depend on. With `panels` it is the
    cockpit, measures beside the map: they hold what packs those (`pack`), `sentences`, a list per run, a `warning`, and
    the `stop` of a lecture, which a player that is there obeys.
    `asked` is told the figure whose page a visitor wants.
    """
    others = [*views[1:], None] if len(views) == 1 else [views[1], views[0]]
    found = planes or [laid(view, kind, beside=other) for view, other in zip(views, others, strict=True)]
    ready = [plane for plane in found if plane is not None]
    if len(ready) < len(views):
        return False
    token = "|".join([*(view.token for view in views), kind])
    token = f"{token}|beside" if panels is not None else token
    data = _data(token, list(views), ready, None if panels is None else panels["pack"])
    mount = component("player", '<div class="cillab-player"></div>')
    if mount is None:
        _fallback(views, ready, step)
        return True
    start = st.session_state.setdefault(f"start-{token}", step) if key in st.session_state else step
    st.session_state[f"start-{token}"] = start

    def follow() -> None:
        found = st.session_state.get(key) or {}
        if found.get("step") is not None:
            state.put("step", int(found["step"]))

    def pick() -> None:
        state.put("point", (st.session_state.get(key) or {}).get("picked"))

    def select() -> None:
        if selecting is not None and (told := (st.session_state.get(key) or {}).get("selected")):
            selecting.tell([int(at) for at in told["at"]])

    more = {}
    if selecting is not None:
        told = (st.session_state.get(key) or {}).get("selected") or {}
        more = {"select": True, "overlay": selecting.overlay(int(told.get("revision", 0)))}
        more["show"] = {"means": ready[0].vertices is not None}  # among points to select, means are in the way
    if panels is not None:
        told = [{**run, "sentences": said} for run, said in zip(data["runs"], panels["sentences"], strict=True)]
        more |= {
            "runs": told,
            "warning": panels["warning"],
            "stop": panels["stop"] and {**panels["stop"], "step": step},
            "head": state.get("by") or "learned",
            "live": touching.possible(),
            "asks": touching.possible() and bool(views[0].run.checkpoints),
            "frame": [int(at) for at in (state.get("frame") or "").split(".") if at.isdecimal()],
        }

    def hand() -> None:
        touching.listen(views[0], (st.session_state.get(key) or {}).get("touch"))

    def turn() -> None:
        state.put("frame", (st.session_state.get(key) or {}).get("frame"))

    def touch() -> None:
        head = (st.session_state.get(key) or {}).get("head")
        state.put("by", None if head in (None, "learned") else head)

    def ask() -> None:
        if asked is not None and (told := (st.session_state.get(key) or {}).get("page")):
            asked(told["figure"])

    mount(
        key=key,
        data={**data, **more, "step": start},
        on_step_change=follow,
        on_picked_change=pick,
        **({"on_page_change": ask} if asked is not None else {}),
        **({"on_head_change": touch, "on_frame_change": turn, "on_touch_change": hand} if panels is not None else {}),
        **({"on_selected_change": select} if selecting is not None else {}),
    )
    if panels is not None:
        touching.tell(views[0], min(step, len(views[0].steps) - 1), token, ready[0])
    return True


def _fallback(views: Sequence[Opened], planes: Sequence[Plane], step: int) -> None:
    """A slider and a static picture, for a Streamlit without components v2."""
    import plotly.graph_objects as go  # noqa: PLC0415 (only here: pages that do not need it must not load it)

    count = max(len(view.steps) for view in views)
    if count > 1:
        options = list(range(count))
        chosen = st.select_slider("Step", options, value=step, format_func=lambda i: str(i + 1), key="fallback-step")
        state.put("step", chosen)
    else:
        chosen = 0
    for column, view, plane in zip(st.columns(len(views)), views, planes, strict=True):
        at = min(chosen, len(view.steps) - 1)
        seen = view.run.probe.tasks <= view.snapshots[at].task
        colours = [
            TASK_COLOURS["light"][t % 10] if s else "#999999" for t, s in zip(view.run.probe.tasks, seen, strict=True)
        ]
        x, y = plane.points[at].T
        figure = go.Figure(go.Scatter(x=x, y=y, mode="markers", marker={"color": colours, "size": 5}))
        figure.update_layout(title=view.title, xaxis={"visible": False}, yaxis={"visible": False, "scaleanchor": "x"})
        column.plotly_chart(figure, key=f"fallback-{view.key}")
