"""Exercises of notebook 18: two settings from one table of scores, the harmonic mean, and a weighted ridge."""

import math
from collections.abc import Callable
from typing import Any

from cillab.teaching import Case, Verdict, judge

import numpy as np

_SCORES = np.array([[5.0, 1, 6, 0], [1, 2, 9, 0], [0, 3, 2, 1], [0, 9, 1, 2]])  # four images, four classes
_TRUTH, _TASKS = np.array([0, 1, 2, 3]), np.array([0, 0, 1, 1])


def check_til_and_cil(attempt: Callable[..., Any]) -> Verdict:
    """`attempt(scores, truth, task_of) -> (til, cil)`: accuracy with the task given and without."""
    cases = [
        Case(
            (_SCORES, _TRUTH, _TASKS),
            (1.0, 0.0),  # by hand: every image is right within its task, none among all
            "four images of two tasks",
            (
                ((0.0, 1.0), "TIL first, then CIL."),
                ((0.0, 0.0), "With the task given, only classes of that task compete."),
                ((1.0, 1.0), "Without the task all classes compete."),
            ),
        ),
        Case((_SCORES, np.array([2, 2, 1, 1]), _TASKS), (1.0, 1.0), "images that are right either way"),
        Case(
            (_SCORES - 20, _TRUTH, _TASKS),
            (1.0, 0.0),
            "negative scores",
            (((0.0, 0.0), "Classes that do not compete get -inf, not 0."),),
        ),
    ]
    return judge(attempt, cases, "The same scores, two questions.")


def check_harmonic(attempt: Callable[[float, float], Any]) -> Verdict:
    """`attempt(a, b) -> float`: 2ab / (a + b), 0 where one is 0."""
    cases = [
        Case(
            (0.8, 0.4),
            0.64 / 1.2,
            "0.8 and 0.4",
            (
                (0.6, "That is the plain mean."),
                (0.32 / 1.2, "Twice the product."),
                (0.8 * 0.4, "Divide by the sum."),
                (math.sqrt(0.32), "That is the geometric mean."),
                (0.4, "Near the smaller one, but not the same."),
            ),
        ),
        Case((0.9, 0.0), 0.0, "one accuracy of 0"),
        Case((0.0, 0.0), 0.0, "two zeros", ((math.nan, "0 over 0: say 0 there."),)),
    ]
    return judge(attempt, cases, "It is near the smaller of the two: neglecting new classes does not pay.")


def check_weighted_ridge(attempt: Callable[..., Any]) -> Verdict:
    """`attempt(phi, y, v, gamma) -> W [feature, class]`: ridge with a weight per image."""
    phi = np.array([[1.0, 2.0], [0.5, -1.0], [2.0, 0.0], [1.0, 1.0]])
    y, v, gamma = np.eye(2)[[0, 1, 1, 0]], np.array([1.0, 3.0, 0.5, 2.0]), 0.7

    def solved(weights: np.ndarray, penalty: float) -> np.ndarray:
        root = np.sqrt(weights)[:, None]
        stacked = np.concatenate([root * phi, np.sqrt(penalty) * np.eye(2)])
        return np.linalg.lstsq(stacked, np.concatenate([root * y, np.zeros((2, 2))]), rcond=None)[0]

    right = solved(v, gamma)
    cases = [
        Case(
            (phi, y, v, gamma),
            right,
            "four weighted images",
            (
                (solved(np.ones(4), gamma), "The weights are not used."),
                (solved(v**2, gamma), "The weights stand in the sum once, not squared."),
                (right.T, "W is [feature, class]."),
                (solved(v, 1e-12), "gamma is missing."),
                (
                    np.linalg.solve(phi.T @ phi + gamma * np.eye(2), (phi * v[:, None]).T @ y),
                    "The weights belong to the Gram matrix as well.",
                ),
                (
                    np.linalg.solve((phi * v[:, None]).T @ phi + gamma * np.eye(2), phi.T @ y),
                    "The weights belong to the targets as well.",
                ),
                (
                    np.linalg.solve(
                        (phi * v[:, None]).T @ (phi * v[:, None]) + gamma * np.eye(2), (phi * v[:, None]).T @ y
                    ),
                    "V stands between the two factors once: weigh one of them.",
                ),
                (solved(v / v.sum(), gamma), "The weights as they are given: gamma is compared with them."),
            ),
        ),
        Case((phi, y, np.ones(4), gamma), solved(np.ones(4), gamma), "equal weights: the plain ridge"),
    ]
    return judge(attempt, cases, "A weight of 2 is the image twice.")


EXERCISES = {
    "til_and_cil": check_til_and_cil,
    "harmonic": check_harmonic,
    "weighted_ridge": check_weighted_ridge,
}
