"""Every accuracy summary of class-incremental learning, from one matrix. NumPy and floats; PyTorch is not imported.

R[i, j] = accuracy on the test set of task j after learning task i (both from 0), a fraction in [0, 1]; n_j = size of
that test set. R may be an array or nested lists; entries j > i are needed only where a function says so and may be
NaN, None or missing. Nothing is rounded. What needs more tasks than there are is NaN.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

from cillab.geometry.predictions import (
    Bias,
    Calibration,
    TaskDecomposition,
    accuracy_matrix_row,
    calibration_by_age,
    calibration_error,
    prediction_bias,
    task_decomposition,
)
from cillab.geometry.seeds import Interval, PairedDifference, paired_difference, t_interval

__all__ = [
    "Bias", "Calibration", "Interval", "Mtil", "PairedDifference", "Summary", "TaskDecomposition",
    "a_auc", "a_avg", "a_last", "a_seen", "a_seen_task_mean", "accuracy_matrix_row", "bwt_all", "bwt_gem",
    "calibration_by_age", "calibration_error", "forgetting_chaudhry", "forgetting_pilot", "fwt_gem", "harmonic",
    "intransigence", "learning_accuracy", "mtil", "paired_difference", "performance_drop", "prediction_bias",
    "summary", "t_interval", "task_decomposition",
]  # fmt: skip

Numbers: TypeAlias = Sequence[float | int] | np.ndarray
Matrix: TypeAlias = Sequence[Sequence[float | int | None] | np.ndarray] | np.ndarray


@dataclass(frozen=True)
class Mtil:
    """The three numbers of multi-domain task-incremental learning and their detail per task."""

    transfer: float
    average: float
    last: float
    transfer_per_task: tuple[float, ...]  # mean_{i<j} R[i, j]; NaN for task 0
    average_per_task: tuple[float, ...]  # mean_i R[i, j]


@dataclass(frozen=True)
class Summary:
    """Everything the lower triangle of R says."""

    a_seen: tuple[float, ...]
    a_seen_task_mean: tuple[float, ...]
    a_last: float
    a_avg: float
    forgetting_chaudhry: float
    forgetting_pilot: float
    bwt_gem: float
    bwt_all: float
    learning_accuracy: float
    performance_drop: float


def a_seen(matrix: Matrix, sizes: Numbers) -> Float[np.ndarray, " task"]:
    """Accuracy over all test images of the classes seen so far, after each task.

        A_i = sum_{j<=i} n_j R[i, j] / sum_{j<=i} n_j

    Source: PILOT's and PyCIL's "CNN top1 total"; weighs images. Range [0, 1], higher is better. Uncertainty of a
    fraction p on n images: +- 1.96 sqrt(p (1 - p) / n).

    Raises:
        ValueError: R not square, an entry outside [0, 1] or missing below the diagonal, sizes that do not fit.
    """
    r = _matrix(matrix)
    n = np.asarray(sizes, dtype=np.float64)
    if n.shape != (len(r),) or not np.all(n > 0):
        raise ValueError(f"sizes must be {len(r)} positive numbers, one per task, got {n.tolist()}.")
    return _mean_below(r, n)


def a_seen_task_mean(matrix: Matrix) -> Float[np.ndarray, " task"]:
    """As `a_seen`, but each task counts the same.

        (1/(i+1)) sum_{j<=i} R[i, j]

    Source: GEM, Lopez-Paz & Ranzato, NeurIPS 2017, arXiv:1706.08840; Mammoth. Differs from `a_seen` when tasks differ
    in size (B50, VTAB). Range [0, 1], higher is better.
    """
    r = _matrix(matrix)
    return _mean_below(r, np.ones(len(r)))


def a_last(matrix: Matrix, sizes: Numbers) -> float:
    """Accuracy over all classes after the last task.

        A_{T-1} of `a_seen`

    Also called Last-Acc or FAA. Range [0, 1], higher is better. Source: customary.
    """
    return float(a_seen(matrix, sizes)[-1])


def a_avg(matrix: Matrix, sizes: Numbers) -> float:
    """Average incremental accuracy: mean over all tasks, the first included, of `a_seen`.

        (1/T) sum_i A_i

    Source: iCaRL, Rebuffi et al., CVPR 2017, arXiv:1611.07725 (which leaves out the first task; today's use does
    not). Range [0, 1], higher is better; depends on the number of tasks, compare only within one split.
    """
    return float(a_seen(matrix, sizes).mean())


def forgetting_chaudhry(matrix: Matrix) -> float:
    """Average loss against the best accuracy before the last task.

        mean_{j<T-1} ( max_{j<=l<=T-2} R[l, j] - R[T-1, j] )

    Source: Chaudhry et al., ECCV 2018, arXiv:1801.10112. The maximum leaves out the last row, so a task that
    improves at the end counts negative. Range [-1, 1], lower is better. NaN for one task.
    """
    r = _matrix(matrix)
    return _mean([r[j:-1, j].max() - r[-1, j] for j in range(len(r) - 1)])


def forgetting_pilot(matrix: Matrix) -> float:
    """As `forgetting_chaudhry`, with the last row in the maximum: never negative.

        mean_{j<T-1} ( max_{j<=l<=T-1} R[l, j] - R[T-1, j] )

    Source: the code of PILOT and Mammoth. Range [0, 1], lower is better. NaN for one task.
    """
    r = _matrix(matrix)
    return _mean([r[j:, j].max() - r[-1, j] for j in range(len(r) - 1)])


def bwt_gem(matrix: Matrix) -> float:
    """Backward transfer: what later tasks did to earlier ones, seen at the end.

        mean_{j<T-1} ( R[T-1, j] - R[j, j] )

    Source: GEM, Lopez-Paz & Ranzato 2017. Range [-1, 1], higher is better, negative = forgetting. NaN for one task.
    """
    r = _matrix(matrix)
    return _mean([r[-1, j] - r[j, j] for j in range(len(r) - 1)])


def bwt_all(matrix: Matrix) -> float:
    """Backward transfer over the whole run.

        mean over all i > j of ( R[i, j] - R[j, j] )

    Source: Diaz-Rodriguez et al. 2018, arXiv:1810.13166; Continuum. Range [-1, 1], higher is better. NaN for one task.
    """
    r = _matrix(matrix)
    return _mean([r[i, j] - r[j, j] for j in range(len(r)) for i in range(j + 1, len(r))])


def fwt_gem(matrix: Matrix, baseline: Numbers) -> float:
    """Forward transfer: accuracy on a task just before it is learnt, above an untrained or zero-shot model.

        mean_{j>0} ( R[j-1, j] - b_j ),    b_j = baseline on task j

    Source: GEM, Lopez-Paz & Ranzato 2017. Needs R[j-1, j]; means something only if the head can name classes it has
    not been taught (CLIP). Zeros for b give Continuum's variant. Range [-1, 1], higher is better. NaN for one task.

    Raises:
        ValueError: a missing R[j-1, j], or a baseline that does not fit.
    """
    r, b = _matrix(matrix), np.asarray(baseline, dtype=np.float64)
    if b.shape != (len(r),):
        raise ValueError(f"baseline must be one number per task ({len(r)}), got {list(b.shape)}.")
    gains = [r[j - 1, j] - b[j] for j in range(1, len(r))]
    if np.isnan(gains).any():
        j = 1 + int(np.isnan(gains).argmax())
        raise ValueError(f"fwt_gem needs R[{j - 1}, {j}] and baseline[{j}]: accuracy on a task before it is learnt.")
    return _mean(gains)


def intransigence(matrix: Matrix, joint: Numbers) -> Float[np.ndarray, " task"]:
    """Failure to learn the new task, against a model trained jointly on all data so far.

        I_k = joint_k - R[k, k],    joint_k = accuracy on task k of that model

    Source: Chaudhry et al. 2018. Range [-1, 1], lower is better; negative = better than joint training.

    Raises:
        ValueError: `joint` does not have one entry per task.
    """
    r, best = _matrix(matrix), np.asarray(joint, dtype=np.float64)
    if best.shape != (len(r),):
        raise ValueError(f"joint must be one number per task ({len(r)}), got {list(best.shape)}.")
    return best - np.diag(r)


def learning_accuracy(matrix: Matrix) -> float:
    """Plasticity: accuracy on each task right after it is learnt.

        mean_j R[j, j]

    Range [0, 1], higher is better. Source: Riemer et al. (MER), ICLR 2019, arXiv:1810.11910. Each diagonal entry
    competes with more classes than the one before, so it falls with j for a learner that forgets nothing.
    """
    return _mean(np.diag(_matrix(matrix)).tolist())


def harmonic(base: float, new: float) -> float:
    """Harmonic mean of accuracy on base and new classes.

        2 A_base A_new / (A_base + A_new)

    Used in few-shot class-incremental learning: a model that ignores the new classes gets 0. Range [0, 1], higher
    is better; 0 when both are 0. Source: customary in few-shot class-incremental learning.
    """
    return 2 * base * new / (base + new) if base + new > 0 else 0.0


def performance_drop(matrix: Matrix, sizes: Numbers) -> float:
    """PD of few-shot class-incremental learning: how far accuracy fell since the first task.

        A_0 - A_{T-1} of `a_seen`

    Range [-1, 1], lower is better. Source: customary in few-shot class-incremental learning. It counts the growing
    number of classes as loss: a perfect memory still drops.
    """
    seen = a_seen(matrix, sizes)
    return float(seen[0] - seen[-1])


def mtil(matrix: Matrix) -> Mtil:
    """Transfer, Avg and Last of multi-domain task-incremental learning; needs the whole matrix.

        Transfer = mean_{j>0} mean_{i<j} R[i, j],    Avg = mean_j mean_i R[i, j],    Last = mean_j R[T-1, j]

    Source: ZSCL, Zheng et al., ICCV 2023, arXiv:2303.06628. Transfer is zero-shot accuracy on tasks to come: print
    the untouched model's row beside it. Range [0, 1], higher is better. Transfer is NaN for one task.

    Raises:
        ValueError: a missing entry.
    """
    r = _matrix(matrix)
    if np.isnan(r).any():
        i, j = np.argwhere(np.isnan(r))[0]
        raise ValueError(f"mtil needs the whole matrix: R[{i}, {j}] is missing.")
    transfer = [math.nan, *(float(r[:j, j].mean()) for j in range(1, len(r)))]
    average = [float(column.mean()) for column in r.T]
    return Mtil(_mean(transfer[1:]), _mean(average), float(r[-1].mean()), tuple(transfer), tuple(average))


def a_auc(accuracies: Numbers, images: Numbers | None = None) -> float:
    """Area under the accuracy curve of an online run, over its length.

        mean of the evaluations;  with `images` (seen at each evaluation): trapezoid area / (last - first)

    Source: Koh et al. (CLIB), ICLR 2022, arXiv:2110.10031; the Si-Blurry code averages the list, which is the area
    only for equal spacing. Range [0, 1], higher is better.

    Raises:
        ValueError: no evaluation, or `images` that do not increase or fit.
    """
    a = np.asarray(accuracies, dtype=np.float64)
    if a.ndim != 1 or not len(a):
        raise ValueError(f"a_auc needs a list of accuracies, got shape {list(a.shape)}.")
    if images is None:
        return float(a.mean())
    x = np.asarray(images, dtype=np.float64)
    if x.shape != a.shape or len(x) < 2 or not np.all(np.diff(x) > 0):
        raise ValueError(f"images must be {len(a)} (at least 2) increasing numbers, got {x.tolist()}.")
    return float(np.trapezoid(a, x) / (x[-1] - x[0]))


def summary(matrix: Matrix, sizes: Numbers) -> Summary:
    """Every summary that needs only the lower triangle of R and the sizes of the test sets."""
    return Summary(
        a_seen=tuple(a_seen(matrix, sizes).tolist()),
        a_seen_task_mean=tuple(a_seen_task_mean(matrix).tolist()),
        a_last=a_last(matrix, sizes),
        a_avg=a_avg(matrix, sizes),
        forgetting_chaudhry=forgetting_chaudhry(matrix),
        forgetting_pilot=forgetting_pilot(matrix),
        bwt_gem=bwt_gem(matrix),
        bwt_all=bwt_all(matrix),
        learning_accuracy=learning_accuracy(matrix),
        performance_drop=performance_drop(matrix, sizes),
    )


def _mean_below(r: np.ndarray, weights: np.ndarray) -> Float[np.ndarray, " task"]:
    """Weighted means of the rows of the lower triangle, over the tasks that have a test set; NaN where none has."""
    shown = np.tril(~np.isnan(r))
    total = shown @ weights
    sums = np.where(shown, np.nan_to_num(r), 0.0) @ weights
    return np.divide(sums, total, out=np.full(len(r), np.nan), where=total > 0)


def _matrix(matrix: Matrix) -> Float[np.ndarray, "task task"]:
    rows = [np.asarray(row, dtype=np.float64) for row in matrix]  # None becomes NaN
    tasks = len(rows)
    if not tasks or any(row.ndim != 1 or not i < len(row) <= tasks for i, row in enumerate(rows)):
        raise ValueError(
            "The accuracy matrix needs one row per task, row i with at least i + 1 entries, got rows of"
            f" shapes {[row.shape for row in rows]}."
        )
    r = np.full((tasks, tasks), np.nan)
    for i, row in enumerate(rows):
        r[i, : len(row)] = row
    missing = np.argwhere(np.tril(np.isnan(r)) & ~np.isnan(r).all(axis=0))  # a task without a test set has no column
    if len(missing):
        raise ValueError(f"The accuracy matrix lacks R[{missing[0][0]}, {missing[0][1]}].")
    outside = np.argwhere((r < 0) | (r > 1))
    if len(outside):
        i, j = outside[0]
        raise ValueError(f"Accuracies are fractions in [0, 1], got R[{i}, {j}] = {r[i, j]:g}.")
    return r


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]  # of a task without a test set nothing is
    return float(np.mean(defined)) if defined else math.nan
