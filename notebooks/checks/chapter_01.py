"""Exercises of notebook 01: what pulls a feature, and how far apart K directions can be."""

from collections.abc import Callable
from typing import Any

from cillab.teaching.verdict import Case, Verdict, judge

import numpy as np

_FEATURES = np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]])
_WEIGHT = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
_LABELS = np.array([0, 1, 1])


def _softmax(scores: np.ndarray) -> np.ndarray:
    exponent = np.exp(scores - scores.max(axis=1, keepdims=True))
    return exponent / exponent.sum(axis=1, keepdims=True)


def check_feature_gradient(attempt: Callable[[np.ndarray, np.ndarray, np.ndarray], Any]) -> Verdict:
    """`attempt(features, weight, labels) -> gradient` of -log softmax(W h)_y with respect to each row h."""
    chances, onehot = _softmax(_FEATURES @ _WEIGHT.T), np.eye(3)[_LABELS]
    wanted = (chances - onehot) @ _WEIGHT
    large = 1000 * _FEATURES
    cases = [
        Case(
            (_FEATURES, _WEIGHT, _LABELS),
            wanted,
            "three images of two of three classes",
            (
                (-wanted, "That is the direction to go; the gradient points uphill."),
                (chances @ _WEIGHT, "Subtract 1 from the probability of the right class."),
                (-onehot @ _WEIGHT, "The pull of the own class is there, the push of the others is missing."),
                (wanted / 3, "Per image here: the mean is taken later."),
                ((chances.T - onehot.T) @ _FEATURES, "That is the gradient of the head; the features are asked for."),
                (
                    (_softmax((_FEATURES @ _WEIGHT.T).T).T - onehot) @ _WEIGHT,
                    "Probabilities over classes: every row sums to 1.",
                ),
                ((_FEATURES @ _WEIGHT.T - onehot) @ _WEIGHT, "The softmax is missing: scores are no probabilities."),
            ),
        ),
        Case(
            (large, _WEIGHT, _LABELS),
            (_softmax(large @ _WEIGHT.T) - onehot) @ _WEIGHT,
            "long features",
            ((np.full((3, 2), np.nan), "exp overflows: subtract the largest score of each row first."),),
        ),
    ]
    return judge(
        attempt, cases, "Towards the own row of W, away from the others, each as strongly as it is mistaken for it."
    )


def check_mean_cosine(attempt: Callable[[int, float], Any]) -> Verdict:
    """`attempt(k, length) -> float`: mean cosine over pairs of k unit vectors whose sum has this length."""
    cases = [
        Case(
            (2, 0.0),
            -1.0,
            "two opposite vectors",
            (
                (-0.5, "There are k (k - 1) ordered pairs, not k^2."),
                (-2.0, "The sum is over ordered pairs: k (k - 1) of them, not half as many."),
                (0.0, "The square of the sum is k plus the sum of all cosines: take k away."),
            ),
        ),
        Case(
            (3, 0.0),
            -0.5,
            "three vectors that sum to zero",
            (
                (-1 / 3, "There are k (k - 1) ordered pairs, not k^2."),
                (-1.0, "There are k (k - 1) ordered pairs: (length^2 - k) / (k (k - 1))."),
                (0.5, "The square of the sum is k plus the sum of all cosines: take k away."),
            ),
        ),
        Case(
            (4, 4.0),
            1.0,
            "four equal vectors",
            ((0.0, "The length of the sum goes in squared."), (-1 / 3, "That is the case of length 0 alone.")),
        ),
        Case((4, 2.0), 0.0, "four orthogonal vectors", ((-1 / 6, "The length of the sum goes in squared."),)),
    ]
    return judge(attempt, cases, "It is least when the sum is zero: -1/(k - 1), and no arrangement can do better.")


EXERCISES = {"feature_gradient": check_feature_gradient, "mean_cosine": check_mean_cosine}
