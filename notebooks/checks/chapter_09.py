"""Exercises of notebook 09: the modality gap, the mean of several sentences, a softmax with a scale."""

from collections.abc import Callable
from typing import Any

from cillab.teaching.verdict import Case, Verdict, judge

import numpy as np


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def check_gap(attempt: Callable[[np.ndarray, np.ndarray], Any]) -> Verdict:
    """`attempt(images, texts) -> float`: distance between the mean unit image vector and the mean unit text vector."""
    images, texts = np.array([[2.0, 0.0], [0.0, 5.0]]), np.array([[-3.0, 0.0], [-1.0, 0.0], [0.0, -4.0]])
    wanted = float(np.linalg.norm(_unit(images).mean(0) - _unit(texts).mean(0)))
    raw = float(np.linalg.norm(images.mean(0) - texts.mean(0)))
    pairs = np.linalg.norm(_unit(images)[:, None] - _unit(texts)[None], axis=2).mean()
    cases = [
        Case(
            (images, texts),
            wanted,
            "two images and three texts",
            (
                (raw, "Make every vector a unit vector first: cosines do not see lengths."),
                (wanted**2, "The distance, not its square."),
                (float(pairs), "Take the means first, then one distance."),
                (
                    float(np.linalg.norm(_unit(_unit(images).mean(0)) - _unit(_unit(texts).mean(0)))),
                    "The means are not made unit vectors again.",
                ),
                (
                    float(np.abs(_unit(images).mean(0) - _unit(texts).mean(0)).mean()),
                    "The length of the difference, not the mean of its coordinates.",
                ),
            ),
        ),
        Case((images, 7 * images), 0.0, "texts in the same directions as the images"),
    ]
    return judge(attempt, cases, "Between 0 and 2. Training with pairs does not close it.")


def check_ensemble(attempt: Callable[[np.ndarray], Any]) -> Verdict:
    """`attempt(sentences [class, template, feature]) -> [class, feature]`: mean of unit vectors, made unit."""
    sentences = np.array([[[4.0, 0.0], [0.0, 1.0]], [[1.0, 1.0], [3.0, 3.0]]])
    cases = [
        Case(
            (sentences,),
            _unit(_unit(sentences).mean(1)),
            "two classes, two sentences each",
            (
                (
                    _unit(sentences.mean(1)),
                    "A long sentence vector must not count more: make each a unit vector first.",
                ),
                (
                    _unit(sentences).mean(1),
                    "Make the mean a unit vector again: it is shorter where sentences disagree.",
                ),
                (sentences.mean(1), "Unit vectors, before and after the mean."),
                (_unit(_unit(sentences).mean(0)), "The mean goes over templates, axis 1, not over classes."),
            ),
        ),
        Case((sentences[:, :1],), _unit(sentences[:, 0]), "a single template"),
        Case(
            (np.array([[[2.0, 0.0], [5.0, 0.0], [0.0, 1.0]]]),),
            _unit(np.array([[2.0, 1.0]])),
            "two sentences that agree and one that does not",
            ((_unit(np.array([[1.0, 1.0]])), "The mean over the sentences, not the largest of each coordinate."),),
        ),
    ]
    return judge(attempt, cases, "One vector per class: several sentences cost nothing when images come.")


def check_confidence(attempt: Callable[[np.ndarray, float], Any]) -> Verdict:
    """`attempt(cosines, scale) -> probabilities`: softmax of scale times cosine, row by row, safe for large scales."""
    cosines = np.array([[0.3, 0.2, 0.1], [0.0, 0.0, 0.5]])

    def softmax(scores: np.ndarray, axis: int = 1) -> np.ndarray:
        raised = np.exp(scores - scores.max(axis=axis, keepdims=True))
        return raised / raised.sum(axis=axis, keepdims=True)

    cases = [
        Case(
            (cosines, 10.0),
            softmax(10 * cosines),
            "two images, three classes, scale 10",
            (
                (softmax(cosines), "The scale multiplies the cosines."),
                (softmax(cosines / 10), "A scale multiplies; a temperature would divide."),
                (softmax(10 * cosines, 0), "Each row sums to 1: classes compete, images do not."),
            ),
        ),
        Case(
            (cosines, 1e4),
            [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]],
            "scale 10,000",
            (([[np.nan] * 3, [0.0, 0.0, np.nan]], "exp overflows: subtract the largest score of each row first."),),
        ),
    ]
    with np.errstate(over="ignore", invalid="ignore"):
        return judge(attempt, cases, "The scale changes how sure, never which class.")


EXERCISES = {"ensemble": check_ensemble, "gap": check_gap, "confidence": check_confidence}
