"""Checks of notebooks 01 to 06: they accept the library's own answer and recognise the typical mistakes."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from cillab.geometry import accuracy, etf, nc2
from cillab.geometry.rows import pairs
from cillab.teaching import Verdict
from tests.teaching.exercises import CHECK

Array = np.ndarray


def deviation(means: Array) -> float:
    return float(np.sqrt(np.square(pairs(nc2.cosines(means)) + 1 / (len(means) - 1)).mean()))


def uncentred(means: Array) -> float:
    unit = means / np.linalg.norm(means, axis=1, keepdims=True)
    cosines = (unit @ unit.T)[np.triu_indices(len(unit), 1)]
    return float(np.sqrt(np.square(cosines + 1 / (len(unit) - 1)).mean()))


def floor(k: int, d: int) -> float:
    return math.sqrt(max(0, (k - d) / (d * (k - 1)) - 1 / (k - 1) ** 2))


def quotient(within: float, between: float, n: int, k: int) -> float:
    spread = within * n / (n - 1)
    return spread / (between - spread * (k - 1) / (k * n))


def nearest(x: Array, y: Array, new: Array, unit: bool = True) -> Array:
    ids = np.unique(y)
    means = np.stack([x[y == c].mean(axis=0) for c in ids])
    means = means / np.linalg.norm(means, axis=1, keepdims=True) if unit else means
    return ids[(new @ means.T).argmax(axis=1)]


def lda(means: Array, within: Array) -> tuple[Array, Array]:
    weight = means @ np.linalg.inv(within)
    return weight, -0.5 * (weight * means).sum(axis=1)


def torch_gradient(features: Array, weight: Array, labels: Array) -> Array:
    h = torch.tensor(features, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(h @ torch.tensor(weight).T, torch.tensor(labels), reduction="sum")
    return torch.autograd.grad(loss, h)[0].numpy()


def library_frame(basis: Array) -> Array:
    return etf.etf_from_basis(basis)


def kabsch(a: Array, b: Array) -> Array:
    left, _, right = np.linalg.svd(b.T @ a)
    return left @ right


def ridge(phi: Array, y: Array, gamma: float) -> Array:
    stacked = np.concatenate([phi, math.sqrt(gamma) * np.eye(phi.shape[1])])
    return np.linalg.lstsq(stacked, np.concatenate([y, np.zeros((phi.shape[1], y.shape[1]))]), rcond=None)[0]


def recursion(inverse: Array, weight: Array, phi: Array, y: Array) -> tuple[Array, Array]:
    inverse = np.linalg.inv(np.linalg.inv(inverse) + phi.T @ phi)
    return inverse, weight + inverse @ phi.T @ (y - phi @ weight)


def stale(inverse: Array, weight: Array, phi: Array, y: Array) -> tuple[Array, Array]:
    return recursion(inverse, weight, phi, y)[0], weight + inverse @ phi.T @ (y - phi @ weight)


def pull(confusion: Array, tasks: Array) -> float:
    new = tasks == tasks.max()
    return confusion[~new][:, new].sum() / confusion[~new].sum()


def parts(head_then: float, head_now: float, few_then: float, few_now: float, all_now: float) -> tuple[float, ...]:
    total, deep, crowding = head_then - head_now, few_then - few_now, few_now - all_now
    return deep, crowding, total - deep - crowding


RIGHT: dict[str, Callable[..., Any]] = {
    "check_angle_deviation": deviation,
    "check_angle_floor": floor,
    "check_backward_transfer": accuracy.bwt_gem,
    "check_feature_gradient": torch_gradient,
    "check_lda": lda,
    "check_mean_cosine": lambda k, length: (length**2 - k) / (k * (k - 1)),
    "check_merge": lambda n, a, m, b: (n * a + m * b) / (n + m),
    "check_nearest_mean": nearest,
    "check_passes": lambda gamma, passes: gamma / passes,
    "check_pull": pull,
    "check_recursion": recursion,
    "check_ridge": ridge,
    "check_rotation": kabsch,
    "check_three_parts": parts,
    "check_turn": lambda a, b: math.degrees(etf.growth_angle(a, b)),
    "check_unbiased_quotient": quotient,
    "check_vertices": library_frame,
}


@pytest.mark.parametrize("name", RIGHT)
def test_the_right_answer_passes(name: str) -> None:
    verdict = CHECK[name](RIGHT[name])
    assert verdict, verdict.message


WRONG: list[tuple[str, Callable[..., Any], str]] = [
    ("check_angle_deviation", uncentred, "far from the origin"),
    ("check_angle_floor", lambda k, d: floor(k, d) ** 2, "Take the root"),
    ("check_backward_transfer", lambda r: -accuracy.bwt_gem(r), "now minus then"),
    ("check_backward_transfer", lambda r: -accuracy.forgetting_chaudhry(r), "when the task was learnt"),
    ("check_feature_gradient", lambda h, w, y: -torch_gradient(h, w, y), "uphill"),
    ("check_lda", lambda m, s: (m, -0.5 * (m**2).sum(axis=1)), "Sigma is not used"),
    ("check_lda", lambda m, s: (lda(m, s)[0], 0 * lda(m, s)[1]), "Without its bias"),
    ("check_mean_cosine", lambda k, length: (length - k) / (k * (k - 1)), "goes in squared"),
    ("check_merge", lambda n, a, m, b: (a + b) / 2, "weigh more than one"),
    ("check_nearest_mean", lambda x, y, new: nearest(x, y, new, unit=False), "long mean must not win"),
    ("check_nearest_mean", lambda x, y, new: np.searchsorted(np.unique(y), nearest(x, y, new)), "look the class id up"),
    ("check_passes", lambda gamma, passes: gamma * passes, "makes the penalty weaker"),
    ("check_pull", lambda c, t: pull(c.T, t), "Rows are true classes"),
    ("check_recursion", stale, "Use the new inverse"),
    ("check_ridge", lambda phi, y, gamma: ridge(phi, y, gamma).T, "[feature, class]"),
    ("check_rotation", lambda a, b: kabsch(a, b).T, "turns back"),
    ("check_three_parts", lambda *a: (*parts(*a)[:2], a[0] - a[1]), "taken away"),
    ("check_turn", etf.growth_angle, "Degrees"),
    ("check_unbiased_quotient", lambda w, b, n, k: w * n / (n - 1) / b, "biased too"),
    ("check_vertices", lambda u: library_frame(u).T, "One row per vertex"),
]


@pytest.mark.parametrize(("name", "attempt", "hint"), WRONG)
def test_typical_mistakes_are_recognised(name: str, attempt: Callable[..., Any], hint: str) -> None:
    verdict = CHECK[name](attempt)
    assert not verdict
    assert hint in verdict.message


@pytest.mark.parametrize("name", RIGHT)
def test_nothing_breaks_a_notebook(name: str) -> None:
    check: Callable[[Any], Verdict] = CHECK[name]
    for attempt in (lambda *_: None, lambda *_: "text", lambda *_: 1 / 0, lambda: 1, lambda *_: (1, 2, 3)):
        assert not check(attempt)
