"""Wrong answers that were once taken for right ones, or left without a word. One exercise may have several."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cillab.teaching import solution
from tests.teaching.exercises import CHECK

Array = np.ndarray


def unit(x: Array) -> Array:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def softmax(scores: Array, axis: int = -1) -> Array:
    raised = np.exp(scores - scores.max(axis=axis, keepdims=True))
    return raised / raised.sum(axis=axis, keepdims=True)


def deviation_from_their_mean(means: Array) -> float:
    cosines = unit(means - means.mean(axis=0)) @ unit(means - means.mean(axis=0)).T
    return float(cosines[np.triu_indices(len(means), 1)].std())


def untransposed(a: Array, b: Array) -> Array:
    left, _, right = np.linalg.svd(b.T @ a)
    return left @ right.T


def move(then: Array, now: Array) -> float:
    return float(np.linalg.norm((now - then).mean(axis=0)))


def radius(x: Array) -> Array:
    return np.linalg.norm(x - x.mean(axis=0), axis=1)


def of_images_only(folder: Path) -> dict[str, int]:
    return {name: count for name, count in solution("census")(folder).items() if count}


def compensated(mean: Array, before: Array, after: Array, sigma: float) -> Array:
    square = ((before - mean) ** 2).sum(axis=1)
    weights = np.exp(-(square - square.min()) / (2 * sigma))
    return mean + weights @ (after - before) / weights.sum()


def told_by_zero(scores: Array, truth: Array, task_of: Array) -> tuple[float, float]:
    told = np.where(task_of[None] == task_of[truth][:, None], scores, 0)
    return float((told.argmax(axis=1) == truth).mean()), float((scores.argmax(axis=1) == truth).mean())


def indexed(counts: torch.Tensor, sums: torch.Tensor, gram: torch.Tensor, h: torch.Tensor, rows: torch.Tensor) -> Any:
    counts, sums = counts.clone(), sums.clone()
    counts[rows] += 1
    sums[rows] += h
    return counts, sums, gram + h.T @ h


def unpaired(a: Array, b: Array) -> tuple[float, float]:
    return float(a.mean() - b.mean()), math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / len(a))


def nearest_to_the_mean(features: Array, count: int) -> list[int]:
    return np.argsort(np.linalg.norm(features - features.mean(axis=0), axis=1))[:count].tolist()


def over_all_images(counts: torch.Tensor, sums: torch.Tensor, gram: torch.Tensor, shrink: float) -> Any:
    middle = sums.sum(dim=0) / counts.sum()
    total = gram / counts.sum() - torch.outer(middle, middle)
    total = total + shrink * total.diagonal().mean() * torch.eye(len(total)).to(total)
    weight = torch.linalg.solve(total, (sums / counts[:, None]).T).T
    return weight, -0.5 * (weight * sums / counts[:, None]).sum(dim=1)


ACCEPTED: list[tuple[str, Callable[..., Any], str]] = [
    ("check_angle_deviation", deviation_from_their_mean, "not the mean of the cosines"),
    ("check_nearest_mean", lambda x, y, new: solution("nearest_mean")(unit(x), y, new), "do not make the images unit"),
    ("check_nearest_mean", lambda x, y, new: y[(new @ unit(x).T).argmax(axis=1)], "nearest image"),
    ("check_rotation", untransposed, "already transposed"),
    ("check_shift", lambda a, b: move(a, b) / np.sqrt((radius(b) ** 2).mean()), "features *then*"),
    ("check_shift", lambda a, b: move(a, b) / radius(a).mean(), "not the mean distance"),
    ("check_ensemble", lambda s: unit(unit(s).max(axis=1)), "not the largest"),
    ("check_census", of_images_only, "ash is missing"),
    ("check_put_together", lambda a, b, there: softmax(unit(a) @ unit(b).T, axis=0) @ there, "over the new classes"),
    ("check_compensated", compensated, "the width is squared"),
    ("check_til_and_cil", told_by_zero, "-inf, not 0"),
]
SILENT: list[tuple[str, Callable[..., Any], str]] = [
    ("check_summaries", lambda m: (m[-1].mean(), np.diag(m).mean()), "mean of the diagonal"),
    ("check_etf_cosine", lambda k: 1 / (k - 1), "negative cosine"),
    ("check_feature_gradient", lambda h, w, y: (h @ w.T - np.eye(len(w))[y]) @ w, "softmax is missing"),
    ("check_mean_cosine", lambda k, length: length**2 / (k * (k - 1)), "take k away"),
    ("check_unbiased_quotient", lambda w, b, n, k: 0.8 * w / (b - 0.8 * w * (k - 1) / k / n), "n/(n - 1)"),
    ("check_three_parts", lambda a, b, c, d, e: (c - d, c - e, a - b - (c - d) - (c - e)), "two choices of now"),
    ("check_turn", lambda a, b: math.degrees(math.acos(min(1, b * (a - 1) / a / (b - 1)))), "under a root"),
    ("check_vertices", lambda u: math.sqrt(1.5) * (u - u.mean(axis=0)).T, "axis=1"),
    ("check_recursion", lambda r, w, p, y: solution("update")(r, w, p, y)[::-1], "The inverse first"),
    ("check_pull_push", lambda z, v, own: solution("pull_push")(z, v, own)[::-1], "Pull first"),
    ("check_safe_angle", lambda k: 45.0, "many classes"),
    ("check_mixture", lambda p, tau: (raised := np.exp(unit(p) @ unit(p)[-1] / tau)) / raised.sum(), "overflows"),
    ("check_w2", lambda m, s, other, t: float(np.linalg.norm(m - other)), "covariances count too"),
    ("check_separation", lambda g, c: solution("separation")(g, c) * len(set(c)) / len(g), "not of texts"),
    ("check_difference", lambda z, true: float(z[true] - np.sort(z)[-2]), "OTHER logit"),
    ("check_row", lambda truth, given, task_of: float((truth == given).mean()), "One entry per task"),
    ("check_summed", indexed, "adds it once"),
    ("check_discriminant", over_all_images, "mean of all images"),
    ("check_difference_of", unpaired, "different images"),
    ("check_herded", nearest_to_the_mean, "not each image by itself"),
    ("check_distilled", lambda old, z, t: t**2 * solution("distilled")(old, z, t), "T^2"),
    ("check_fisher", lambda h, p, y: (p**2).T @ h**2 / len(h), "Subtract 1"),
    ("check_asked", lambda q, k, top: np.argsort(((q[:, None] - k) ** 2).sum(2), 1)[:, :top], "not distances"),
    ("check_unit_logits", lambda z, tau: z / tau / (z**2).sum(axis=1, keepdims=True), "not its square"),
    ("check_harmonic", lambda a, b: math.sqrt(a * b), "geometric"),
]


@pytest.mark.parametrize(
    ("name", "wrong", "said"),
    ACCEPTED + SILENT,
    ids=lambda value: str(value).removeprefix("check_") if not callable(value) else "-",
)
def test_a_wrong_answer_is_refused_with_a_word_that_helps(name: str, wrong: Callable[..., Any], said: str) -> None:
    with np.errstate(all="ignore"):
        verdict = CHECK[name](wrong)
    assert not verdict
    assert said in verdict.message
