"""What other heads answer on the same features: at every step, for every probe image, worked out once and shipped.

A nearest mean, a ridge and a simplex are functions of moments of training images that a run records, so neither the
learner nor torch is needed, and a page without a server can switch between them too.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from cillab.geometry.heads import Head, Kind, Statistics
from cillab.runs import Run, Snapshot

HEADS: dict[str, tuple[Kind, str]] = {
    "means": ("cosine", "Means"),
    "ridge": ("ridge", "Ridge"),
    "etf": ("etf", "ETF"),
}
GAMMA = 1e-2  # of the ridge, relative to the average variance of a feature
_ROOM = 3e9  # products that all heads of a run may take, about a second; above, the Head lab makes one at a time


def head_at(shot: Snapshot, name: str) -> Head | None:
    """One of `HEADS` at a step, or None where it cannot have one."""
    known = Statistics(
        np.asarray(shot["means/now"], dtype=np.float64), np.asarray(shot["nc/within"], dtype=np.float64),
        shot.get("nc/axes_within"), shot.get("nc/spectrum_within"),
    )  # fmt: skip
    if np.shape(shot["features"])[1] != known.means.shape[1] or not np.isfinite(known.means).all():
        return None
    try:
        return known.head(HEADS[name][0], GAMMA)
    except (ValueError, np.linalg.LinAlgError):  # one class, or no room for a simplex
        return None


def head_answers(
    run: Run, snapshots: Sequence[Snapshot], missing: int = -1
) -> dict[str, Int64[np.ndarray, "step image"]]:
    """Class ids that each of `HEADS` answers, by name; `missing` where a step cannot have one.

    Heads are made from the training images as they are measured at the step, of all classes seen: an oracle for a
    learner that stores none. Left out are heads that no step can have, and all of them for runs that are too large.
    """
    sizes = [np.shape(shot["means/now"]) for shot in snapshots]
    if sum(k * d * min(k, d) for k, d in sizes) > _ROOM:
        return {}
    found = {name: np.full((len(snapshots), len(run.probe)), missing, dtype=np.int64) for name in HEADS}
    for at, shot in enumerate(snapshots):
        features, seen = np.asarray(shot["features"], dtype=np.float64), np.asarray(shot["seen"], dtype=np.int64)
        for name in HEADS:
            if (head := head_at(shot, name)) is not None:
                found[name][at] = seen[head.scores(features).argmax(axis=1)]
    return {name: answers for name, answers in found.items() if (answers != missing).any()}
