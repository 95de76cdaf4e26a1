"""Tables under the figures: pairs of classes by name."""

import numpy as np
import streamlit as st

from app.shell import html, state
from app.shell.store import Opened
from cillab.geometry.nc1 import cdnv

_ROWS = 10
_BY = {"auto": "By class where it fits", "class": "By class", "task": "By task"}


def by_class_or_task(run: Opened) -> str:
    """How the confusion is added up."""
    chosen = st.segmented_control(
        "Confusion", list(_BY), key="by", default="auto", required=True, format_func=_BY.__getitem__,
        label_visibility="collapsed", **state.bound(),
    )  # fmt: skip
    return chosen or "auto"


def _confused(run: Opened, step: int) -> dict[tuple[int, int], tuple[int, int]]:
    """(true class, answer) -> (images, of how many), by class id."""
    shot = run.snapshots[step]
    counts, seen = np.asarray(shot["confusion"]), shot["seen"].tolist()
    wrong = counts - np.diag(np.diag(counts))
    return {
        (seen[a], seen[b]): (int(wrong[a, b]), int(counts[a].sum())) for a, b in zip(*np.nonzero(wrong), strict=True)
    }


def closest_pairs(run: Opened, step: int) -> None:
    """Pairs whose clouds are closest for their size, and how often their test images are mistaken for each other."""
    shot, info = run.snapshots[step], run.run.info
    seen = shot["seen"].tolist()
    if len(seen) < 2:
        html.empty("No pair yet", "There is one class.")
        return
    pairs = np.triu(np.nan_to_num(cdnv(shot["nc/within"], shot["means/now"]).pairs, nan=-1), 1)
    order = np.argsort(pairs, axis=None)[::-1][: min(_ROWS, len(seen) * (len(seen) - 1) // 2)]
    confused, rows = _confused(run, step), []
    for a, b in zip(*np.unravel_index(order, pairs.shape), strict=True):
        one, other = seen[a], seen[b]
        (there, n), (back, m) = confused.get((one, other), (0, 0)), confused.get((other, one), (0, 0))
        mixed = f"{there + back} of {n + m or _images(shot, a) + _images(shot, b)}" if there + back else "none"
        rows.append(
            (info.name_of(one), _task(run, one), info.name_of(other), _task(run, other),
             html.number(float(pairs[a, b])), html.number(float(shot["cosine"][a, b])), mixed)
        )  # fmt: skip
    html.table(
        ("Class", "task", "Class", "task", "CDNV", "cosine", "mistaken for each other"), rows, "The closest pairs"
    )


def _images(shot, row: int) -> int:
    return int(np.asarray(shot["confusion"])[row].sum())


def _task(run: Opened, class_id: int) -> str:
    return str(run.run.info.task_of_class[class_id] + 1)


def mistakes(run: Opened, step: int) -> None:
    """Which class is taken for which most often, and how that was a step before."""
    now = sorted(_confused(run, step).items(), key=lambda item: (-item[1][0] / max(item[1][1], 1), -item[1][0]))
    if not now:
        html.empty("No mistake", "Every test image of the classes seen is answered rightly at this step.")
        return
    before, info = _confused(run, step - 1) if step else {}, run.run.info
    known = {int(c) for c in run.snapshots[step - 1]["seen"]} if step else set()
    rows = []
    for (true, answer), (count, of) in now[:_ROWS]:
        if {true, answer} <= known:
            was, base = before.get((true, answer), (0, of))
            earlier = html.percent(was / max(base, 1))
        else:
            earlier = "class not seen yet"
        rows.append(
            (info.name_of(true), _task(run, true), info.name_of(answer), _task(run, answer), f"{count} of {of}",
             html.percent(count / max(of, 1)), earlier)
        )  # fmt: skip
    head = ("Class", "task", "is taken for", "task", "images", "share", "a step before")
    html.table(head, rows, "The most frequent mistakes")
    html.note("Test images; the share is of all test images of the class on the left.")
