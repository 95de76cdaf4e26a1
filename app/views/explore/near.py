"""One probe image among the others: its neighbours before and now, its answers and its scores over the tasks."""

import numpy as np
import streamlit as st

from app.images import gallery, images, saliency
from app.shell import html
from app.shell.store import Opened
from app.shell.theme import task_colour

_NEAR = 8  # neighbours shown


def learnt_at(view: Opened, index: int) -> int | None:
    """The first snapshot at which the class of an image was seen, or None."""
    label = int(view.run.probe.labels[index])
    return next((at for at, shot in enumerate(view.snapshots) if label in shot["seen"]), None)


def nearest(view: Opened, step: int, index: int, count: int = _NEAR) -> tuple[list[int], list[float]]:
    """Positions in the probe of the images nearest in feature space at a step, and their distances.

    Euclidean distance in units of its median over all other images, so that steps can be compared.
    """
    features = np.asarray(view.snapshots[step]["features"], dtype=np.float32)
    distance = np.sqrt(((features - features[index]) ** 2).sum(axis=1))
    distance[index] = np.inf
    order = np.argsort(np.where(np.isnan(distance), np.inf, distance), kind="stable")[:count]
    order = order[np.isfinite(distance[order])]
    unit = max(float(np.median(distance[np.isfinite(distance)])), 1e-12) if len(order) else 1.0
    return order.tolist(), (distance[order] / unit).tolist()


def margins(view: Opened, index: int) -> np.ndarray:
    """Score of the true class minus the best other, at every step; NaN where the class or a rival is not seen."""
    label, out = int(view.run.probe.labels[index]), np.full(len(view.steps), np.nan)
    for at, shot in enumerate(view.snapshots):
        seen = shot["seen"].tolist()
        if label in seen and len(seen) > 1:
            scores = np.asarray(shot["logits"][index], dtype=np.float64)
            place = seen.index(label)
            out[at] = scores[place] - np.delete(scores, place).max()
    return out


def title(view: Opened, step: int, index: int) -> None:
    """The image, large, with its class and the answer now."""
    probe, info, shot = view.run.probe, view.run.info, view.snapshots[step]
    label, answer = int(probe.labels[index]), int(shot["predictions"][index])
    left, right = st.columns([1, 1.7], gap="small", vertical_alignment="center")
    with left:
        if images.has_sprites(view):
            url = images.data_url(images.plain(np.ascontiguousarray(probe.sprite(index)), 224))
            html.show(f'<figure><img src="{url}" alt="{html.safe(info.name_of(label))}"></figure>', "ci-cams")
        else:
            html.empty("No picture", "This run was written without thumbnails.")
    with right:
        st.header(html.markdown(info.name_of(label)), anchor=False)
        if label not in shot["seen"]:
            verdict = "not seen yet"
        else:
            verdict = "answered rightly" if answer == label else f"answered “{info.name_of(answer)}”"
        html.show(
            f"<p>A class of task {int(probe.tasks[index]) + 1}. After {html.safe(view.label(step).lower())}: "
            f"{html.safe(verdict)}.</p><p>Image {html.safe(probe.ids[index])}.</p>",
            "ci-sentence",
        )


def neighbours(view: Opened, step: int, index: int) -> None:
    """Nearest images in feature space when the class had just been learnt, and now; each can be chosen in turn."""
    then = learnt_at(view, index)
    st.subheader("Nearest in feature space", anchor=False)
    now, distance = nearest(view, step, index)
    if not now:
        html.empty("No neighbours", "The features of this image are not finite at this step.")
        return
    own = view.run.probe.labels == view.run.probe.labels[index]
    earlier = None
    if then is not None and then < step:
        earlier, far = nearest(view, then, index)
        html.note(f"Then, after {view.label(then).lower()}, when its class had just been learnt")
        _row(view, then, earlier, far, "near-then")
        html.note(f"Now, after {view.label(step).lower()}")
    _row(view, step, now, distance, "near-now")
    text = f"{int(own[now].sum())} of {len(now)} are of its own class"
    if earlier is not None:
        stayed = len(set(earlier) & set(now))
        text += f", {int(own[earlier].sum())} were then; {stayed} of {len(now)} are the same images as then"
    html.note(f"{text}.", "Euclidean distance between features of probe images, also those of classes still to come.")


def _row(view: Opened, step: int, order: list[int], distance: list[float], key: str) -> None:
    words = [f"{html.number(value, 2)} of the typical distance away" for value in distance]
    if not gallery.tiles(view, step, order, None, key, words):
        html.note(", ".join(view.run.info.name_of(int(view.run.probe.labels[at])) for at in order))


def answers(view: Opened, step: int, index: int) -> None:
    """The answer and the margin at every task."""
    st.subheader("Answers over the tasks", anchor=False)
    probe, info, values = view.run.probe, view.run.info, margins(view, index)
    label, most = int(probe.labels[index]), float(np.nanmax(np.abs(values), initial=0)) or 1.0
    shown = saliency.steps_shown(len(view.steps), step)
    cells, says = [], []
    for at in shown:
        value, answer = values[at], int(view.snapshots[at]["predictions"][index])
        seen = label in view.snapshots[at]["seen"]
        text = "not seen" if not seen else "✓" if answer == label else f"✗ {info.name_of(answer)}"
        says.append(f"task {view.snapshots[at].task + 1}: {text}")
        bar = ""
        if np.isfinite(value):
            place = f"{'bottom' if value > 0 else 'top'}:50%;height:{48 * abs(value) / most:.1f}%"
            colour = task_colour(int(probe.tasks[index])) if value > 0 else "currentColor"
            bar = f'<i style="{place};background:{colour}"></i>'
        head = f"task {view.snapshots[at].task + 1}"
        head = f"<b>{head}</b>" if at == step else head
        number = f"<small>{html.number(float(value), 2)}</small>" if np.isfinite(value) else ""
        cells.append(f"<div><small>{head}</small><span>{bar}</span>{number}<em>{html.safe(text)}</em></div>")
    style = f"grid-template-columns:repeat({len(shown)},minmax(var(--cell),1fr))"
    html.show(
        f'<div class="ci-margins" role="img" style="{style}" aria-label="{html.safe("; ".join(says))}">'
        f"{''.join(cells)}</div>"
    )
    html.note("Bars: score of the true class minus the best other one, on one scale; up is right, down is wrong.")


def scores(view: Opened, step: int, index: int, count: int = 5) -> None:
    """The classes with the highest scores now, and their scores when the image's class had just been learnt."""
    st.subheader("Highest scores now", anchor=False)
    shot, info, then = view.snapshots[step], view.run.info, learnt_at(view, index)
    before = view.snapshots[then] if then is not None and then < step else None
    known = {int(c): at for at, c in enumerate(before["seen"])} if before is not None else {}
    seen, label = shot["seen"].tolist(), int(view.run.probe.labels[index])
    row, rows = np.asarray(shot["logits"][index], dtype=np.float64), []
    for at in np.argsort(-row)[:count]:
        class_id = int(seen[at])
        was = "not seen yet" if class_id not in known else html.number(float(before["logits"][index][known[class_id]]))  # pyright: ignore
        name = info.name_of(class_id) + (" (its own)" if class_id == label else "")
        cells = (name, info.task_of_class[class_id] + 1, html.number(float(row[at])))
        rows.append((*cells, was) if before is not None else cells)
    html.table(("Class", "task", "now", *(["when learnt"] if before is not None else [])), rows, "Highest scores")
