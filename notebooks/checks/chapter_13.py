"""Exercises of notebook 13: three sums that grow, and the discriminant that follows from them."""

from collections.abc import Callable
from typing import Any

from cillab.teaching import Case, Verdict, judge

import torch
from torch import Tensor

_H = torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.0, 1.0], [2.0, 2.0], [-1.0, 0.5], [1.0, 0.0]], dtype=torch.float64)
_ROWS = torch.tensor([0, 1, 0, 2, 2, 1])
Sums = tuple[Tensor, Tensor, Tensor]


def _by_loop(counts: Tensor, sums: Tensor, gram: Tensor, h: Tensor, rows: Tensor) -> Sums:
    counts, sums, gram = counts.clone(), sums.clone(), gram.clone()
    for feature, row in zip(h, rows.tolist(), strict=True):
        counts[row] += 1
        sums[row] += feature
        gram += torch.outer(feature, feature)
    return counts, sums, gram


def _start() -> Sums:
    return (
        torch.tensor([2.0, 0.0, 1.0], dtype=torch.float64),
        torch.tensor([[1.0, 1.0], [0.0, 0.0], [2.0, -1.0]], dtype=torch.float64),
        torch.tensor([[5.0, 1.0], [1.0, 3.0]], dtype=torch.float64),
    )


def check_summed(attempt: Callable[..., Any]) -> Verdict:
    """`attempt(counts, sums, gram, h, rows) -> (counts, sums, gram)`: a batch is added and nothing written in place."""

    def flat(*given: Tensor) -> Any:
        return torch.cat([part.flatten() for part in attempt(*given)])

    given = _start()
    right = torch.cat([part.flatten() for part in _by_loop(*given, _H, _ROWS)])
    counts, sums, gram = (torch.zeros_like(part) for part in given)
    alone = torch.cat([part.flatten() for part in _by_loop(counts, sums, gram, _H, _ROWS)])
    twice = torch.cat([part.flatten() for part in _by_loop(*given, _H[:0], _ROWS[:0])])
    last = [2, 5, 4]  # the last image of each class: all that an indexed assignment leaves
    once = _joined((given[0] + 1, given[1] + _H[last], given[2] + _H.T @ _H))
    meaned = given[2] + _H.T @ _H / len(_H)
    cases = [
        Case(
            (*given, _H, _ROWS),
            right,
            "six images of three classes",
            (
                (alone, "The sums so far are lost: add the batch to them."),
                (twice, "Nothing was added."),
                (once, "A class comes more than once in a batch, and an indexed assignment adds it once."),
                (torch.cat([right[:9], meaned.flatten()]), "G is a sum, not a mean."),
                (torch.cat([right[3:9], right[:3], right[9:]]), "In the order counts, sums, gram."),
            ),
        ),
        Case((*_start(), _H[:1], _ROWS[1:2]), _joined(_by_loop(*_start(), _H[:1], _ROWS[1:2])), "one image"),
    ]
    verdict = judge(flat, cases, "Three sums: whatever comes later can be added, in any order.")
    kept = _start()
    if verdict and not all(torch.equal(one, two) for one, two in zip(given, kept, strict=True)):
        return Verdict(False, "the numbers are right, but the old sums were written in place. Replace them: a = a + b.")
    return verdict


def _joined(parts: Sums) -> Tensor:
    return torch.cat([part.flatten() for part in parts])


def _head(within: Tensor, means: Tensor, shrink: float) -> Tensor:
    shrunk = within + shrink * torch.trace(within) / len(within) * torch.eye(len(within), dtype=within.dtype)
    weight = means @ torch.linalg.inv(shrunk)
    return torch.cat([weight.flatten(), -0.5 * (weight * means).sum(dim=1)])


def check_discriminant(attempt: Callable[..., Any]) -> Verdict:
    """`attempt(counts, sums, gram, shrink) -> (weight, bias)`: the linear discriminant from three sums."""

    def flat(*given: Any) -> Any:
        return torch.cat([part.flatten() for part in attempt(*given)])

    zero = (torch.zeros(3).double(), torch.zeros(3, 2).double(), torch.zeros(2, 2).double())
    sums = _by_loop(*zero, _H, _ROWS)
    means = torch.stack([_H[c == _ROWS].mean(dim=0) for c in range(3)])
    away = _H - means[_ROWS]
    within, whole = away.T @ away / len(_H), sums[2] / len(_H)
    middle = _H - _H.mean(dim=0)
    total, uneven = middle.T @ middle / len(_H), (sums[2] - means.T @ means) / len(_H)
    right = _head(within, means, 0.1)
    cases = [
        Case(
            (*sums, 0.1),
            right,
            "six images of three classes",
            (
                (_head(whole, means, 0.1), "G alone is not the covariance: take the class means out."),
                (_head(within * len(_H), means, 0.1), "Divide the scatter by the number of images."),
                (_head(within * len(_H) / 3, means, 0.1), "Divide by the number of images, not of classes."),
                (_head(within, means, 0.0), "The shrinkage is missing."),
                (_head(within, means, 0.1 * 2), "Shrinkage is a multiple of the MEAN variance: trace over D."),
                (
                    _head(total, means, 0.1),
                    "Around the class means: that is the covariance around the mean of all images.",
                ),
                (_head(uneven, means, 0.1), "The mean of a class counts n_c times."),
                (_head(within * 6 / 5, means, 0.1), "The divisor is n, not n - 1."),
                (
                    _head(within, means, 0.2 / float(torch.trace(within))),
                    "Shrinkage is a multiple of the mean variance.",
                ),
                (torch.cat([right[:6], 2 * right[6:]]), "The bias is minus *half* of w_c . mu_c."),
                (torch.cat([right[:6], -right[6:]]), "The bias is minus half of w_c . mu_c."),
                (torch.cat([right[:6], 0 * right[6:]]), "The bias is missing."),
            ),
        ),
        Case((*sums, 10.0), _head(within, means, 10.0), "a large shrinkage"),
    ]
    return judge(flat, cases, "All classes, one matrix, no old image.")


EXERCISES = {"summed": check_summed, "discriminant": check_discriminant}
