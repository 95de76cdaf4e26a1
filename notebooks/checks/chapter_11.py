"""Exercises of notebook 11: a map from an activation and its gradient, energy inside a mask, true minus rival."""

from collections.abc import Callable
from typing import Any

from cillab.teaching.verdict import Case, Verdict, judge

import numpy as np

_ACTIVATION = np.array([[[1.0, 0.0], [0.0, 2.0]], [[3.0, 1.0], [0.0, 0.0]]])
_GRADIENT = np.array([[[2.0, -4.0], [2.0, 0.0]], [[2.0, 0.0], [2.0, 0.0]]])


def check_cam(attempt: Callable[[np.ndarray, np.ndarray], Any]) -> Verdict:
    """`attempt(activation, gradient) -> map` from [row, column, channel]: relu(sum_c mean(gradient)_c a_c)."""
    weight = _GRADIENT.mean(axis=(0, 1))
    plain = (_ACTIVATION * weight).sum(axis=-1)
    cases = [
        Case(
            (_ACTIVATION, _GRADIENT),
            np.maximum(plain, 0),
            "two by two patches with two channels",
            (
                (plain, "The relu is missing: only what speaks for the class."),
                (np.maximum((_ACTIVATION * _GRADIENT).sum(-1), 0), "One weight a channel: the mean of its gradient."),
                (
                    np.maximum((_ACTIVATION * _GRADIENT.sum((0, 1))).sum(-1), 0),
                    "The mean over patches, not the sum: maps should not grow with the number of patches.",
                ),
                (np.maximum(plain, 0) / 2, "The sum over channels, not their mean."),
                (np.abs(plain), "max(0, .), not the absolute value: only what speaks for the class."),
                (np.maximum(plain, 0) / plain.max(), "Do not stretch it to [0, 1]: a dead map would look alive."),
                (np.maximum(_ACTIVATION * weight, 0).sum(-1), "Sum over channels first, then the relu."),
            ),
        ),
        Case((_ACTIVATION, np.zeros_like(_GRADIENT)), np.zeros((2, 2)), "no gradient: an empty map, no error"),
    ]
    return judge(attempt, cases, "Selvaraju et al. (2017), equations 1 and 2, and a scale that is kept.")


def check_energy(attempt: Callable[[np.ndarray, np.ndarray], Any]) -> Verdict:
    """`attempt(map, mask) -> share of the map's mass on the object`; the mask is a share of each cell in [0, 1]."""
    heat, mask = np.array([[6.0, 2.0], [0.0, 2.0]]), np.array([[0.5, 1.0], [1.0, 0.0]])
    cases = [
        Case(
            (heat, mask),
            0.5,
            "a map of mass 10 with 5 of it on the object",
            (
                (5.0, "A share: divide by the whole mass of the map."),
                (2.0, "Divide by the mass of the map, not by that of the mask."),
                (0.8, "A cell that lies half on the object counts half."),
                (0.2, "A cell that lies half on the object counts half."),
                (1.25, "The mass of a map is its sum, not its mean."),
            ),
        ),
        Case((np.ones((2, 2)), mask), 0.625, "a map without preference: the share of the image that the object takes"),
    ]
    return judge(attempt, cases, "Compare it with the object's share of the image, not with zero.")


def check_difference(attempt: Callable[[np.ndarray, int], Any]) -> Verdict:
    """`attempt(logits, true) -> logit(true) - largest other logit` of one image; `true` is a column."""
    logits = np.array([2.0, 7.0, 4.0])
    cases = [
        Case(
            (logits, 0),
            -5.0,
            "an image that is taken for class 1",
            (
                (5.0, "True minus rival: negative where the answer is wrong."),
                (0.0, "The rival is the best OTHER class."),
                (3.0, "The true class stands first, whoever has won."),
                (-2.0, "The rival is the largest OTHER logit; here that is the largest of all."),
                (-3.5, "The largest other logit, not their mean."),
            ),
        ),
        Case(
            (logits, 1),
            3.0,
            "an image that is answered rightly: the rival is the runner-up",
            (
                (0.0, "The largest of all is the true class itself here: leave it out."),
                (5.0, "Not the smallest other."),
            ),
        ),
    ]
    return judge(attempt, cases, "Its sign says right or wrong, its map says what tipped it.")


EXERCISES = {"cam": check_cam, "energy": check_energy, "difference": check_difference}
