"""Exercises of notebook 08: mixing and folding generators, what teaches them, and a move in units of the spread."""

from collections.abc import Callable
from typing import Any

from cillab.teaching.verdict import Case, Verdict, judge

import numpy as np

_PROTOTYPES = np.array([[3.0, 0.0], [0.0, 2.0], [1.0, 1.0]])


def check_mixture(attempt: Callable[[np.ndarray, float], Any]) -> Verdict:
    """`attempt(prototypes, tau) -> weights`: softmax of the cosines with the last prototype, over tau."""

    def softmax(scores: np.ndarray) -> np.ndarray:
        raised = np.exp(scores - scores.max())
        return raised / raised.sum()

    unit = _PROTOTYPES / np.linalg.norm(_PROTOTYPES, axis=1, keepdims=True)
    cosines = unit @ unit[-1]
    cases = [
        Case(
            (_PROTOTYPES, 2.0),
            softmax(cosines / 2),
            "three tasks, tau 2",
            (
                (softmax(cosines), "Divide the cosines by tau first."),
                (softmax(cosines * 2), "Divide by tau, do not multiply."),
                (softmax(_PROTOTYPES @ _PROTOTYPES[-1] / 2), "Cosines, not products: divide by the lengths."),
                (cosines / cosines.sum(), "Shares of the cosines are no softmax: take the exponential."),
                (softmax(unit @ unit[0] / 2), "Compare with the newest task, the last row."),
            ),
        ),
        Case((_PROTOTYPES[:1], 2.0), [1.0], "the first task alone"),
        Case(
            (10 * _PROTOTYPES, 1e-3),
            [0.0, 0.0, 1.0],
            "a very small tau: the winner takes all",
            (
                ([0.0, 0.0, np.nan], "exp overflows: subtract the largest score first."),
                ([np.nan] * 3, "exp overflows: subtract the largest score first."),
            ),
        ),
    ]
    with np.errstate(all="ignore"):
        return judge(attempt, cases, "Cosines differ by less than tau does, so at tau 2 the weights are nearly equal.")


def check_folded(attempt: Callable[[np.ndarray, np.ndarray, np.ndarray], Any]) -> Verdict:
    """`attempt(weights, matrices, biases) -> (matrix, bias)` of the one linear map that the mixture is."""
    weights = np.array([0.25, 0.75])
    matrices = np.array([[[1.0, 2.0], [0.0, 4.0]], [[4.0, 0.0], [8.0, 4.0]]])
    biases = np.array([[4.0, 0.0], [0.0, 8.0]])
    matrix, bias = np.tensordot(weights, matrices, 1), weights @ biases

    def flat(answer: Any) -> np.ndarray:
        return np.concatenate([np.ravel(part) for part in answer])

    def asked(*given: np.ndarray) -> np.ndarray:
        return flat(attempt(*given))

    cases = [
        Case(
            (weights, matrices, biases),
            flat((matrix, bias)),
            "two generators of width 2 (matrix, then bias)",
            (
                (flat((matrices.sum(0), biases.sum(0))), "Each generator counts with its weight."),
                (flat((matrix, biases.sum(0))), "The biases are weighted too."),
                (flat((matrices.mean(0), biases.mean(0))), "The weights are not all the same."),
                (flat((matrix / 2, bias / 2)), "The weighted sum, not the mean of the weighted ones."),
                (flat((matrix,)), "Hand back both, the matrix and the bias."),
                (flat((matrix.T, bias)), "The matrix is transposed."),
            ),
        ),
        Case((weights[:1], matrices[:1], biases[:1]), flat((matrices[0] / 4, biases[0] / 4)), "one generator"),
    ]
    return judge(asked, cases, "Linear maps add, so a hundred tasks cost what one does.")


def check_shift(attempt: Callable[[np.ndarray, np.ndarray], Any]) -> Verdict:
    """`attempt(then, now) -> float`: length of the mean move of the same images, over their root mean square spread."""
    then = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
    moved = then + np.array([[3.0, 4.0], [3.0, 4.0], [3.0, 4.0], [3.0, 4.0]])
    spun = np.array([[2.0, 2.0], [0.0, 2.0], [2.0, 0.0], [0.0, 0.0]])
    uneven = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 0.0], [0.0, 0.0]])  # distances 1, 3, 1, 1 from the mean (1, 0)
    grown = 2 * uneven + np.array([0.0, 3.0])  # mean (2, 3)
    spread = np.sqrt(2.0)
    cases = [
        Case(
            (then, moved),
            5 / spread,
            "all images moved by (3, 4), spread sqrt(2)",
            (
                (5.0, "Divide by the spread of the features then."),
                (2.5, "The spread is the root of the summed variances, sqrt(mean ||h - mean||^2)."),
                (5.0 / 1.0, "The spread is over all coordinates together."),
                (25 / 2, "Both are lengths: take the roots."),
                (7 / spread, "The length of the move is sqrt(3^2 + 4^2)."),
            ),
        ),
        Case(
            (then, spun),
            0.0,
            "images that changed places: their mean stayed",
            ((2.0, "First the mean of the moves, then its length: only what all images share counts."),),
        ),
        Case(
            (uneven, grown),
            np.sqrt(10 / 3),
            "a cloud that moved and grew to twice its size",
            (
                (np.sqrt(10 / 12), "The spread of the features *then*."),
                (np.sqrt(10) / 1.5, "The root of the mean squared distance, not the mean distance."),
            ),
        ),
    ]
    return judge(attempt, cases, "At 1 the whole cloud has moved by its own radius.")


def check_noise_gradient(attempt: Callable[..., Any]) -> Verdict:
    """`attempt(phi, auxiliary, ridge, labels)`: gradient of CE(phi W_a + stopgrad(phi W), y) with respect to phi."""
    phi, labels = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, 1])
    auxiliary, ridge = np.array([[np.log(2), 0.0], [0.0, 0.0]]), np.array([[0.0, 0.0], [np.log(3), 0.0]])
    # by hand: logits (log 2, 0) and (log 3, 0), so p = (2/3, 1/3) and (3/4, 1/4)
    wrong = np.array([[-1 / 3, 1 / 3], [3 / 4, -3 / 4]])
    right = wrong @ auxiliary.T / 2
    without = np.array([[-1 / 3, 1 / 3], [1 / 2, -1 / 2]]) @ auxiliary.T / 2
    cases = [
        Case(
            (phi, auxiliary, ridge, labels),
            right,
            "two images, two classes",
            (
                (wrong @ (auxiliary + ridge).T / 2, "stopgrad: nothing flows back through the analytic head."),
                (without, "The analytic logits are in the softmax, although no gradient flows through them."),
                (2 * right, "The loss is a mean over the images."),
                (-right, "The gradient points uphill: p - y."),
                (wrong @ ridge.T / 2, "The gradient flows through the auxiliary head; the analytic one is a constant."),
                (phi.T @ wrong / 2, "That is the gradient of a head; the one with respect to phi is asked for."),
            ),
        ),
        Case((phi, 0 * auxiliary, ridge, labels), 0 * phi, "an auxiliary head of zeros: no gradient at all"),
    ]
    return judge(attempt, cases, "Both heads say what is wrong, one of them passes it on.")


EXERCISES = {
    "mixture": check_mixture,
    "folded": check_folded,
    "noise_gradient": check_noise_gradient,
    "shift": check_shift,
}
