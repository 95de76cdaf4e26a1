"""Exercises of notebook 10: the optimal map between Gaussians, their distance, separation inside clusters."""

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
    shape = float(np.trace(_OLD + _NEW - 2 * _power(root @ _NEW @ root, 0.5)))
    cases = [
        Case(
            (zero, _OLD, moved, _OLD),
            5.0,
            "the same shape, moved by (3, 4)",
            ((25.0, "The distance, not its square."), (0.0, "The means count too.")),
        ),
        Case(
            (zero, np.diag([4.0, 1.0]), zero, np.diag([1.0, 9.0])),
            float(np.sqrt(5)),
            "one centre, standard deviations (2, 1) and (1, 3)",
            (
                (float(np.sqrt(11)), "Twice the root of the product is taken off."),
                (5.0, "The distance, not its square."),
                (float(np.sqrt(73)), "Roots of the covariances are compared, not the covariances."),
            ),
        ),
        Case((zero, _OLD, moved, _NEW), float(np.sqrt(25 + shape)), "another centre and another shape"),
    ]
    return judge(attempt, cases, "Zero for equal Gaussians alone; in units of the features.")


def check_separation(attempt: Callable[[np.ndarray, np.ndarray], Any]) -> Verdict:
    """`attempt(texts, clusters) -> loss`: mean over clusters of sum_(i != j) (cos + 1/(k - 1))^2, k members."""
    half = np.sqrt(0.75)
    triangle = np.array([[1.0, 0.0, 0.0], [-0.5, half, 0.0], [-0.5, -half, 0.0]])
    texts = np.vstack([triangle, [[0.0, 0.0, 1.0], [0.0, 0.0, 2.0]]])
    clusters = np.array([0, 0, 0, 1, 1])
    one = np.zeros(5, dtype=np.int64)
    unit = texts / np.linalg.norm(texts, axis=1, keepdims=True)
    off = ~np.eye(5, dtype=bool)
    cases = [
        Case(
            (texts, clusters),
            4.0,
            "a triangle that is ideal, and two texts that are alike (cosine 1, wanted -1: 2 pairs of 4)",
            (
                (8.0, "Divide by the number of clusters."),
                (2.0, "Both (i, j) and (j, i) count."),
                (11.375, "The diagonal is no pair: leave i = j out."),
                (float(((unit @ unit.T + 0.25)[off] ** 2).sum()), "Pairs from different clusters do not count."),
            ),
        ),
        Case((texts, one), float(((unit @ unit.T + 0.25)[off] ** 2).sum()), "one cluster: the global frame"),
        Case((texts[:3], np.arange(3)), 0.0, "three clusters of one: nothing to separate"),
    ]
    return judge(attempt, cases, "Whatever happens between clusters costs nothing: that is the idea.")


EXERCISES = {"transport_map": check_transport_map, "w2": check_w2, "separation": check_separation}
