"""Exercises of notebook 06: the joint ridge, its recursive form, and what seeing the data several times amounts to."""

from collections.abc import Callable
from typing import Any

from cillab.teaching.verdict import Case, Verdict, judge

import numpy as np

_PHI = np.array([[1.0, 2.0], [0.0, 1.0], [3.0, 1.0], [1.0, 1.0]])
_Y = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])


def _solution(phi: np.ndarray, y: np.ndarray, gamma: float) -> np.ndarray:
    return np.linalg.solve(phi.T @ phi + gamma * np.eye(phi.shape[1]), phi.T @ y)


def check_ridge(attempt: Callable[[np.ndarray, np.ndarray, float], Any]) -> Verdict:
    """`attempt(phi, y, gamma) -> W [feature, class]`: (Phi^T Phi + gamma I)^-1 Phi^T Y."""
    cases = [
        Case(
            (_PHI, _Y, 2.0),
            _solution(_PHI, _Y, 2.0),
            "four images, gamma 2",
            (
                (_solution(_PHI, _Y, 0.0), "gamma is missing."),
                (_solution(_PHI, _Y, 2.0).T, "W is [feature, class]: phi @ W gives one column per class."),
                (_solution(_PHI, _Y, 4.0), "gamma itself goes on the diagonal, not its square or its double."),
                (_solution(_PHI, _Y, 8.0), "gamma is not multiplied by the number of images here."),
                (
                    np.linalg.solve(_PHI.T @ _PHI + 2.0, _PHI.T @ _Y),
                    "gamma goes on the diagonal only: gamma * np.eye(...).",
                ),
            ),
        ),
        Case((_PHI[:1], _Y[:1], 1.0), _solution(_PHI[:1], _Y[:1], 1.0), "one image: without gamma there is no inverse"),
    ]
    return judge(attempt, cases, "One linear system of the size of the features, whatever the number of images.")


def check_recursion(attempt: Callable[..., Any]) -> Verdict:
    """`attempt(inverse, weight, phi, y) -> (inverse, weight)` after more images, without the earlier ones."""
    old, new = slice(0, 2), slice(2, 4)
    before = np.linalg.inv(_PHI[old].T @ _PHI[old] + np.eye(2))
    first, wanted = before @ _PHI[old].T @ _Y[old], _solution(_PHI, _Y, 1.0)
    after = np.linalg.inv(_PHI.T @ _PHI + np.eye(2))
    step = after @ _PHI[new].T @ (_Y[new] - _PHI[new] @ first)
    by_woodbury = (
        before @ _PHI[new].T @ np.linalg.inv(np.eye(2) + _PHI[new] @ before @ _PHI[new].T) @ _PHI[new] @ before
    )
    grown = before + by_woodbury
    stale = first + before @ _PHI[new].T @ (_Y[new] - _PHI[new] @ first)

    def flat(answer: Any) -> np.ndarray:
        return np.concatenate([np.ravel(part) for part in answer])

    def asked(*given: np.ndarray) -> np.ndarray:
        return flat(attempt(*(part.copy() for part in given)))

    cases = [
        Case(
            (before, first, _PHI[new], _Y[new]),
            flat((after, wanted)),
            "two more images (the inverse, then W)",
            (
                (flat((after, stale)), "Use the new inverse for W."),
                (flat((before, wanted)), "Hand back the new inverse too: the next task needs it."),
                (flat((after, first + after @ _PHI[new].T @ _Y[new])), "W learns from its error: Y - Phi W."),
                (flat((after, first)), "W has not changed."),
                (flat((after, first - step)), "Towards the targets: add the correction."),
                (flat((wanted, after)), "The inverse first, then W."),
                (wanted.ravel(), "Hand back both, the new inverse and W."),
                (
                    flat((grown, first + grown @ _PHI[new].T @ (_Y[new] - _PHI[new] @ first))),
                    "More images make the inverse smaller: subtract.",
                ),
            ),
        ),
        Case(
            (before, np.zeros((2, 2)), _PHI[new], np.zeros((2, 2))),
            flat((after, np.zeros((2, 2)))),
            "images that W answers rightly: W stays, the inverse does not",
        ),
    ]
    return judge(asked, cases, "Exact: no old image is needed, and nothing is approximated.")


def check_passes(attempt: Callable[[float, int], Any]) -> Verdict:
    """`attempt(gamma, passes) -> gamma'` of the joint ridge that equals seeing all images `passes` times."""
    cases = [
        Case(
            (10.0, 5),
            2.0,
            "gamma 10, five passes",
            (
                (50.0, "The other way: more data makes the penalty weaker."),
                (10.0, "The sums grow with each pass, gamma does not."),
                (10.0 / 25, "Phi^T Phi and Phi^T Y both grow by p, not by its square."),
            ),
        ),
        Case((3.0, 1), 3.0, "one pass"),
    ]
    return judge(attempt, cases, "Divide the whole equation by p.")


EXERCISES = {"ridge": check_ridge, "update": check_recursion, "equivalent_gamma": check_passes}
