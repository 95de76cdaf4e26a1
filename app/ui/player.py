"""The player component: packs runs into small typed arrays and mounts `player.js`. See there for what it does."""

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from app.ui import images, state
from app.ui.plane import Flat, flat
from app.ui.store import Opened
from app.ui.theme import TASK_COLOURS

_HERE = Path(__file__).parent
_NONE = 65535  # "no prediction" in the component


def _pack(array: np.ndarray, dtype: type) -> str:
    return base64.b64encode(np.ascontiguousarray(array.astype(dtype)).tobytes()).decode()


@st.cache_resource(show_spinner=False)
def _component() -> Callable[..., Any] | None:
    """Registered once per server; None where this Streamlit has no components v2."""
    module = getattr(st.components, "v2", None)
    if module is None:
        return None
    return module.component(
        "cillab_player",
        html='<div class="cillab-player"></div>',
        css=(_HERE / "player.css").read_text(),
        js=(_HERE / "player.js").read_text(),
    )


def _margins(view: Opened) -> tuple[np.ndarray, float]:
    """Logit of the true class minus the best other, on every probe point and step; NaN where there is none."""
    labels, out = view.run.probe.labels, []
    for snapshot in view.snapshots:
        logits, seen = np.asarray(snapshot["logits"], dtype=np.float32), snapshot["seen"].tolist()
        column = np.array([seen.index(c) if c in set(seen) else -1 for c in labels.tolist()])
        rows = np.arange(len(labels))
        true = logits[rows, column]
        rest = logits.copy()
        rest[rows, column] = -np.inf
        best = rest.max(axis=1) if logits.shape[1] > 1 else np.full(len(labels), np.nan)
        out.append(np.where(column >= 0, true - best, np.nan))
    margins = np.stack(out)
    return margins, float(np.nanmax(np.abs(margins), initial=0)) / 32000 or 1.0


def _run(view: Opened, plane: Flat) -> dict[str, Any]:
    probe = view.run.probe
    position = np.vectorize(lambda c: view.position.get(int(c), _NONE), otypes=[np.uint16])
    margins, scale = _margins(view)
    task_of = view.run.info.task_of_class
    sprites = None
    if images.has_sprites(view) and probe.sprites is not None:
        sprites = {"url": images.file_url(probe.sprites), "tile": probe.tile, "columns": probe.columns}
    accuracy = [None if np.isnan(v) else float(v) for v in view.scalar("accuracy/seen")]
    return {
        "title": view.title,
        "alt": f"Probe images of {view.title} in a fixed plane of feature space, {len(view.steps)} steps",
        "probe": hashlib.blake2b("".join(map(str, probe.ids)).encode(), digest_size=8).hexdigest(),
        "steps": [
            {"label": view.label(i), "task": s.task, "note": f"{len(s['seen'])} classes seen"}
            for i, s in enumerate(view.snapshots)
        ],
        "ids": [str(i) for i in probe.ids],
        "names": view.names,
        "cls": _pack(position(probe.labels), np.uint16),
        "task": _pack(probe.tasks, np.uint16),
        "frame": _frame(plane.points),
        "xy": _pack(plane.points, np.int16),
        "predicted": _pack(np.stack([position(s["predictions"]) for s in view.snapshots]), np.uint16),
        "margin": _pack(np.nan_to_num(margins / scale), np.int16),
        "marginScale": scale,
        "means": None if plane.means is None else _pack(plane.means, np.int16),
        "meanTask": _pack(np.array([task_of[c] for c in view.run.order]), np.uint16),
        "head": None if plane.head is None else _pack(plane.head, np.int16),
        "etf": None if plane.etf is None else _pack(plane.etf, np.int16),
        "accuracy": None if all(a is None for a in accuracy) else accuracy,
        "sprites": sprites,
    }


def _frame(points: np.ndarray) -> dict[str, float]:
    """The box that holds all but the farthest points of every step: one centre and one size for the whole run."""
    low, high = np.quantile(points.reshape(-1, 2), [0.003, 0.997], axis=0)
    (x, y), (width, height) = (low + high) / 2, np.maximum(high - low, 1)
    return {"x": float(x), "y": float(y), "width": float(width), "height": float(height)}


def _tasks(view: Opened) -> list[dict[str, str]]:
    out = []
    for index, classes in enumerate(view.run.info.tasks):
        names = [view.run.info.name_of(c) for c in classes]
        shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        out.append({"label": str(index + 1), "title": f"Task {index + 1}: {shown}"})
    return out


@st.cache_resource(max_entries=8, show_spinner=False)
def _data(token: str, _views: Sequence[Opened], _planes: Sequence[Flat]) -> dict[str, Any]:
    longest = max(_views, key=lambda view: view.tasks_total)
    return {
        "token": token,
        "runs": [_run(view, plane) for view, plane in zip(_views, _planes, strict=True)],
        "tasks": _tasks(longest),
        "colours": {mode: list(colours) for mode, colours in TASK_COLOURS.items()},
    }


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
            "visible": None if self.visible.all() else _pack(self.visible, np.uint8),
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
    planes: Sequence[Flat] | None = None,
    selecting: Selecting | None = None,
) -> bool:
    """Draw the player for one or two runs. False when features cannot share one plane, so that the page can say so.

    The data do not change with the step: the step is sent along only as the place to start from, so that playing and
    scrubbing cost no traffic. `planes` come with a `kind` that names all they depend on.
    """
    found = planes or [flat(view, kind) for view in views]
    ready = [plane for plane in found if plane is not None]
    if len(ready) < len(views):
        return False
    token = "|".join(f"{view.run.path}:{','.join(view.steps)}" for view in views) + f"|{kind}"
    token = hashlib.blake2b(token.encode(), digest_size=8).hexdigest()
    data = _data(token, list(views), ready)
    mount = _component()
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
        more["show"] = {"means": ready[0].etf is not None}  # among points to select, means are in the way
    mount(
        key=key,
        data={**data, **more, "step": start},
        on_step_change=follow,
        on_picked_change=pick,
        **({"on_selected_change": select} if selecting is not None else {}),
    )
    return True


def _fallback(views: Sequence[Opened], planes: Sequence[Flat], step: int) -> None:
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
