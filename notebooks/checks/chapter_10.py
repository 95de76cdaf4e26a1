"""Exercises of notebook 10: the optimal map between Gaussians, and their distance."""

from collections.abc import Callable
from typing import Any

from cillab.teaching.verdict import Case, Verdict, judge

import numpy as np

_OLD = np.array([[4.0, 1.0], [1.0, 1.0]])
_NEW = np.array([[1.0, 0.5], [0.5, 9.0]])


def _power(s: np.ndarray, exponent: float) -> np.ndarray:
    values, vectors = np.linalg.eigh(s)
    return (vectors * values**exponent) @ vectors.T


def _map(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    root, inverse = _power(old, 0.5), _power(old, -0.5)
    return inverse @ _power(root @ new @ root, 0.5) @ inverse


def check_transport_map(attempt: Callable[[np.ndarray, np.ndarray], Any]) -> Verdict:
    """`attempt(old, new) -> A`: symmetric positive definite with A old A = new."""
    cholesky = np.linalg.cholesky(_NEW) @ np.linalg.inv(np.linalg.cholesky(_OLD))
    cases = [
        Case(
            (np.diag([4.0, 1.0]), np.diag([1.0, 9.0])),
            np.diag([0.5, 3.0]),
            "diagonal covariances (4, 1) and (1, 9)",
            (
                (np.diag([0.25, 9.0]), "Standard deviations are scaled, so take a root: A old A = new."),
                (np.diag([2.0, 1 / 3]), "That maps new to old."),
            ),
        ),
        Case(
            (_OLD, _NEW),
            _map(_OLD, _NEW),
            "covariances that do not commute",
            (
                (cholesky, "It moves the covariance, but it is not symmetric: it turns more than it must."),
                (_power(_NEW, 0.5) @ _power(_OLD, -0.5), "Right for commuting covariances only."),
                (_map(_NEW, _OLD), "That maps new to old."),
            ),
        ),
        Case((_OLD, _OLD), np.eye(2), "nothing has changed"),
    ]
    return judge(attempt, cases, "The only symmetric positive map that does it, and the cheapest of all that do.")


def check_w2(attempt: Callable[..., Any]) -> Verdict:
    """`attempt(mean, cov, mean', cov') -> float`: the 2-Wasserstein distance of two Gaussians (not squared)."""
    zero, moved = np.zeros(2), np.array([3.0, 4.0])
    root = _power(_OLD, 0.5)
    commuting = float(np.square(root - _power(_NEW, 0.5)).sum())
    shape = float(np.trace(_OLD + _NEW - 2 * _power(root @ _NEW @ root, 0.5)))
    cases = [
        Case(
            (zero, _OLD, moved, _OLD),
            5.0,
            "the same shape, moved by (3, 4)",
            (
                (25.0, "The distance, not its square."),
                (0.0, "The means count too."),
                (float(np.sqrt(5)), "The distance of the means goes in squared."),
                (float(np.sqrt(30)), "Twice the root of the product is taken off."),
            ),
        ),
        Case(
            (zero, np.diag([4.0, 1.0]), zero, np.diag([1.0, 9.0])),
            float(np.sqrt(5)),
            "one centre, standard deviations (2, 1) and (1, 3)",
            (
                (float(np.sqrt(11)), "Twice the root of the product is taken off."),
                (5.0, "The distance, not its square."),
                (0.0, "The covariances count too."),
                (float(np.sqrt(73)), "Roots of the covariances are compared, not the covariances."),
            ),
        ),
        Case(
            (zero, _OLD, moved, _NEW),
            float(np.sqrt(25 + shape)),
            "another centre and another shape",
            ((float(np.sqrt(25 + commuting)), "Right for commuting covariances only."),),
        ),
    ]
    return judge(attempt, cases, "Zero for equal Gaussians alone; in units of the features.")


EXERCISES = {"transport_map": check_transport_map, "w2": check_w2}
