"""Collapse when classes arrive in tasks: blocks of angles, stored against re-measured means, how to read it all."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from cillab.geometry.rows import centre, cosine

Data = Literal["unstated", "train", "memory", "test"]

DATA_NAMES: dict[Data, str] = {
    "unstated": "features whose origin the caller did not state",
    "train": "training images of all classes seen so far (an oracle: the learner may not keep them)",
    "memory": "what the learner may keep",
    "test": "test images",
}

READING: dict[str, str] = {
    "data": "Neural collapse is a statement about training features; show values on test images as a second curve.",
    "prototypes": "Class means stored when a task ended and means measured now differ by drift, which is not collapse.",
    "head": "A head trained task by task has one centre per task, cosine and text heads have no bias and text a"
    " modality gap: centre before comparing NC3, or report both.",
    "dimension": "D < K - 1: no simplex ETF exists here, so NC2 has no zero to reach; read the generalised NC2.",
    "samples": "With few images per class NC1 is biased down and Sigma_W has empty directions.",
    "target": "The target -1/(K_t - 1) moves with the number of classes; its jump at a task boundary is no forgetting.",
    "frozen": "On a frozen backbone no feature moves: NC1 and NC2 then change only because classes join, which shifts"
    " the global mean and adds to Sigma_W and Sigma_B.",
    "companions": "Read NC1 beside effective rank, participation ratio and the top eigenvalue share: a feature space"
    " that lost its dimensions also has small spread.",
}


_FORMER = (  # what runs recorded before a sentence was mended, and what it says now
    (re.compile(r"^(1) to 1 images per class"), r"\1 image per class"),
    (re.compile(r"^(\d+) to \1 images per class"), r"\1 images per class"),
    (re.compile(r"^On a frozen backbone old classes move .* is a bug\.$"), READING["frozen"]),
)


def reworded(note: str) -> str:
    """A note that a run carries, in today's words."""
    for former, now in _FORMER:
        note = former.sub(now, note)
    return note


@dataclass(frozen=True, eq=False)
class Block:
    """Cosines of the pairs in one block; the statistics are NaN when there is no pair."""

    cosines: Float[np.ndarray, " pair"]
    mean: float
    std: float
    deviation: float  # mean |cos - target|


@dataclass(frozen=True, eq=False)
class Blocks:
    """Angles between class means by age; the newest task is "new"."""

    target: float
    old_old: Block
    old_new: Block
    new_new: Block


@dataclass(frozen=True, eq=False)
class PrototypeGap:
    """Stored class means against the same means measured now."""

    value: float  # mean of `relative`
    relative: Float[np.ndarray, " cls"]  # ||stored - measured|| / within-class std now
    cosines: Float[np.ndarray, " cls"]  # between the two, each centred on its own average


def blocks(cosines: Float[np.ndarray, "cls cls"], task_of_class: Sequence[int], target: float | None = None) -> Blocks:
    """Split the cosines of class means into old/old, old/new and new/new pairs.

        deviation = mean over the pairs of a block of |cos - target|,    target = -1 / (K_t - 1)

    `task_of_class` follows the rows; classes of the largest task index are new. Pass `target` = -1/(K_max - 1) for
    an ETF whose size was fixed in advance. Range of cos [-1, 1]; deviation 0 is best. NaN statistics for an empty
    block (the first task has no old classes) and, without a given target, a NaN target for fewer than 2 classes.
    Small samples: as for `nc2.maximal_angle`; a block of one pair has no spread. Source: defined here.

    Raises:
        ValueError: lengths that differ.
    """
    k = len(cosines)
    if cosines.shape != (k, k) or len(task_of_class) != k:
        raise ValueError(f"cosines {list(cosines.shape)} and {len(task_of_class)} tasks of classes do not fit.")
    if target is None:
        target = -1 / (k - 1) if k > 1 else math.nan
    tasks = np.asarray(task_of_class, dtype=np.int64)
    new = (tasks == tasks.max(initial=0)).astype(np.int64)
    a, b = np.triu_indices(k, 1)
    values, age = np.asarray(cosines, dtype=np.float64)[a, b], new[a] + new[b]
    old_old, old_new, new_new = (_block(values[age == n], target) for n in range(3))
    return Blocks(target, old_old, old_new, new_new)


def prototype_gap(
    stored: Float[np.ndarray, "cls feature"],
    measured: Float[np.ndarray, "cls feature"],
    variances: Float[np.ndarray, " cls"],
) -> PrototypeGap:
    """How far the class means a learner stored have fallen behind the features of now.

        relative_c = || stored_c - measured_c || / sqrt(v_c),        v_c = within-class variance measured now

    Range [0, inf), 0 = the memory is up to date; 1 = as far off as a typical image of the class. Infinite for a
    class without spread, NaN if it is also without gap; the mean leaves those out. Small samples: noise of the
    measured mean
    alone gives about 1/sqrt(n_c), if it is measured on other images than the stored one. Source: defined here.
    """
    old, now = np.asarray(stored, dtype=np.float64), np.asarray(measured, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = np.linalg.norm(old - now, axis=1) / np.sqrt(np.asarray(variances, dtype=np.float64))
    usable = relative[np.isfinite(relative)]
    return PrototypeGap(float(usable.mean()) if len(usable) else math.nan, relative, cosine(centre(old), centre(now)))


def _block(values: np.ndarray, target: float) -> Block:
    if not len(values):
        return Block(values, math.nan, math.nan, math.nan)
    return Block(values, float(values.mean()), float(values.std()), float(np.abs(values - target).mean()))
