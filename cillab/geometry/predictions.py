"""Accuracy by task, bias to new classes, task-id accuracy and calibration, from predictions. NumPy only."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclass(frozen=True)
class Bias:
    """How a learner treats old classes against those of the newest task. Fractions of test images."""

    old_accuracy: float
    new_accuracy: float
    gap: float  # new - old
    old_called_new: float  # old images that went to a new class
    new_called_old: float
    called_new: float  # all images that went to a new class
    are_new: float  # all images that belong to one


@dataclass(frozen=True, eq=False)
class TaskDecomposition:
    """Class-incremental accuracy in two factors, over all images and per task (NaN for a task without images)."""

    accuracy: float
    task_id: float  # the predicted class belongs to the right task
    within_task: float  # right class when only the columns of the right task compete
    product: float
    accuracy_per_task: Float[np.ndarray, " task"]
    task_id_per_task: Float[np.ndarray, " task"]
    within_task_per_task: Float[np.ndarray, " task"]


@dataclass(frozen=True, eq=False)
class Calibration:
    """Expected calibration error and its bins; `counts` sum to the number of images."""

    value: float
    confidence: Float[np.ndarray, " bin"]  # mean confidence; NaN in an empty bin
    accuracy: Float[np.ndarray, " bin"]
    counts: Int[np.ndarray, " bin"]


def accuracy_matrix_row(
    predictions: Int[np.ndarray, " image"],
    labels: Int[np.ndarray, " image"],
    task_of_class: Mapping[int, int],
    tasks: int | None = None,
) -> Float[np.ndarray, " task"]:
    """One row of the accuracy matrix: accuracy on the test images of each task.

        R[i, j] = share of images with task(label) = j whose predicted class is the label

    `tasks` is the length of the row (default: largest task in `task_of_class` + 1); a task without images is NaN.

    Raises:
        ValueError: lengths that differ, labels without a task, or a task beyond `tasks`.
    """
    _same_length(predictions, labels)
    task = _tasks(labels, task_of_class)
    length = 1 + max(task_of_class.values(), default=-1) if tasks is None else tasks
    if len(task) and task.max() >= length:
        raise ValueError(f"Labels reach task {task.max()}, but the row has {length} tasks.")
    return _by_task(predictions == labels, task, length)


def prediction_bias(
    predictions: Int[np.ndarray, " image"],
    labels: Int[np.ndarray, " image"],
    task_of_class: Mapping[int, int],
    newest: int,
) -> Bias:
    """Old against new: accuracies, and how often one is taken for the other.

        gap = accuracy on the newest task's classes - accuracy on all others

    `newest` is the index of the task just learnt. Range [0, 1], the gap [-1, 1]; a gap far above 0 together with
    `old_called_new` is recency bias of the head. NaN where there is no image.
    Source: customary.

    Raises:
        ValueError: lengths that differ, or a class without a task.
    """
    _same_length(predictions, labels)
    truly_new = _tasks(labels, task_of_class) == newest
    called_new = _tasks(predictions, task_of_class) == newest
    right = predictions == labels
    old, new = _mean(right[~truly_new]), _mean(right[truly_new])
    return Bias(
        old_accuracy=old,
        new_accuracy=new,
        gap=new - old,
        old_called_new=_mean(called_new[~truly_new]),
        new_called_old=_mean(~called_new[truly_new]),
        called_new=_mean(called_new),
        are_new=_mean(truly_new),
    )


def task_decomposition(
    logits: Float[np.ndarray, "image cls"],
    labels: Int[np.ndarray, " image"],
    classes: Sequence[int],
    task_of_class: Mapping[int, int],
) -> TaskDecomposition:
    """Right task times right class within the task.

        accuracy  ~  task_id * within_task

    An image is right iff its predicted task is right and the best class of that task is right. So accuracy is the
    share of images with both; the product equals it when the two are independent. Source: Kim et al., NeurIPS 2022,
    arXiv:2211.02633. `classes` names the columns. All in [0, 1], higher is better.

    Raises:
        ValueError: shapes that do not fit, a class without a task, a label without a column.
    """
    if logits.shape != (len(labels), len(classes)):
        raise ValueError(f"logits {list(logits.shape)} do not fit {len(labels)} labels and {len(classes)} classes.")
    columns = np.asarray(classes)
    unknown = sorted(set(np.unique(labels).tolist()) - set(columns.tolist()))
    if unknown:
        raise ValueError(f"labels {unknown} have no column in classes {columns.tolist()}.")
    task_of_column, task = _tasks(columns, task_of_class), _tasks(labels, task_of_class)
    best = logits.argmax(axis=1)
    own = np.where(task_of_column[None] == task[:, None], logits, -np.inf).argmax(axis=1)
    right, right_task = columns[best] == labels, task_of_column[best] == task
    within = columns[own] == labels
    length = 1 + int(task_of_column.max(initial=-1))
    return TaskDecomposition(
        accuracy=_mean(right),
        task_id=_mean(right_task),
        within_task=_mean(within),
        product=_mean(right_task) * _mean(within),
        accuracy_per_task=_by_task(right, task, length),
        task_id_per_task=_by_task(right_task, task, length),
        within_task_per_task=_by_task(within, task, length),
    )


def calibration_error(
    confidence: Float[np.ndarray, " image"], correct: Bool[np.ndarray, " image"], bins: int = 15
) -> Calibration:
    """Expected calibration error: is a learner right as often as it says?

        ECE = sum_b (n_b / n) | accuracy_b - mean confidence_b |,    equal bins (b/B, (b+1)/B]

    Source: Naeini et al., AAAI 2015; Guo et al., ICML 2017, arXiv:1706.04599. Range [0, 1], lower is better. Biased up
    with few images per bin. NaN without images.

    Raises:
        ValueError: lengths that differ, confidences outside [0, 1], fewer than 1 bin.
    """
    _same_length(confidence, correct)
    c = confidence.astype(np.float64)
    if bins < 1 or not np.all((c >= 0) & (c <= 1)):
        raise ValueError(
            f"calibration_error needs bins >= 1 and confidences in [0, 1], got {bins} bins"
            f" and {np.sum(~((c >= 0) & (c <= 1)))} of {len(c)} confidences outside."
        )
    index = np.clip(np.ceil(c * bins).astype(np.int64) - 1, 0, bins - 1)
    counts = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(index, weights=c, minlength=bins) / counts
        accuracy = np.bincount(index, weights=correct.astype(np.float64), minlength=bins) / counts
    value = float(np.nansum(counts * np.abs(accuracy - mean)) / len(c)) if len(c) else math.nan
    return Calibration(value, mean, accuracy, counts)


def calibration_by_age(
    probabilities: Float[np.ndarray, "image cls"],
    labels: Int[np.ndarray, " image"],
    classes: Sequence[int],
    task_of_class: Mapping[int, int],
    *,
    newest: int,
    bins: int = 15,
) -> tuple[Calibration, Calibration]:
    """`calibration_error` of the top class on images of (old, newest) classes.

    A head biased to new classes is over-confident on old ones. `probabilities` rows sum to 1; `classes` names columns.
    """
    if probabilities.shape != (len(labels), len(classes)):
        raise ValueError(
            f"probabilities {list(probabilities.shape)} do not fit {len(labels)} labels and {len(classes)} classes."
        )
    confidence = probabilities.max(axis=1)
    correct = np.asarray(classes)[probabilities.argmax(axis=1)] == labels
    new = _tasks(labels, task_of_class) == newest
    old, fresh = (calibration_error(confidence[mask], correct[mask], bins) for mask in (~new, new))
    return old, fresh


def _same_length(a: np.ndarray, b: np.ndarray) -> None:
    if a.shape != b.shape:
        raise ValueError(f"Expected one value per image in both, got shapes {list(a.shape)} and {list(b.shape)}.")


def _tasks(class_ids: np.ndarray, task_of_class: Mapping[int, int]) -> np.ndarray:
    ids, inverse = np.unique(class_ids, return_inverse=True)
    unknown = [c for c in ids.tolist() if c not in task_of_class]
    if unknown:
        raise ValueError(f"task_of_class names no task for classes {unknown}.")
    return np.array([task_of_class[c] for c in ids.tolist()], dtype=np.int64)[inverse]


def _by_task(right: np.ndarray, task: np.ndarray, length: int) -> np.ndarray:
    counts = np.bincount(task, minlength=length)
    with np.errstate(invalid="ignore"):
        return np.bincount(task, weights=right.astype(np.float64), minlength=length) / counts


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan
