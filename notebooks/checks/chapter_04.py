"""Exercises of notebook 04: backward transfer, the pull of the newest classes, and three parts of what was lost."""

from collections.abc import Callable
from typing import Any

from cillab.teaching.verdict import Case, Verdict, judge

import numpy as np

_NAN = float("nan")
_SMALL = np.array([[0.9, _NAN, _NAN], [0.6, 0.8, _NAN], [0.5, 0.4, 0.9]])
_RISING = np.array([[0.5, _NAN, _NAN], [0.7, 0.8, _NAN], [0.6, 0.8, 0.9]])  # task 0 is best after task 1
# Rows = true class, columns = answer; the third and fourth class are new.
_ANSWERS = np.array([[6, 1, 3, 0], [0, 4, 2, 4], [0, 1, 8, 1], [0, 0, 0, 10]])
_TASKS = np.array([0, 1, 2, 2])


def check_backward_transfer(attempt: Callable[[np.ndarray], Any]) -> Verdict:
    """`attempt(matrix) -> float`: mean over all tasks but the last of R[T-1, j] - R[j, j]."""
    cases = [
        Case(
            (_SMALL,),
            -0.4,  # (0.5 - 0.9 + 0.4 - 0.8) / 2
            "a 3-task matrix",
            (
                (0.4, "Backward transfer is now minus then: forgetting makes it negative."),
                (-0.8 / 3, "The newest task has had no later one: divide by T - 1."),
                (_NAN, "Entries above the diagonal are NaN: use row T - 1 and the diagonal only."),
            ),
        ),
        Case(
            (_RISING,),
            0.05,  # (0.6 - 0.5 + 0.8 - 0.8) / 2
            "a task that got better later",
            (
                (-0.05, "Compare with the accuracy when the task was learnt, R[j, j], not with the best one."),
                (0.1, "The mean over all tasks but the last, not the first one alone."),
            ),
        ),
    ]
    return judge(attempt, cases, "It says less than forgetting: a task that rose and fell again shows nothing.")


def check_pull(attempt: Callable[[np.ndarray, np.ndarray], Any]) -> Verdict:
    """`attempt(confusion, task_of_class) -> float`: share of old images given to a class of the newest task."""
    cases = [
        Case(
            (_ANSWERS, _TASKS),
            9 / 20,
            "two old and two new classes, ten images each",
            (
                (28 / 40, "Only images of old classes: new ones belong there."),
                (9 / 40, "Divide by the number of old images."),
                (9 / 10, "Divide by all old images, the right answers too."),
                (9 / 28, "Of all old images, not of all images that were called new."),
                (5 / 30, "Two classes are new: all of the largest task, not the last column only."),
                (1 / 12, "Rows are true classes, columns are answers."),
                (4 / 20, "Two classes are new: all of the largest task, not the last column only."),
            ),
        ),
        Case((_ANSWERS[::-1, ::-1], _TASKS[::-1]), 9 / 20, "the same classes in another order"),
        Case((_ANSWERS[:2, :2], np.array([0, 1])), 1 / 7, "one old and one new class"),
    ]
    return judge(attempt, cases, "0 when the newest classes take nothing that is not theirs.")


def check_three_parts(attempt: Callable[[float, float, float, float, float], Any]) -> Verdict:
    """`attempt(head_then, head_now, few_then, few_now, all_now) -> (deep, crowding, shallow)`."""
    cases = [
        Case(
            (0.9, 0.2, 0.95, 0.85, 0.7),
            (0.1, 0.15, 0.45),
            "a head that fell from 90 to 20 %",
            (
                ((0.1, 0.15, 0.5), "Shallow is what the head lost beyond the other two: they add up to the total."),
                ((0.1, 0.15, 0.7), "Shallow is what is left of the total when the other two are taken away."),
                ((0.25, 0.15, 0.3), "Deep compares the same choice then and now: few_then with few_now."),
                ((-0.1, -0.15, 0.95), "Losses are positive: then minus now."),
                ((-0.1, -0.15, -0.45), "Losses are positive: then minus now."),
                ((0.1, 0.25, 0.35), "Crowding compares two choices of now: few_now with all_now."),
                ((0.15, 0.1, 0.45), "Deep first, then crowding."),
            ),
        ),
        Case((0.9, 0.9, 0.95, 0.95, 0.95), (0.0, 0.0, 0.0), "nothing lost"),
        Case((0.8, 0.7, 0.8, 0.9, 0.8), (-0.1, 0.1, 0.1), "features that got better"),
    ]
    return judge(
        attempt, cases, "Deep is what this probe no longer finds, shallow what it finds and the own head does not."
    )


EXERCISES = {"backward_transfer": check_backward_transfer, "pull": check_pull, "three_parts": check_three_parts}
