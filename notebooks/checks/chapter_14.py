"""Exercises of notebook 14: a paired difference, the optimism of a choice, and a vote of the batch."""

import math
from collections.abc import Callable
from typing import Any

from cillab.teaching import Case, Verdict, judge

import numpy as np

_A = np.array([1, 1, 0, 1, 0, 1, 1, 0], bool)
_B = np.array([1, 0, 0, 1, 1, 0, 1, 0], bool)


def check_difference_of(attempt: Callable[[np.ndarray, np.ndarray], Any]) -> Verdict:
    """`attempt(a, b) -> (mean, standard error)` of the differences on the same images."""
    mean, n = 1 / 8, 8  # by hand: d = 0 1 0 0 -1 1 0 0
    error = math.sqrt((3 - n * mean**2) / (n - 1) / n)
    biased = math.sqrt((3 - n * mean**2) / n / n)
    unpaired = math.sqrt((_A.var(ddof=1) + _B.var(ddof=1)) / n)
    apart = math.sqrt((_A.mean() * (1 - _A.mean()) + _B.mean() * (1 - _B.mean())) / n)
    cases = [
        Case(
            (_A, _B),
            (mean, error),
            "eight images",
            (
                ((-mean, error), "A minus B."),
                ((mean, biased), "Divisor n - 1: np.std(..., ddof=1)."),
                ((mean, error * math.sqrt(n)), "That is the deviation of one d; divide by the root of n."),
                ((mean, apart), "That is the error for different images. Take the deviation of the differences."),
                ((mean, unpaired), "That is the error for different images. Take the deviation of the differences."),
                ((1 / 3, 2 / 3), "Images on which they agree count too: there d is 0."),
                ((mean, error**2), "Take the root: an error has the unit of d."),
                ((mean, 1.96 * error), "The standard error, not the interval."),
            ),
        ),
        Case((_A, _A), (0.0, 0.0), "a head compared with itself"),
    ]
    return judge(attempt, cases, "What both find easy and what both find hard cancels.")


def check_optimism(attempt: Callable[[np.ndarray, np.ndarray], Any]) -> Verdict:
    """`attempt(right [candidate, image], chosen_on [image]) -> float`: best there, minus the same one elsewhere."""
    right = np.array([[1, 1, 0, 0, 0, 1], [1, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 1]], bool)
    chosen = np.array([1, 1, 1, 0, 0, 0], bool)
    cases = [
        Case(
            (right, chosen),
            2 / 3 - 1 / 3,  # candidate 0: 2 of 3 there, 1 of 3 elsewhere
            "three candidates, six images",
            (
                (2 / 3 - 1, "The candidate must be the one that was CHOSEN, not the best elsewhere."),
                (1 / 3 - 1, "Choose on the images `chosen_on` alone."),
                (1 / 3 - 2 / 3, "There minus elsewhere."),
                (2 / 3, "Take the accuracy on the other images away."),
                (2 / 3 - 0.5, "On all OTHER images, without those of the choice."),
                (2 / 3 - 7 / 9, "Of the chosen candidate alone, not of all of them."),
            ),
        ),
        Case((right[2:], chosen), -1.0, "a single candidate: nothing is chosen"),
    ]
    return judge(attempt, cases, "The maximum of noisy numbers is above what it stands for.")


def check_voted(attempt: Callable[[np.ndarray, int], Any]) -> Verdict:
    """`attempt(votes, size) -> votes`: every image gets the most frequent vote of its batch."""
    votes = np.array([2, 2, 0, 1, 0, 1, 3])
    cases = [
        Case(
            (votes, 3),
            [2, 2, 2, 1, 1, 1, 3],
            "seven images in batches of three",
            (
                ([0] * 7, "The vote is taken within each batch, not over all images."),
                ([2, 1, 3], "One answer per image: repeat the winner for its whole batch."),
                ([2, 2, 2, 1, 1, 1], "The last batch may be smaller."),
                (votes, "Nothing was voted."),
                ([2, 2, 2, 2, 2, 2, 3], "A batch begins anew after `size` images."),
                ([2, 2, 2, 0, 0, 1, 1], "`size` is the number of images in a batch, not the number of batches."),
                ([2, 2, 2, 1, 1, 1, 3, 3, 3], "The last batch may be smaller: one answer per image."),
            ),
        ),
        Case((np.array([1, 0, 1, 0]), 4), [0, 0, 0, 0], "a tie", (([1, 1, 1, 1], "In a tie the smallest wins."),)),
        Case((votes, 1), votes, "batches of one"),
    ]
    return judge(attempt, cases, "An answer that depends on the batch is no answer to the image.")


EXERCISES = {"difference_of": check_difference_of, "optimism": check_optimism, "voted": check_voted}
