"""Checks of notebooks 13 and later: independent answers pass, typical mistakes are recognised, nothing breaks."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax

from tests.teaching.exercises import CHECK


def sums(counts: Any, total: Any, gram: Any, h: Any, rows: Any) -> Any:
    hit = torch.nn.functional.one_hot(rows, len(counts)).double()
    return counts + hit.sum(0), total + hit.T @ h, gram + torch.einsum("ij,ik->jk", h, h)


def in_place(counts: Any, total: Any, gram: Any, h: Any, rows: Any) -> Any:
    new = sums(counts, total, gram, h, rows)
    return counts.copy_(new[0]), total.copy_(new[1]), gram.copy_(new[2])


def head(counts: Any, total: Any, gram: Any, shrink: float, centred: bool = True) -> Any:
    means = total / counts[:, None]
    within = (gram - (means.T * counts) @ means * centred) / counts.sum()
    within += shrink * within.trace() / len(within) * torch.eye(len(within)).double()
    weight = means @ torch.linalg.inv(within)
    return weight, -(weight * means).sum(1) / 2


def differences(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    d = [int(x) - int(y) for x, y in zip(a, b, strict=True)]
    mean = sum(d) / len(d)
    return mean, (sum((one - mean) ** 2 for one in d) / (len(d) - 1) / len(d)) ** 0.5


def best_there(right: np.ndarray, chosen: np.ndarray) -> float:
    best = max(range(len(right)), key=lambda row: right[row][chosen].mean())
    return right[best][chosen].mean() - right[best][~chosen].mean()


def majority(votes: np.ndarray, size: int) -> list[int]:
    found: list[int] = []
    for start in range(0, len(votes), size):
        piece = votes[start : start + size].tolist()
        found += [min(set(piece), key=lambda v, p=piece: (-p.count(v), v))] * len(piece)
    return found


def settings(scores: np.ndarray, truth: np.ndarray, task_of: np.ndarray) -> tuple[float, float]:
    told = [
        max(np.flatnonzero(task_of == task_of[y]), key=lambda c, s=s: s[c]) for s, y in zip(scores, truth, strict=True)
    ]
    return float((np.array(told) == truth).mean()), float((scores.argmax(1) == truth).mean())


def weighted(phi: np.ndarray, y: np.ndarray, v: np.ndarray, gamma: float) -> np.ndarray:
    return np.linalg.inv(phi.T @ np.diag(v) @ phi + gamma * np.eye(phi.shape[1])) @ phi.T @ np.diag(v) @ y


def herding(features: np.ndarray, count: int) -> list[int]:
    """Scores <w, h> of the greedy rule written as in kernel herding: least ||k mu - sum||."""
    taken: list[int] = []
    for k in range(1, count + 1):
        rest = k * features.mean(0) - features[taken].sum(0)
        free = set(range(len(features))) - set(taken)
        taken.append(min(free, key=lambda i, r=rest: float(((r - features[i]) ** 2).sum())))
    return taken


def kept_answers(old: Any, scores: Any, temperature: float) -> float:
    a, b = (torch.as_tensor(part) / temperature for part in (old, scores))
    return float(torch.nn.functional.cross_entropy(b, a.softmax(dim=1)))


def importance(h: np.ndarray, p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """By autograd, image by image."""
    found = np.zeros((p.shape[1], h.shape[1]))
    for feature, chances, label in zip(h, p, labels, strict=True):
        weight = torch.zeros(p.shape[1], h.shape[1], dtype=torch.float64, requires_grad=True)
        z = torch.log(torch.from_numpy(chances)) + weight @ torch.from_numpy(feature)
        loss = torch.nn.functional.cross_entropy(z[None], torch.tensor([int(label)]))
        found += torch.autograd.grad(loss, weight)[0].numpy() ** 2
    return found / len(h)


def followed(mean: np.ndarray, before: np.ndarray, after: np.ndarray, sigma: float) -> np.ndarray:
    """Log-weights through SciPy's softmax."""
    weights = softmax([-float((one - mean) @ (one - mean)) / (2 * sigma**2) for one in before])
    return mean + sum(w * (b - a) for w, a, b in zip(weights, before, after, strict=True))


def careless(mean: np.ndarray, before: np.ndarray, after: np.ndarray, sigma: float) -> np.ndarray:
    weights = np.exp(-((before - mean) ** 2).sum(axis=1) / (2 * sigma**2))
    return mean + weights @ (after - before) / weights.sum()


def nearest_keys(query: np.ndarray, keys: np.ndarray, top: int) -> list[list[int]]:
    cosines = torch.cosine_similarity(torch.from_numpy(query)[:, None], torch.from_numpy(keys)[None], dim=2)
    return cosines.topk(top, dim=1).indices.tolist()


def components(query: np.ndarray, attention: np.ndarray, keys: np.ndarray) -> list[list[float]]:
    """Pair by pair, in plain floats."""

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float(sum(a * b) / (sum(a * a) * sum(b * b)) ** 0.5)

    return [[cosine(q * a, k) for a, k in zip(attention, keys, strict=True)] for q in query]


