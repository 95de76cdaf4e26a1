"""Exercises of notebook 07b: how far a vertex may turn, and a rotation that holds old vertices back."""

import math
from collections.abc import Callable
from typing import Any

from cillab.teaching.verdict import Case, Verdict, judge

import numpy as np


def check_safe_angle(attempt: Callable[[int], Any]) -> Verdict:
    """`attempt(k) -> degrees` by which a vertex may turn so that a feature at its old place is surely still nearest."""

    def degrees(k: int) -> float:
        return math.degrees(math.acos(-1 / (k - 1))) / 2

    cases = [
        Case(
            (3,),
            60.0,
            "three classes, 120 degrees apart",
            (
                (120.0, "That is the angle between two vertices; the border lies half way."),
                (math.radians(60), "Degrees, please."),
                (45.0, "That is the limit for many classes; with few there is more room."),
                (30.0, "The cosine of two vertices is negative: -1/(K - 1)."),
            ),
        ),
        Case((2,), 90.0, "two classes", ((180.0, "The border lies half way."),)),
        Case((100,), degrees(100), "100 classes", ((45.0, "Close: that is the limit for many classes."),)),
    ]
    return judge(attempt, cases, "Never less than 45 degrees, however many classes come.")


def check_held(attempt: Callable[..., Any]) -> Verdict:
    """`attempt(a, b, weights) -> R`: weighted orthogonal Procrustes.

    Two pairs want to stay and weigh w, two want a quarter turn and weigh 1: sum of w b a^T = w I + Q, which is a
    multiple of the rotation by atan2(1, w).
    """
    quarter = np.array([[0.0, -1.0], [1.0, 0.0]])
    a = np.concatenate([np.eye(2), np.eye(2)])
    b = np.concatenate([np.eye(2), np.eye(2) @ quarter.T])

    def by(degrees: float) -> np.ndarray:
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        return np.array([[c, -s], [s, c]])

    held = np.array([math.sqrt(3), math.sqrt(3), 1.0, 1.0])
    cases = [
        Case((a, b, np.ones(4)), by(45), "equal weights", ((by(-45), "That turns back: R acts on a, as a @ R.T."),)),
        Case(
            (a, b, held),
            by(30),
            "weights of 1.73 on two pairs that stay",
            (
                (by(45), "The weights are not used."),
                (by(-30), "That turns back: R acts on a, as a @ R.T."),
                (by(math.degrees(math.atan2(1, 3**0.25))), "The weights themselves, not their roots."),
                (by(60), "Large weights hold: multiply, do not divide."),
                (by(math.degrees(math.atan2(1, 3))), "Weigh each pair once, not both of its points."),
            ),
        ),
        Case((a, b, 10 * held), by(30), "the same weights, ten times as large"),
    ]
    return judge(attempt, cases, "Only ratios of weights count.")


EXERCISES = {"safe_angle": check_safe_angle, "held": check_held}
