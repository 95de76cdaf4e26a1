"""Exercises of notebook 02: the deviation from the simplex, the least one in few dimensions, NC1 without its bias."""

import math
from collections.abc import Callable
from typing import Any

from cillab.teaching.verdict import Case, Verdict, judge

import numpy as np

_SQUARE = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
_TRIANGLE = np.array([[1.0, 0.0], [-0.5, math.sqrt(0.75)], [-0.5, -math.sqrt(0.75)]])


def check_angle_deviation(attempt: Callable[[np.ndarray], Any]) -> Verdict:
    """`attempt(means) -> float`: root mean square over pairs of cos(mu_c - mu_G, mu_k - mu_G) + 1/(K - 1)."""
    square = math.sqrt(2) / 3  # cosines 0 for four pairs, -1 for two; the target is -1/3
    moved = _SQUARE + np.array([10.0, 0.0])
    unequal = np.array([[2.5, 0.0], [-0.5, 1.0], [-1.5, 0.0], [-0.5, -1.0]])  # they sum to zero
    short = 1 / math.sqrt(1.25)
    cosines = np.array([-0.5 * short, -1, -0.5 * short, 0.5 * short, -0.6, 0.5 * short])  # by hand, pair by pair
    cases = [
        Case(
            (_TRIANGLE,),
            0.0,
            "an equilateral triangle",
            (
                (math.sqrt(0.75), "Each pair once: leave out the diagonal."),
                (math.sqrt(3 * 1.5**2 / 6), "Each pair once: leave out the diagonal."),
                (1.0, "The target is -1/(K - 1): take it away, that is, add 1/(K - 1)."),
                (1 / 6, "The target is -1/(K - 1), not -1/K."),
            ),
        ),
        Case(
            (_SQUARE,),
            square,
            "a square",
            (
                (4 / 9, "That is the mean of |cos - target|: square first, root last."),
                (2 / 9, "Take the root."),
                (math.sqrt((6 * 2 / 9 + 2 * 8 / 9) / 8), "Each pair once: leave out the diagonal."),
                (math.sqrt((12 * 2 / 9 + 4 * 16 / 9) / 16), "Each pair once: leave out the diagonal."),
                (math.sqrt(1 / 3), "The target is -1/(K - 1), not 0."),
                (math.sqrt(2 / 9 - 1 / 9), "The target is -1/(K - 1), not the mean of the cosines."),
            ),
        ),
        Case((3 * _SQUARE,), square, "a larger square", ((3 * square, "Cosines: divide by both lengths."),)),
        Case(
            (unequal,),
            math.sqrt(np.square(cosines + 1 / 3).mean()),
            "four means of unequal lengths",
            ((float(cosines.std()), "The target is -1/(K - 1), not the mean of the cosines."),),
        ),
        Case((moved,), square, "a square far from the origin", ((_uncentred(moved), "Subtract the mean of means."),)),
    ]
    return judge(attempt, cases, "0 for a simplex, and blind to where the means lie and how long they are.")


def _uncentred(means: np.ndarray) -> float:
    unit = means / np.linalg.norm(means, axis=1, keepdims=True)
    cosines = (unit @ unit.T)[np.triu_indices(len(unit), 1)]
    return float(np.sqrt(((cosines + 1 / (len(unit) - 1)) ** 2).mean()))


def check_angle_floor(attempt: Callable[[int, int], Any]) -> Verdict:
    """`attempt(k, d) -> float`: least deviation of k unit vectors in d dimensions from the angles of a simplex."""
    cases = [
        Case(
            (3, 2),
            0.0,
            "3 classes in 2 dimensions: a triangle",
            ((0.5, "Subtract 1/(K - 1)^2 under the root."), (math.sqrt(0.5), "Subtract 1/(K - 1)^2, do not add it.")),
        ),
        Case(
            (4, 2),
            math.sqrt(2) / 3,
            "4 classes in 2 dimensions: a square",
            (
                (2 / 9, "Take the root."),
                (math.sqrt(1 / 3), "That is the least mean square cosine; the target -1/(K - 1) is still to go in."),
                (math.sqrt(4 / 9), "The cross term 2 mean(cos) / (K - 1) is at least -2/(K - 1)^2: it is negative."),
            ),
        ),
        Case(
            (100, 160), 0.0, "more dimensions than classes", ((math.nan, "No root of a negative number: max(0, ...)."),)
        ),
        Case((100, 20), math.sqrt(80 / (20 * 99) - 1 / 99**2), "100 classes in 20 dimensions"),
    ]
    return judge(attempt, cases, "No network, however long it trains, can go below it.")


def check_unbiased_quotient(attempt: Callable[[float, float, int, int], Any]) -> Verdict:
    """`attempt(within, between, n, k) -> float`: tr Sigma_W / tr Sigma_B without the bias of n images a class."""
    within, between, n, k = 0.4, 1.0, 5, 10
    spread = within * n / (n - 1)
    answer = spread / (between - spread * (k - 1) / (k * n))
    cases = [
        Case(
            (within, between, n, k),
            answer,
            "within 0.4, between 1.0, 5 images, 10 classes",
            (
                (0.4, "That is the quotient as measured."),
                (spread / between, "tr Sigma_B is biased too: noise of the means makes them lie further apart."),
                (within / (between - spread * (k - 1) / (k * n)), "tr Sigma_W is biased too, by (n - 1)/n."),
                (
                    (0.8 * within) / (between - 0.8 * within * (k - 1) / (k * n)),
                    "The measured spread is too small: multiply by n/(n - 1).",
                ),
                (spread / (between - spread / n), "mu_G is made of the same images: (K - 1)/K of v/n."),
                (spread / (between - within * (k - 1) / (k * n)), "Use the corrected spread in the second step."),
                (spread / (between + spread * (k - 1) / (k * n)), "The noise was added to tr Sigma_B: subtract it."),
            ),
        ),
        Case((0.4, 1.0, 10**9, 10), 0.4, "a billion images: nothing is left to correct"),
        Case((0.0, 1.0, 5, 10), 0.0, "true collapse"),
    ]
    return judge(attempt, cases, "Two expectations, and the number no longer depends on how many images you had.")


EXERCISES = {
    "unbiased_quotient": check_unbiased_quotient,
    "angle_deviation": check_angle_deviation,
    "angle_floor": check_angle_floor,
}
