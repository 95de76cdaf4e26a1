"""Exercises of notebook 07: pull and push, and features drawn from a stored Gaussian."""

import math
from collections.abc import Callable
from typing import Any

from cillab.teaching.verdict import Case, Verdict, judge

import numpy as np

_HALF = math.sqrt(3) / 2
_TRIANGLE = np.array([[1.0, 0.0], [-0.5, _HALF], [-0.5, -_HALF]])


def check_pull_push(attempt: Callable[[np.ndarray, np.ndarray, int], Any]) -> Verdict:
    """`attempt(z, vertices, own) -> (pull, push)` of one unit feature whose class has row `own` of the vertices."""
    between = np.array([0.5, _HALF])  # half way from vertex 0 to vertex 1: cosines 1/2, 1/2, -1
    cases = [
        Case(
            (_TRIANGLE[0], _TRIANGLE, 0),
            (0.0, 0.0),
            "a feature at its own vertex",
            (
                ((0.0, 0.5625), "Leave the own vertex out of the push."),
                ((0.0, 0.375), "Leave the own vertex out of the push."),
            ),
        ),
        Case(
            (between, _TRIANGLE, 0),
            (0.125, 0.25),
            "a feature half way between its own vertex and the next one of three",
            (
                ((0.25, 0.5), "Both squares are halved."),
                ((0.125, 0.5), "Leave the own vertex out of the push, and divide by the number of the others."),
                ((0.125, 0.3125), "A vertex that is further away than the simplex asks for pushes nothing: max(0, .)."),
                ((0.25, 0.125), "Pull first, then push."),
                ((0.125, 0.0), "The push starts at cosine -1/(K - 1): add 1/(K - 1), do not take it away."),
                ((0.125, (5 / 6) ** 2 / 4), "The simplex has cosines -1/(K - 1), not -1/K."),
                ((0.125, 1 / 6), "The push is a mean over the K - 1 others, not over all K."),
                ((0.125, 0.0625), "The push starts at cosine -1/(K - 1), not at 0: add 1/(K - 1)."),
            ),
        ),
        Case((-_TRIANGLE[0], _TRIANGLE, 0), (2.0, 0.5), "a feature opposite its own vertex"),
        Case((_TRIANGLE[1], _TRIANGLE, 0), (1.125, 0.5625), "a feature at another class's vertex"),
    ]
    return judge(attempt, cases, "Both vanish at the vertex, and nowhere else.")


def check_draw(attempt: Callable[[np.ndarray, np.ndarray, np.ndarray], Any]) -> Verdict:
    """`attempt(mean, covariance, noise) -> features`: standard normal rows made into draws from N(mean, covariance)."""
    mean, covariance = np.array([3.0, -1.0]), np.array([[4.0, 2.0], [2.0, 3.0]])
    white = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])  # mean 0, covariance I, exactly

    def moments(x: np.ndarray) -> np.ndarray:
        return np.concatenate([x.mean(axis=0), np.cov(x.T, bias=True).ravel()])

    def asked(*given: np.ndarray) -> np.ndarray:
        found = np.asarray(attempt(*(part.copy() for part in given)), dtype=np.float64)
        if found.shape != given[2].shape:
            raise ValueError(f"features have the shape of noise, {given[2].shape}, not {found.shape}")
        return moments(found)

    root = np.linalg.cholesky(covariance)
    cases = [
        Case(
            (mean, covariance, white),
            moments(white @ root.T + mean),
            "four rows of noise with covariance I (mean, then covariance of the features)",
            (
                (moments(white @ covariance + mean), "Multiply by a square root of the covariance, not by itself."),
                (moments(white @ root + mean), "Rows are draws: noise @ L.T with covariance = L L^T."),
                (moments(white @ root.T), "Add the mean."),
                (moments(white * np.sqrt(np.diag(covariance)) + mean), "The features of a class are correlated."),
                (moments(white + mean), "The covariance is not used."),
            ),
        ),
        Case((mean, np.diag([1.0, 9.0]), white), moments(white * [1, 3] + mean), "a diagonal covariance"),
    ]
    return judge(asked, cases, "Any square root will do: Cholesky's or the symmetric one.")


EXERCISES = {"pull_push": check_pull_push, "draw": check_draw}
