"""Exercises of notebook 15: herding, distillation, and the diagonal of the Fisher matrix."""

from collections.abc import Callable
from typing import Any

from cillab.teaching import Case, Verdict, judge

import numpy as np

_POINTS = np.array([[0.0, 0.0], [1.0, 0.0], [4.0, 0.0], [0.0, 3.0], [1.2, 0.8], [1.0, 1.0]])  # mean (1.2, 0.8)


def check_herded(attempt: Callable[[np.ndarray, int], Any]) -> Verdict:
    """`attempt(features, count) -> rows`: greedy, so that the mean of those taken stays near the class mean."""
    nearest = np.argsort(np.linalg.norm(_POINTS - _POINTS.mean(axis=0), axis=1))[:3].tolist()
    cases = [
        Case((_POINTS, 1), [4], "one of six: the point that is the mean"),
        Case(
            (_POINTS, 3),
            [4, 5, 1],
            "three of six",
            (
                ([1, 4, 5], "In the order in which they are taken."),
                ([2, 3, 0], "Divide by the number taken so far, k, not by all that will be taken."),
                (nearest[::-1], "Take them one after the other."),
                ([4, 4, 4], "An image is taken once."),
            ),
        ),
        Case(
            (_POINTS[[2, 0, 3]], 3),
            _by_loop(_POINTS[[2, 0, 3]], 3),
            "all of three, in herding's order",
            (([1, 2, 0], "The mean of those taken comes near to the class mean, not each image by itself."),),
        ),
        Case((_POINTS, 0), [], "none"),
    ]
    return judge(attempt, cases, "Each one corrects the error of those before it.")


def _by_loop(features: np.ndarray, count: int) -> list[int]:
    taken: list[int] = []
    mean = features.mean(axis=0)
    for _ in range(count):
        free = [i for i in range(len(features)) if i not in taken]
        taken.append(min(free, key=lambda i: float(np.linalg.norm(mean - features[[*taken, i]].mean(axis=0)))))
    return taken


def check_distilled(attempt: Callable[..., Any]) -> Verdict:
    """`attempt(old, scores, temperature) -> float`: cross-entropy between softened probabilities."""
    old, scores = np.array([[2.0, 0.0, 1.0], [0.0, 1.0, 3.0]]), np.array([[1.0, 1.0, 0.0], [2.0, 0.0, 2.0]])

    def loss(temperature: float, a: np.ndarray = old, b: np.ndarray = scores) -> float:
        p, q = (np.exp(s / temperature) / np.exp(s / temperature).sum(axis=1, keepdims=True) for s in (a, b))
        return float(-(p * np.log(q)).sum(axis=1).mean())

    soft = np.exp(scores / 2) / np.exp(scores / 2).sum(axis=1, keepdims=True)
    hard = float(-np.log(soft[[0, 1], [0, 2]]).mean())
    cases = [
        Case(
            (old, scores, 2.0),
            loss(2.0),
            "two images, three old classes, T = 2",
            (
                (loss(1.0), "Divide both tables by the temperature."),
                (loss(0.5), "A temperature divides."),
                (2 * loss(2.0), "The mean over images, not the sum."),
                (loss(2.0, scores, old), "The OLD probabilities weigh the logarithm of the new ones."),
                (-loss(2.0), "A minus sign is missing."),
                (loss(2.0, old, 2 * scores), "Divide both tables by the temperature."),
                (4 * loss(2.0), "No factor T^2 here: the loss as the text has it."),
                (loss(2.0) / 3, "The sum over classes, the mean over images."),
                (loss(2.0) - loss(2.0, old, old), "The cross-entropy itself: the entropy of p_old stays in."),
                (hard, "All of p_old, not the old answer alone."),
            ),
        ),
        Case((1000 * old, 1000 * old, 1.0), 0.0, "scores of a thousand", ((np.nan, "Subtract the largest first."),)),
    ]
    with np.errstate(all="ignore"):
        return judge(attempt, cases, "Least where the answers are what they were.")


def check_fisher(attempt: Callable[..., Any]) -> Verdict:
    """`attempt(h, p, labels) -> [class, feature]`: mean over images of the squared gradient of each weight."""
    h, labels = np.array([[1.0, -2.0], [0.5, 1.0], [3.0, 0.0]]), np.array([0, 1, 1])
    p = np.array([[0.7, 0.3], [0.4, 0.6], [0.1, 0.9]])
    each = np.stack([np.outer(row - np.eye(2)[c], feature) for row, c, feature in zip(p, labels, h, strict=True)])
    cases = [
        Case(
            (h, p, labels),
            (each**2).mean(axis=0),
            "three images",
            (
                (each.mean(axis=0) ** 2, "Square each image's gradient first, then take the mean."),
                ((each**2).sum(axis=0), "The mean over images, not the sum."),
                ((each**2).mean(axis=0).T, "One row per class."),
                (each.mean(axis=0), "Squared gradients."),
                ((p**2).T @ h**2 / 3, "Subtract 1 from the probability of the right class."),
                ((p * (1 - p)).T @ h**2 / 3, "With the labels given: (p - [c = y])^2, not its expectation."),
                (((p - np.eye(2)[labels]) ** 2).T @ h / 3, "The features are squared as well."),
            ),
        ),
        Case((h[:1], p[:1], labels[:1]), each[0] ** 2, "one image"),
    ]
    return judge(attempt, cases, "A weight that no image pulls at may move freely.")


EXERCISES = {"herded": check_herded, "distilled": check_distilled, "fisher": check_fisher}
