"""Exercises of notebook 10b: two accuracies of one table of scores, and separation inside clusters."""

from collections.abc import Callable
from typing import Any

from cillab.teaching.verdict import Case, Verdict, judge

import numpy as np


def check_base_to_new(attempt: Callable[..., Any]) -> Verdict:
    """`attempt(scores, truth, is_base) -> (base, new)`: each half of the classes competes among itself."""
    scores = np.array([[2.0, 3, 1, 0], [1, 0, 9, 2], [0, 5, 1, 2], [-2, -1, -3, -4], [0, 1, 3, 4]])
    truth, is_base = np.array([0, 0, 2, 1, 3]), np.array([True, False, True, False])
    # by hand: images 0, 1 and 2 are base images, images 3 and 4 new ones
    cases = [
        Case(
            (scores, truth, is_base),
            (2 / 3, 1.0),
            "five images, classes 0 and 2 are the base",
            (
                ((1.0, 2 / 3), "Base first, then new."),
                ((0.0, 1.0), "Base images are classified among base classes only."),
                ((2 / 3, 0.5), "Classes that do not compete get -inf, not 0."),
                (
                    (1 / 3, 0.0),
                    "A column of a part of the table is a place in that part: translate it back to a class.",
                ),
                ((2 / 3, 0.0), "New images are classified among new classes only."),
                ((0.4, 0.4), "Divide by the number of images of each half."),
                (0.8, "Two accuracies: of base images and of new ones."),
            ),
        ),
        Case(
            (-np.abs(scores) - 1, np.array([2, 2, 0, 1, 1]), is_base),
            (2 / 3, 1.0),
            "negative scores",
            (((0.0, 0.0), "Classes that do not compete get -inf, not 0."),),
        ),
        Case((np.eye(4), np.arange(4), is_base), (1.0, 1.0), "one image per class, all right"),
    ]
    return judge(attempt, cases, "Neither is the accuracy among all classes, which is the class-incremental question.")


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
                (9.0, "Cosines: make the texts unit vectors first."),
                (3.0, "The aim is -1/(k - 1): add 1/(k - 1)."),
                (1.6, "Divide by the number of clusters, not of texts."),
                (1.75, "k is the number of texts in the cluster, not of all."),
                (2.0, "Both (i, j) and (j, i) count."),
                (11.375, "The diagonal is no pair: leave i = j out."),
                (float(((unit @ unit.T + 0.25)[off] ** 2).sum()), "Pairs from different clusters do not count."),
            ),
        ),
        Case((texts, one), float(((unit @ unit.T + 0.25)[off] ** 2).sum()), "one cluster: the global frame"),
        Case((texts, np.array([0, 0, 0, 4, 4])), 4.0, "two clusters with the numbers 0 and 4"),
        Case(
            (texts[:3], np.arange(3)),
            0.0,
            "three clusters of one: nothing to separate",
            ((np.nan, "A cluster of one adds 0, and counts as a cluster."),),
        ),
    ]
    with np.errstate(all="ignore"):
        return judge(attempt, cases, "Whatever happens between clusters costs nothing: that is the idea.")


EXERCISES = {"base_to_new": check_base_to_new, "separation": check_separation}
