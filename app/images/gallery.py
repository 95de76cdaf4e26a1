"""Choosing one probe image: filters, and a grid of pictures to click."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import streamlit as st

from app.images import images
from app.shell import html, state
from app.shell.component import component
from app.shell.kept import keep, weight
from app.shell.store import Opened
from app.shell.theme import task_colour

_HOME = Path(__file__).parent
_MANY, _TALL_PX = 60, 438  # buttons that fill the grid at every width, and how high it is then (gallery.css)
_LIMIT = 240  # buttons in the grid
_OUTCOMES_BYTES = 4_000_000  # kept for all who look: three bits an image and step
SHOW = {"all": "All", "errors": "Errors", "forgotten": "Forgotten"}


@keep(_OUTCOMES_BYTES, weight, lambda view, step: (view.token, step))
def outcomes(view: Opened, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For every probe image at `step`: class seen, answer right, forgotten (right at an earlier step, wrong now)."""
    labels = view.run.probe.labels
    right = np.stack([np.asarray(s["predictions"]) == labels for s in view.snapshots[: step + 1]])
    seen = np.isin(labels, np.asarray(view.snapshots[step]["seen"]))
    return seen, right[-1], seen & right.any(axis=0) & ~right[-1]


def filtered(view: Opened, step: int, task: int | None, class_id: int | None, show: str) -> np.ndarray:
    """Indices of the probe images that pass the filters."""
    seen, right, forgotten = outcomes(view, step)
    keep = np.ones(len(seen), dtype=bool)
    if task is not None:
        keep &= view.run.probe.tasks == task
    if class_id is not None:
        keep &= view.run.probe.labels == class_id
    if show == "errors":
        keep &= seen & ~right
    elif show == "forgotten":
        keep &= forgotten
    return np.flatnonzero(keep)


def filters(view: Opened, step: int) -> np.ndarray:
    """The controls; returns the indices that remain."""
    info = view.run.info
    left, right = st.columns([1, 1.6])
    tasks = ["all", *[str(t + 1) for t in range(view.tasks_total)]]
    with left:
        task = st.selectbox(
            "Task", tasks, key="task", format_func=lambda t: "All tasks" if t == "all" else f"Task {t}", **state.bound()
        )
    chosen = None if task in (None, "all") else int(task) - 1
    classes = info.tasks[chosen] if chosen is not None else info.class_order
    with right:
        options = ["all", *map(str, classes)]
        if st.session_state.get("class") not in (None, *options):  # of another task, or of another run
            st.session_state["class"] = "all"
        name = st.selectbox(
            "Class", options, key="class", format_func=lambda c: "All classes" if c == "all" else info.name_of(int(c)),
            **state.bound(),
        )  # fmt: skip
    show = st.segmented_control(
        "Show",
        list(SHOW),
        key="show",
        default="all",
        required=True,
        format_func=SHOW.__getitem__,
        label_visibility="collapsed",
        **state.bound(),
    )
    return filtered(view, step, chosen, None if name in (None, "all") else int(name), show or "all")


def chosen_index(view: Opened, among: np.ndarray, first: int | None = None) -> int | None:
    """Position of the chosen image: what the URL says, else `first` or the first that the filters leave."""
    ids = [str(i) for i in view.run.probe.ids]
    point = state.get("point")
    if point in ids:
        return ids.index(point)
    if first is not None and first in among:
        return first
    return int(among[0]) if len(among) else None


def grid(view: Opened, step: int, among: np.ndarray, index: int | None) -> None:
    """The pictures that the filters leave. ✗ marks errors at this step, · classes still to come."""
    if not len(among):
        html.empty("No image passes these filters", "Choose another task, class or step.")
        return
    if not tiles(view, step, among[:_LIMIT].tolist(), index, "gallery"):
        ids = [str(i) for i in view.run.probe.ids]
        options = [ids[i] for i in among[:_LIMIT]]
        chosen = st.selectbox(
            "Image",
            options,
            key="point-select",
            index=options.index(ids[index]) if index is not None and ids[index] in options else 0,
        )
        state.put("point", chosen)
        return
    count = f"{_LIMIT} of {len(among)}" if len(among) > _LIMIT else str(len(among))
    html.note(f"{count} images. ✗ answered wrongly now, · class not seen yet; the bar has the colour of the task.")


def atlas(view: Opened) -> None:
    """The sprites of a run, for every grid of the page.

    A message of its own: no step and no choice changes it, so Streamlit sends it once and then only its name.
    """
    mount, sprites = component("atlas", '<div class="atlas"></div>', _HOME), view.run.probe.sprites
    if mount is not None and sprites is not None and images.has_sprites(view):
        url = images.file_url(sprites)
        with st.container(key="atlas-place"):
            mount(key="atlas", data={"url": url, "token": _digest(url)})


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def tiles(
    view: Opened, step: int, indices: Sequence[int], picked: int | None, key: str, extra: Sequence[str] = ()
) -> bool:
    """Pictures to click, each at its position in the probe, below the page's `atlas`; `extra` is said of each.

    False where there is no way to.
    """
    probe, ids = view.run.probe, [str(i) for i in view.run.probe.ids]
    seen, right, _ = outcomes(view, step)
    mount = component("gallery", '<div class="gallery" role="group" aria-label="Probe images"></div>', _HOME)
    if mount is None or not images.has_sprites(view) or probe.sprites is None:
        return False
    items = [
        {
            "id": ids[i],
            "at": int(i),
            "title": f"{view.run.info.name_of(int(probe.labels[i]))}, task {int(probe.tasks[i]) + 1}"
            + ("" if right[i] else ", answered wrongly" if seen[i] else ", not seen yet")
            + (f", {extra[place]}" if extra else ""),
            "mark": "" if right[i] else "✗" if seen[i] else "·",
            "colour": task_colour(int(probe.tasks[i])),
        }
        for place, i in enumerate(indices)
    ]
    token = _digest(repr((view.key, items)))

    def pick() -> None:
        state.put("point", (st.session_state.get(key) or {}).get("picked"))

    data = {
        "atlas": _digest(images.file_url(probe.sprites)),
        "columns": probe.columns,
        "rows": -(-len(probe) // probe.columns),
        "items": items,
        "token": token,
        "picked": None if picked is None else ids[picked],
    }
    # So many fill the place that the style sheet gives at every width: it is there before they are, and nothing jumps.
    mount(key=key, data=data, on_picked_change=pick, height=_TALL_PX if len(items) >= _MANY else "content")
    return True