def semantic(old: np.ndarray, new: np.ndarray, there: np.ndarray) -> np.ndarray:
    a, b = (torch.nn.functional.normalize(torch.from_numpy(part), dim=1) for part in (old, new))
    return ((a @ b.T).softmax(dim=1) @ torch.from_numpy(there)).numpy()


RIGHT: dict[str, Callable[..., Any]] = {
    "check_summed": sums,
    "check_discriminant": head,
    "check_difference_of": differences,
    "check_optimism": best_there,
    "check_voted": majority,
    "check_til_and_cil": settings,
    "check_harmonic": lambda a, b: 0 if not a * b else 1 / ((1 / a + 1 / b) / 2),
    "check_weighted_ridge": weighted,
    "check_herded": herding,
    "check_distilled": kept_answers,
    "check_fisher": importance,
    "check_unit_logits": lambda z, tau: torch.nn.functional.normalize(torch.from_numpy(z), dim=1) / tau,
    "check_compensated": followed,
    "check_asked": nearest_keys,
    "check_mixed": components,
    "check_put_together": semantic,
}

WRONG: list[tuple[str, Callable[..., Any], str]] = [
    ("check_asked", lambda q, k, top: np.argsort(-(q @ k.T), axis=1)[:, :top], "long key must not win"),
    ("check_asked", lambda q, k, top: nearest_keys(-q, k, top), "least similar"),
    ("check_mixed", lambda q, a, k: components(q, np.ones_like(a), k), "no effect yet"),
    ("check_mixed", lambda q, a, k: ((q[:, None] * a) * k).sum(axis=2), "both lengths"),
    ("check_mixed", lambda q, a, k: softmax(components(q, a, k), axis=1), "without a softmax"),
    ("check_put_together", lambda o, n, t: t[(o @ n.T).argmax(axis=1)], "alone is not enough"),
    ("check_put_together", lambda o, n, t: softmax(o @ n.T, axis=1) @ t, "Cosines, not products"),
    ("check_unit_logits", lambda z, tau: z / np.linalg.norm(z, axis=1, keepdims=True), "Divide by tau"),
    ("check_unit_logits", lambda z, tau: z / (tau * np.linalg.norm(z)), "One length per image"),
    ("check_compensated", lambda m, b, a, s: m + (a - b).mean(axis=0), "weigh the moves"),
    ("check_compensated", careless, "subtract the smallest"),
    ("check_herded", lambda h, k: np.argsort(np.linalg.norm(h - h.mean(0), axis=1))[:k][::-1].tolist(), "one after"),
    ("check_distilled", lambda a, b, t: kept_answers(a, b, 1.0), "temperature"),
    ("check_distilled", lambda a, b, t: kept_answers(b, a, t), "OLD"),
    ("check_fisher", lambda h, p, y: importance(h, p, y) * len(h), "not the sum"),
    ("check_fisher", lambda h, p, y: ((p - np.eye(2)[y]).T @ h / len(h)) ** 2, "Square each"),
    ("check_summed", in_place, "written in place"),
    ("check_summed", lambda c, s, g, h, r: sums(0 * c, 0 * s, 0 * g, h, r), "are lost"),
    ("check_discriminant", lambda *a: head(*a, centred=False), "take the class means out"),
    ("check_discriminant", lambda *a: (head(*a)[0], 0 * head(*a)[1]), "bias is missing"),
    ("check_difference_of", lambda a, b: (differences(a, b)[0], differences(a, b)[1] * 8**0.5), "root of n"),
    ("check_difference_of", lambda a, b: differences(b, a), "A minus B"),
    ("check_optimism", lambda r, c: r[:, c].mean(1).max() - r[:, ~c].mean(1).max(), "CHOSEN"),
    ("check_optimism", lambda r, c: r[:, c].mean(1).max(), "away"),
    ("check_voted", lambda v, size: np.full(len(v), np.bincount(v).argmax()), "within each batch"),
    ("check_voted", lambda v, size: v, "Nothing was voted"),
    ("check_til_and_cil", lambda s, y, t: settings(s, y, t)[::-1], "TIL first"),
    ("check_harmonic", lambda a, b: (a + b) / 2, "plain mean"),
    ("check_weighted_ridge", lambda p, y, v, g: weighted(p, y, 0 * v + 1, g), "not used"),
    ("check_weighted_ridge", lambda p, y, v, g: weighted(p, y, v, g).T, "[feature, class]"),
]


@pytest.mark.parametrize("name", RIGHT)
def test_an_independent_answer_passes(name: str) -> None:
    verdict = CHECK[name](RIGHT[name])
    assert verdict, verdict.message


@pytest.mark.parametrize(("name", "attempt", "hint"), WRONG)
def test_typical_mistakes_are_recognised(name: str, attempt: Callable[..., Any], hint: str) -> None:
    verdict = CHECK[name](attempt)
    assert not verdict
    assert hint in verdict.message, verdict.message


@pytest.mark.parametrize("name", RIGHT)
def test_nothing_breaks_a_notebook(name: str) -> None:
    for attempt in (lambda *_: None, lambda *_: "text", lambda *_: 1 / 0, lambda: 1, lambda *_: (1, 2, 3)):
        assert not CHECK[name](attempt)
