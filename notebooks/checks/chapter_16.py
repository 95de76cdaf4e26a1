"""Exercises of notebook 16: keys that an image asks for, components that it mixes, prototypes that are put together."""

from collections.abc import Callable
from typing import Any

from cillab.teaching import Case, Verdict, judge

import numpy as np


def check_asked(attempt: Callable[[np.ndarray, np.ndarray, int], Any]) -> Verdict:
    """`attempt(query [image, feature], keys [prompt, feature], top)`: rows of the keys with the largest cosines."""
    keys = np.array([[1.0, 0.0], [3.0, 3.0], [0.0, 0.5], [-1.0, 0.0]])
    query = np.array([[2.0, 0.5], [0.1, 1.0]])
    cosines = query @ keys.T / np.linalg.norm(keys, axis=1) / np.linalg.norm(query, axis=1, keepdims=True)
    cases = [
        Case(
            (query, keys, 2),
            [[0, 1], [2, 1]],
            "two images, four keys",
            (
                ([[1, 0], [1, 2]], "A long key must not win: divide by its length, or put the most similar first."),
                ([[3, 2], [3, 0]], "These are the least similar keys."),
                ([[0, 1], [1, 2]], "The most similar key stands first."),
                ([[0, 2], [2, 0]], "Cosines decide, not distances."),
                (-np.sort(-cosines, axis=1)[:, :2], "The rows of the keys, not their cosines."),
                (np.argsort(-cosines, axis=0)[:, :2], "Sort the keys of each image: axis=1."),
                ([0, 2], "`top` keys for every image, not one."),
            ),
        ),
        Case((5 * query, keys, 2), [[0, 1], [2, 1]], "queries five times as long"),
        Case((query, keys, 1), [[0], [2]], "one prompt per image", (([0, 2], "Keep the axis: [image, top]."),)),
    ]
    return judge(attempt, cases, "Equation (1) of L2P. The image asks with a feature that no prompt has touched.")


def check_mixed(attempt: Callable[..., Any]) -> Verdict:
    """`attempt(query [image, feature], attention, keys [component, feature])`: cosines of (q * A_m) and K_m."""
    query = np.array([[3.0, 4.0], [1.0, 0.0]])
    attention = np.array([[1.0, 1.0], [0.0, 2.0]])
    keys = np.array([[1.0, 0.0], [0.0, 3.0]])
    softened = np.exp([0.6, 1.0])
    cases = [
        Case(
            (query[:1], attention, keys),
            [[0.6, 1.0]],
            "one image, two components",
            (
                ([[0.6, 0.8]], "The attention A_m has no effect yet: multiply it with the query, channel by channel."),
                ([[0.6], [1.0]], "One row per image: [image, component]."),
                ([[3.0, 24.0]], "Divide by both lengths."),
                ([[0.6, 3.0]], "Divide by the length of the key as well."),
                ([[3.0, 8.0]], "Divide by the length of q * A_m as well."),
                ([[0.6, 1.6]], "The length is that of q * A_m, not that of q."),
                (softened[None] / softened.sum(), "CODA takes the cosines as they are, without a softmax."),
            ),
        ),
        Case((10 * query, np.ones((1, 2)), keys[:1]), [[0.6], [1.0]], "longer queries, attention of ones"),
    ]
    return judge(attempt, cases, "Every component takes part, and the gradient reaches all of them.")


def check_put_together(attempt: Callable[..., Any]) -> Verdict:
    """`attempt(old, new, there)`: softmax over new classes of cos(old, new), times their prototypes `there`."""
    old, new = np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([[1.0, 0.0], [0.0, 5.0]])
    there = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 2.0]])
    a, b = np.e / (np.e + 1), 1 / (np.e + 1)
    raw = np.exp([2.0, 0.0]) / np.exp([2.0, 0.0]).sum()
    cases = [
        Case(
            (old, new, there),
            [[a, b, 2 * b], [b, a, 2 * a]],
            "two old classes, two new ones",
            (
                (there, "The most similar class alone is not enough: softmax over all new classes."),
                (np.repeat(there.mean(axis=0)[None], 2, axis=0), "Similar classes count more than others."),
                (
                    np.stack([raw @ there, [np.exp(-5) / (1 + np.exp(-5)), *(np.array([1, 2]) / (1 + np.exp(-5)))]]),
                    "Cosines, not products: no class counts more because it is long.",
                ),
                (
                    [[a, 5 * b], [b, 5 * a]],
                    "The prototypes of the new classes in features j, `there`, are put together.",
                ),
                (np.array([[a, b], [b, a]]), "These are the weights: multiply them by the prototypes `there`."),
            ),
        ),
        Case((old[:1], new[:1], there[:1]), there[:1], "one new class"),
        Case(
            (old[:1], new, there),
            [[a, b, 2 * b]],
            "one old class, two new ones",
            (([[1.0, 1.0, 2.0]], "The softmax goes over the new classes: every row of weights sums to 1."),),
        ),
        Case((7 * old, new, there), [[a, b, 2 * b], [b, a, 2 * a]], "old prototypes seven times as long"),
    ]
    return judge(attempt, cases, "Equation (3) of EASE, without an image.")


EXERCISES = {"asked": check_asked, "mixed": check_mixed, "put_together": check_put_together}
