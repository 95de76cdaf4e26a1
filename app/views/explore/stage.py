"""The parts of Explore points: the map with its selection, the gallery, and the chosen image."""

import numpy as np
import streamlit as st

from app.images import gallery, saliency
from app.player.player import Selecting, player
from app.shell import html, picker, state, ways
from app.shell.store import Opened, fragment
from app.views.explore import layouts, near, selection

SORTS = {"probe": "As stored", "margin": "Least sure first", "moved": "Most moved first"}


def ordered(view: Opened, step: int, among: np.ndarray, sort: str) -> np.ndarray:
    """The same positions in another order; what cannot be measured comes last."""
    if sort == "margin":
        value = np.array([near.margins(view, int(i))[step] for i in among])
    elif sort == "moved":
        value = -_moved(view, step)[among]
    else:
        return among
    return among[np.argsort(np.where(np.isfinite(value), value, np.inf), kind="stable")]


def _moved(view: Opened, step: int) -> np.ndarray:
    """1 - cosine of each image's feature now and when its class had just been learnt; NaN before that."""
    now, out = np.asarray(view.snapshots[step]["features"], dtype=np.float64), np.full(len(view.run.probe), np.nan)
    for at, shot in enumerate(view.snapshots[: step + 1]):
        then = np.asarray(shot["features"], dtype=np.float64)
        mine = np.isin(view.run.probe.labels, shot["seen"]) & np.isnan(out)
        if then.shape == now.shape and mine.any():
            product = np.linalg.norm(now[mine], axis=1) * np.linalg.norm(then[mine], axis=1)
            with np.errstate(invalid="ignore", divide="ignore"):
                out[mine] = 1 - (now[mine] * then[mine]).sum(axis=1) / product
        elif at == step:
            break
    return out


@fragment
def stage(view: Opened, kind: str, focused: list[int]) -> None:
    """Map, gallery and chosen image. What happens in here reruns this part only."""
    step = state.step(len(view.steps))
    gallery.atlas(view)
    left, right = st.columns([1.75, 1], gap="large")
    with right:
        passed = gallery.filters(view, step)
        sort = st.selectbox("Order", list(SORTS), key="sort", format_func=SORTS.__getitem__, **state.bound()) or "probe"
    selected = selection.current(view)
    among = ordered(view, step, _both(passed, selected), sort)
    index = gallery.chosen_index(view, among)
    with left:
        _map(view, step, kind, focused, passed, selected, index)
    with right:
        _count(view, passed, selected)
        gallery.grid(view, step, among, index)
    state.mirror("run", "step", "point", "sel")
    if index is not None:
        st.divider()
        _chosen(view, step, index)


def _both(passed: np.ndarray, selected: list[int]) -> np.ndarray:
    """What the gallery shows: the selected images that the filters leave, or all of those when none is selected."""
    return passed[np.isin(passed, selected)] if selected else passed


def _map(
    view: Opened, step: int, kind: str, focused: list[int], passed: np.ndarray, selected: list[int], index: int | None
) -> None:
    found = layouts.find(view, kind, focused)
    if found is None:
        picker.step_control(view, st.container())
        return
    visible = np.zeros(len(view.run.probe), dtype=bool)
    visible[passed] = True
    asked = Selecting(
        visible=visible,
        focus=[view.position[class_id] for class_id in focused],
        selected=selected,
        picked=index,
        tell=lambda positions: selection.keep(view, positions),
    )
    name, plane = found
    player([view], name, step, key="explore", planes=[plane], selecting=asked)


def _count(view: Opened, passed: np.ndarray, selected: list[int]) -> None:
    total = len(view.run.probe)
    if not selected:
        html.show(f"<p><b>{len(passed)}</b> of {total} images. Draw a lasso on the map to choose among them.</p>")
        return
    kept = len(_both(passed, selected))
    rest = "" if kept == len(selected) else f", {kept} pass the filters"
    html.show(f"<p><b>{len(selected)}</b> of {total} images selected{rest}.</p>")
    st.button(
        "Clear the selection", key="clear-selection", icon=":material/close:", on_click=selection.keep, args=(view, [])
    )


def _chosen(view: Opened, step: int, index: int) -> None:
    left, right = st.columns([1, 1.35], gap="large")
    with left:
        near.title(view, step, index)
        near.scores(view, step, index)
    with right:
        near.neighbours(view, step, index)
    near.answers(view, step, index)
    maps = saliency.collect(view, index)
    if maps.found:
        saliency.strip(view, step, index, maps, answers=False)
    else:
        html.note(f"Grad-CAM: {maps.why_not}")
    st.page_link(ways.file("grad_cam"), label="Larger maps of this image", icon=":material/visibility:")
