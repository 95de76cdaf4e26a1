"""Exercises of notebook 03: nearest mean, merging means, and a linear head from means and one covariance."""

from collections.abc import Callable
from typing import Any

from cillab.teaching.verdict import Case, Verdict, judge

import numpy as np

# Class 7 lies far out in nearly the same direction as class 3: lengths must not decide.
_X = np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 9.0], [0.0, 11.0], [6.0, 6.0]])
_Y = np.array([3, 3, 7, 7, 9])
_NEW = np.array([[0.2, 0.0], [0.0, 1.0], [2.0, 2.1], [9.0, 1.0]])


def check_nearest_mean(attempt: Callable[[np.ndarray, np.ndarray, np.ndarray], Any]) -> Verdict:
    """`attempt(x, y, new) -> class ids`: for each row of `new`, the class whose mean has the largest cosine."""
    cases = [
        Case(
            (_X, _Y, _NEW),
            [3, 7, 9, 3],
            "classes 3, 7 and 9 in the plane",
            (
                ([0, 1, 2, 0], "Those are rows of the means: look the class id up, classes.take(best)."),
                ([3, 3, 3, 9], "That is the smallest distance; here the largest cosine decides."),
                ([9, 3, 7, 9], "The largest cosine, not the smallest."),
                ([9, 7, 9, 9], "Divide the means by their length: a long mean must not win for being long."),
            ),
        ),
        Case((_X, _Y, 100 * _NEW), [3, 7, 9, 3], "the same images with longer features"),
        Case(
            (np.array([[10.0, 0.0], [0.0, 1.0], [1.0, 2.0], [1.0, 3.0]]), _Y[:4], np.array([[1.0, 1.0], [0.0, 1.0]])),
            [7, 7],
            "a class with one long and one short feature",
            (
                ([3, 7], "The mean of the features as they are: do not make the images unit vectors first."),
                ([7, 3], "That is the class of the nearest image, not of the nearest mean."),
            ),
        ),
    ]
    return judge(attempt, cases, "One pass over the data, and there is nothing to tune.")


def check_merge(attempt: Callable[[int, np.ndarray, int, np.ndarray], Any]) -> Verdict:
    """`attempt(n, mean, m, other) -> mean` of n + m images from the means of two lots."""
    a, b = np.array([1.0, 2.0]), np.array([5.0, 6.0])
    cases = [
        Case(
            (3, a, 1, b),
            [2.0, 3.0],
            "3 images with mean (1, 2) and 1 with mean (5, 6)",
            (
                ([3.0, 4.0], "Three images weigh more than one."),
                ([8.0, 12.0], "Divide by the number of all images."),
                ([4.0, 5.0], "The weights are the wrong way round."),
            ),
        ),
        Case((0, np.zeros(2), 4, b), b, "nothing before"),
        Case((10**6, a, 10**6, b), [3.0, 4.0], "two lots of a million"),
    ]
    return judge(
        attempt, cases, "Sums do not care for order; that is the whole secret of learning without forgetting here."
    )


def check_lda(attempt: Callable[[np.ndarray, np.ndarray], Any]) -> Verdict:
    """`attempt(means, within) -> (weight, bias)` such that w_c . h + b_c = -||h - mu_c||^2_{Sigma^-1} / 2 + const."""
    means, within = np.array([[2.0, 0.0], [0.0, 4.0]]), np.array([[2.0, 0.0], [0.0, 0.5]])
    weight = means / np.array([2.0, 0.5])
    bias = np.array([-1.0, -16.0])

    def flat(answer: Any) -> np.ndarray:
        return np.concatenate([np.ravel(part) for part in answer])

    def asked(m: np.ndarray, s: np.ndarray) -> np.ndarray:
        return flat(attempt(m, s))

    turned = np.array([[0.6, -0.8], [0.8, 0.6]])
    skewed = turned @ within @ turned.T
    cases = [
        Case(
            (means, within),
            flat((weight, bias)),
            "two classes with one diagonal covariance (weight, then bias)",
            (
                (flat((means, -0.5 * (means**2).sum(axis=1))), "That is the nearest mean: Sigma is not used."),
                (flat((means * np.diag(within), bias)), "Multiply by the inverse of Sigma."),
                (flat((weight, 2 * bias)), "Half of the squared length goes into the bias."),
                (flat((weight, -0.5 * (means**2).sum(axis=1))), "The inverse of Sigma stands in the bias too."),
                (flat((weight, -bias)), "The bias is negative: long means must not win for being long."),
                (flat((weight, np.zeros(2))), "Without its bias a long mean wins for being long."),
                (flat((weight.T, bias)), "One row of the weight per class."),
            ),
        ),
        Case(
            (means, skewed),
            flat((means @ np.linalg.inv(skewed), -0.5 * np.diag(means @ np.linalg.inv(skewed) @ means.T))),
            "a covariance that is not diagonal",
        ),
    ]
    return judge(asked, cases, "A closed form, linear, and still no gradient step.")


EXERCISES = {"nearest_mean": check_nearest_mean, "merge": check_merge, "lda": check_lda}
