"""Exercises of notebook 17: logits of one length, and a stored mean that follows the encoder."""

from collections.abc import Callable
from typing import Any

from cillab.teaching import Case, Verdict, judge

import numpy as np


def check_unit_logits(attempt: Callable[[np.ndarray, float], Any]) -> Verdict:
    """`attempt(z [image, class], tau)`: every image's logits divided by tau times their length."""
    z = np.array([[3.0, 4.0], [-6.0, 8.0], [1.0, 0.0]])
    cases = [
        Case(
            (z, 0.5),
            [[1.2, 1.6], [-1.2, 1.6], [2.0, 0.0]],
            "three images, two classes",
            (
                ([[0.6, 0.8], [-0.6, 0.8], [1.0, 0.0]], "Divide by tau as well."),
                ([[0.3, 0.4], [-0.3, 0.4], [0.5, 0.0]], "A temperature divides."),
                (z / (0.5 * np.square(z).sum(axis=1, keepdims=True)), "The length, not its square."),
                (z / (0.5 * np.abs(z).max(axis=1, keepdims=True)), "The length of the row, not its largest logit."),
                (z / (0.5 * np.linalg.norm(z)), "One length per image, not one for the whole table."),
                (z / (0.5 * np.linalg.norm(z, axis=0)), "The length of a row: classes of one image."),
            ),
        ),
        Case((10 * z, 0.5), [[1.2, 1.6], [-1.2, 1.6], [2.0, 0.0]], "logits ten times as long"),
    ]
    return judge(attempt, cases, "The answer stays, the loss changes.")


def check_compensated(attempt: Callable[..., Any]) -> Verdict:
    """`attempt(mean, before, after, sigma)`: the mean moved by the moves of images, weighted by nearness."""
    mean, before = np.array([1.0, 0.0]), np.array([[1.0, 1.0], [3.0, 0.0], [0.0, 0.0]])
    after = before + np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]])
    square = [1.0, 4.0, 1.0]  # by hand
    moves = after - before

    def answer(weights: list[float]) -> np.ndarray:
        return mean + np.asarray(weights) @ moves / sum(weights)

    weights = [float(np.exp(-s / 2)) for s in square]
    cases = [
        Case(
            (mean, before, after, 1.0),
            answer(weights),
            "three images, sigma 1",
            (
                (mean + moves.mean(axis=0), "Near images count more: weigh the moves."),
                (answer([float(np.exp(-s)) for s in square]), "Divide the squared distance by 2 sigma^2."),
                (
                    answer([float(np.exp(-np.sqrt(s) / 2)) for s in square]),
                    "The squared distance stands in the exponent.",
                ),
                (mean + np.asarray(weights) @ moves, "Divide by the sum of the weights."),
                (answer(weights) - mean, "The mean moves: add the drift to it."),
                (answer([float(np.exp(-s / 2)) for s in (2.0, 8.0, 5.0)]), "Near is measured before the move."),
                (2 * mean - answer(weights), "Moves are after minus before."),
                (np.asarray(weights) @ after / sum(weights), "Average the moves, not the places."),
            ),
        ),
        Case(
            (np.array([400.0, 0.0]), before, after, 1.0),
            [400.0, 2.0],
            "a mean far from all images",
            (([np.nan, np.nan], "All weights are 0 there: subtract the smallest squared distance before exp."),),
        ),
        Case(
            (mean, before, after, 2.0),
            answer([float(np.exp(-s / 8)) for s in square]),
            "three images, sigma 2",
            (
                (answer([float(np.exp(-s / 4)) for s in square]), "2 sigma^2: the width is squared."),
                (answer(weights), "sigma is not used."),
            ),
        ),
        Case((mean, before, before, 1.0), mean, "an encoder that did not move"),
    ]
    with np.errstate(all="ignore"):
        return judge(attempt, cases, "As good as the images near it.")


EXERCISES = {"unit_logits": check_unit_logits, "compensated": check_compensated}
