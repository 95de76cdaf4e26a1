"""Exercises of notebook 05: a simplex from a basis, the angle by which it turns when it grows, the nearest rotation."""

import math
from collections.abc import Callable
from typing import Any

from cillab.teaching.verdict import Case, Verdict, judge

import numpy as np

_QUARTER = np.array([[0.0, -1.0], [1.0, 0.0]])
_POINTS = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])


def check_vertices(attempt: Callable[[np.ndarray], Any]) -> Verdict:
    """`attempt(basis) -> vertices`: sqrt(K/(K-1)) U (I - 11^T/K), one row per vertex, from K orthonormal columns."""
    eye = np.eye(3)
    wanted = math.sqrt(1.5) * (eye - 1 / 3)
    tall = np.linalg.qr(np.arange(15.0).reshape(5, 3) ** 1.5 + np.eye(5, 3))[0]
    cases = [
        Case(
            (eye,),
            wanted,
            "the three unit vectors of space",
            (
                (eye, "Subtract the mean of the columns."),
                (eye - 1 / 3, "Unit length is missing: the factor sqrt(K / (K - 1))."),
                (math.sqrt(2 / 3) * (eye - 1 / 3), "The factor is upside down."),
            ),
        ),
        Case(
            (tall,),
            math.sqrt(1.5) * (tall @ (eye - 1 / 3)).T,
            "3 classes in 5 dimensions",
            (
                (math.sqrt(1.5) * tall @ (eye - 1 / 3), "One row per vertex: transpose."),
                (math.sqrt(1.5) * (tall - tall.mean(axis=0)).T, "Subtract the mean of the columns: axis=1."),
            ),
        ),
    ]
    return judge(attempt, cases, "Unit rows, all pairs at -1/(K - 1), and K - 1 dimensions used.")


def check_turn(attempt: Callable[[int, int], Any]) -> Verdict:
    """`attempt(k_old, k_new) -> degrees` by which an old vertex turns when orthonormal columns are appended."""

    def degrees(old: int, new: int) -> float:
        return math.degrees(math.acos(math.sqrt(new * (old - 1) / (old * (new - 1)))))

    cases = [
        Case(
            (2, 3),
            30.0,
            "2 to 3 classes",
            (
                (math.radians(30), "Degrees, please."),
                (math.sqrt(0.75), "That is the cosine."),
                (math.degrees(math.acos(0.75)), "Both factors stand under a root."),
                (60.0, "The cosine needs both roots; the difference of the two ideal angles is another quantity."),
                (45.0, "Two roots: one for K_1 and one for K_2."),
            ),
        ),
        Case((10, 10), 0.0, "nothing added", ((math.nan, "Rounding can make the cosine 1 + 1e-16: clip it at 1."),)),
        Case((90, 100), degrees(90, 100), "90 to 100 classes"),
        Case((10, 20), degrees(10, 20), "10 to 20 classes"),
    ]
    return judge(attempt, cases, "The same for every old vertex, and smaller the more classes there are already.")


def check_rotation(attempt: Callable[[np.ndarray, np.ndarray], Any]) -> Verdict:
    """`attempt(a, b) -> R`: the orthogonal matrix that makes sum_i <R a_i, b_i> largest; rows are points."""
    both = np.array([[1.0, 0.0], [0.0, 1.0]])
    noisy = _POINTS @ _QUARTER.T + np.array([[0.1, 0.0], [0.0, 0.1], [-0.1, 0.0]])
    cycle = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    stretched = np.array([[3.0, 0.0, 1.0], [0.0, 2.0, 0.0], [0.0, 1.0, 1.0]])
    left, _, right = np.linalg.svd((stretched @ cycle.T).T @ stretched)
    u, _, vt = np.linalg.svd(noisy.T @ _POINTS)
    cases = [
        Case(
            (_POINTS, _POINTS @ _QUARTER.T),
            _QUARTER,
            "points that were turned by 90 degrees",
            (
                (_QUARTER.T, "That turns back: R takes a to b, and points are rows, so the result is a @ R.T."),
                (np.linalg.svd(_POINTS.T @ _POINTS @ _QUARTER.T)[0], "Both factors of the SVD belong to R: U V^T."),
            ),
        ),
        Case((both, 5 * both), both, "points that only grew", ((5 * both, "Drop the singular values."),)),
        Case((_POINTS, noisy), u @ vt, "turned points with noise"),
        Case(
            (stretched, stretched @ cycle.T),
            cycle,
            "points of space whose axes were exchanged",
            ((left @ right.T, "np.linalg.svd hands back Q already transposed."),),
        ),
    ]
    return judge(attempt, cases, "Orthogonal Procrustes: one SVD, no iteration.")


EXERCISES = {"vertices": check_vertices, "turn": check_turn, "rotation": check_rotation}
