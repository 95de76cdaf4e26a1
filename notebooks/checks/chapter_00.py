"""Exercises of notebook 00: two numbers from an accuracy matrix, forgetting, and the angle of an ideal frame."""

from collections.abc import Callable
from typing import Any

from cillab.teaching.verdict import Case, Verdict, judge

import numpy as np

_NAN = float("nan")
# By hand: accuracy over the classes seen is 0.9, then 0.7, then 0.6.
_SMALL = np.array([[0.9, _NAN, _NAN], [0.6, 0.8, _NAN], [0.5, 0.4, 0.9]])
_RISING = np.array([[0.5, _NAN, _NAN], [0.7, 0.8, _NAN], [0.6, 0.8, 0.9]])  # task 0 is best after task 1


def check_summaries(attempt: Callable[[np.ndarray], Any]) -> Verdict:
    """`attempt(matrix) -> (a_last, a_avg)` for tasks of equal size; entries above the diagonal are NaN."""
    hints = (
        ((_NAN, _NAN), "Entries above the diagonal are NaN: row t has only t + 1 numbers."),
        ((0.6, _NAN), "Entries above the diagonal are NaN: row t has only t + 1 numbers."),
        ((0.6, np.nanmean(_SMALL)), "A_avg averages the accuracy after each task, not all entries of the matrix."),
        ((0.9, (0.9 + 0.8 + 0.9) / 3), "That is the diagonal: how well each task was learnt, not what is kept."),
        ((0.6, (0.9 + 0.8 + 0.9) / 3), "A_avg averages the means of the rows; that is the mean of the diagonal."),
        ((0.9, 2.2 / 3), "A_last is over all classes seen: the mean of the last row, not its last entry."),
        ((2.2 / 3, 0.6), "A_last first, then A_avg."),
        ((0.5, 0.5), "That is task 0 alone; A_last is over all classes seen."),
        ((60, 2.2 / 3 * 100), "Fractions in code; percent only on screen."),
    )
    cases = [
        Case((_SMALL,), (0.6, (0.9 + 0.7 + 0.6) / 3), "a 3-task matrix", hints),
        Case((np.array([[0.25]]),), (0.25, 0.25), "a run of one task"),
    ]
    return judge(attempt, cases, "A_last is where the run ends, A_avg how it was on the way there.")


def check_forgetting(attempt: Callable[[np.ndarray], Any]) -> Verdict:
    """`attempt(matrix) -> float`: mean over old tasks of the best accuracy so far minus the last (Chaudhry)."""
    cases = [
        Case(
            (_SMALL,),
            0.4,  # (0.9 - 0.5 + 0.8 - 0.4) / 2
            "a 3-task matrix",
            (
                (0.8 / 3, "The newest task cannot be forgotten yet: divide by T - 1."),
                (-0.4, "Forgetting is what was lost: best minus last."),
                (_NAN, "Entries above the diagonal are NaN: look from row j on, or use np.nanmax."),
                (0.8, "The mean over old tasks, not the sum."),
            ),
        ),
        Case(
            (_RISING,),
            0.05,  # (0.7 - 0.6 + 0.8 - 0.8) / 2
            "a matrix where task 0 got better before it got worse",
            ((-0.05, "The best accuracy of a task may come after the step in which it was learnt."),),
        ),
        Case(
            (np.array([[0.5, _NAN], [0.8, 0.9]]),),
            -0.3,
            "a task that only got better",
            ((0.0, "Leave the last row out of the maximum: then improvement is negative forgetting."),),
        ),
    ]
    return judge(attempt, cases, "Lower is better, and negative values mean that old tasks improved.")


def check_etf_cosine(attempt: Callable[[int], Any]) -> Verdict:
    """`attempt(k) -> float`: cosine between any two of k vectors that are as far apart as they can be, all alike."""
    cases = [
        Case(
            (2,),
            -1.0,
            "2 classes",
            (
                (-0.5, "Two vectors can point in opposite directions."),
                (0.0, "Orthogonal vectors are not as far apart as can be: they can point in opposite directions."),
                (1.0, "Vectors that are far apart have a negative cosine."),
                (-1 / 3, "Each vector has k - 1 others."),
            ),
        ),
        Case((3,), -0.5, "3 classes", ((-1 / 3, "Sum up to zero, multiply by one of the vectors: k - 1 others."),)),
        Case((100,), -1 / 99, "100 classes"),
    ]
    return judge(attempt, cases, "With more classes the ideal angle goes to 90 degrees from above.")


EXERCISES = {"summaries": check_summaries, "forgetting": check_forgetting, "etf_cosine": check_etf_cosine}
