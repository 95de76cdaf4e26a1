"""What the course measures on features of photographs, one function a chapter; `photographs.py` writes it down.

Everything is a closed form, or some gradient steps of a linear head. What a chapter asks its reader to write is taken
from the chapter's own solutions.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from checks.solutions import (
    chapter_02,
    chapter_03,
    chapter_05,
    chapter_06,
    chapter_09,
    chapter_10b,
    chapter_15,
    chapter_18,
)

from cillab import teaching
from cillab.geometry import collapse, etf
from cillab.geometry.heads import Head, blended
from cillab.geometry.moments import Moments
from cillab.geometry.retention import ridge_probe
from cillab.teaching import Paired, paired

Array = np.ndarray


class Seen(NamedTuple):
    """Features; labels are places in the order of the stream, so that task t has the classes 10 t to 10 t + 9."""

    x: Array
    y: Array
    new: Array
    truth: Array
    names: list[str]


def means_of(x: Array, y: Array, classes: int = 100) -> Array:
    """One mean per class."""
    return np.stack([x[y == c].mean(axis=0) for c in range(classes)])


def cosine_scores(means: Array, new: Array, centred: bool = False) -> Array:
    """Cosines with the means; `centred`: as seen from their average."""
    middle = means.mean(axis=0) if centred else 0.0
    unit = (means - middle) / np.linalg.norm(means - middle, axis=1, keepdims=True)
    shown = new - middle
    return shown / np.linalg.norm(shown, axis=1, keepdims=True) @ unit.T


def discriminant(means: Array, within: Array, shrink: float = 0.05) -> tuple[Array, Array]:
    """Weight and bias of chapter 03, shrunk by a multiple of the mean variance."""
    return chapter_03.lda(means, within + shrink * np.trace(within) / len(within) * np.eye(len(within)))


def within_of(x: Array, y: Array, means: Array) -> Array:
    """Covariance around the class means."""
    away = x - means[y]
    return away.T @ away / len(x)


def said(one: Paired) -> list[float]:
    """Difference and interval in points."""
    return [round(100 * value, 2) for value in (one.difference, one.low, one.high)]


def share(right: Array) -> float:
    """A share, to a hundredth of a point."""
    return round(float(right.mean()), 4)


def steps(weight: Array, h: Array, labels: Array, count: int, allowed: Array | None = None) -> Array:
    """`count` gradient steps of cross-entropy, rate 6, on all images at once; only rows in `allowed` compete."""
    target, mask = np.eye(len(weight))[labels], np.zeros(len(weight))
    if allowed is not None:
        mask[~allowed] = -np.inf
    for _ in range(count):
        z = h @ weight.T + mask
        p = np.exp(z - z.max(axis=1, keepdims=True))
        weight = weight - 6 * (p / p.sum(axis=1, keepdims=True) - target).T @ h / len(h)
    return weight


def standard(s: Seen) -> Seen:
    """Features with mean 0 and variance 1 on average, divided by the root of their number: one rate fits all."""
    middle, scale = s.x.mean(axis=0), s.x.std() * np.sqrt(s.x.shape[1]) / 4
    return s._replace(x=(s.x - middle) / scale, new=(s.new - middle) / scale)


def angles(s: Seen) -> dict[str, Any]:
    """Chapter 01: cosines of class means."""
    means = means_of(s.x, s.y)
    centred = means - means.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    rows, columns = np.triu_indices(100, 1)
    pairs = (unit @ unit.T)[rows, columns]
    edges = np.round(np.arange(-0.7, 1.0001, 0.1), 1) + 0.0
    top = np.argsort(-pairs)[:3]
    return {
        "edges": edges.tolist(),
        "share": np.round(np.histogram(pairs, edges)[0] / len(pairs), 4).tolist(),
        "mean": round(float(pairs.mean()), 4),
        "spread": round(float(pairs.std()), 4),
        "nearest": [[s.names[rows[i]], s.names[columns[i]], round(float(pairs[i]), 2)] for i in top],
        "nc1": round(float(collapse.collapse(Moments.of(s.x, s.y)).nc1_quotient), 3),
    }


def biased(s: Seen) -> dict[str, Any]:
    """Chapter 02: the two traces on n images of a class, five draws."""
    sizes, rng, found = [2, 3, 5, 10, 20], np.random.default_rng(0), []
    for n in sizes:
        for _ in range(5):
            rows = np.concatenate([rng.choice(np.flatnonzero(s.y == c), n, replace=False) for c in range(100)])
            m = means_of(s.x[rows], s.y[rows])
            within, between = (
                within_of(s.x[rows], s.y[rows], m).trace(),
                np.square(m - m.mean(axis=0)).sum(axis=1).mean(),
            )
            found.append([round(float(within), 3), round(float(between), 3)])
    check = [chapter_02.unbiased_quotient(w, b, n, 100) for (w, b), n in zip(found[-5:], [20] * 5, strict=True)]
    assert np.ptp(check) < 1e-3 * check[0]  # all images, five times
    return {"sizes": sizes, "traces": np.array(found).reshape(len(sizes), 5, 2).tolist()}


def head_only(s: Seen) -> dict[str, Any]:
    """Chapter 04: a head of gradient steps on features that stand still."""
    s, found = standard(s), {}
    fresh = ridge_probe(s.x, s.y, 1e-3).predict(s.new) == s.truth
    old = s.truth < 90
    for kind in ("local", "seen"):
        weight = np.zeros((100, s.x.shape[1]))
        for t in range(10):
            mine, known = s.y // 10 == t, np.arange(100) // 10
            allowed = known == t if kind == "local" else known <= t
            weight = steps(weight, s.x[mine], s.y[mine], 60, allowed)
        answer = (s.new @ weight.T).argmax(axis=1)
        hit = answer == s.truth
        found[kind] = {
            "old": share(hit[old]), "new": share(hit[~old]), "old called new": share(answer[old] >= 90),
            "fresh, minus own, old": said(paired(fresh[old], hit[old])),
        }  # fmt: skip
    return {
        **found,
        "fresh": {"old": share(fresh[old]), "new": share(fresh[~old])},
        "images": [int(old.sum()), int((~old).sum())],
    }


def oriented(s: Seen) -> dict[str, Any]:
    """Chapter 05: a simplex in some orientation, turned, and blended with the means."""
    means, blends = means_of(s.x, s.y), np.linspace(0, 1, 6)
    begin = Head(means, -0.5 * np.square(means).sum(axis=1))
    hits = [blended(begin, means, float(b)).scores(s.new).argmax(axis=1) == s.truth for b in blends]
    frame = etf.simplex_etf(100, s.x.shape[1], np.random.default_rng(0))
    centre, found = means.mean(axis=0), {}
    unit = (means - centre) / np.linalg.norm(means - centre, axis=1, keepdims=True)
    for name, m in (("somewhere", frame), ("turned", frame @ chapter_05.rotation(frame, unit).T)):
        found[name] = share(((s.new - centre) @ m.T).argmax(axis=1) == s.truth)
    return {
        **found, "blends": np.round(blends, 1).tolist(), "accuracy": [share(hit) for hit in hits],
        "images": len(s.truth), "simplex, minus means": said(paired(hits[-1], hits[0])),
    }  # fmt: skip


def wider(s: Seen) -> dict[str, Any]:
    """Chapter 06: a ridge on random features."""
    onehot, kept = np.eye(100)[s.y], np.arange(len(s.y)) % 5 > 0

    def chosen(phi: Array) -> float:
        """The penalty that is best on a fifth of the training images."""
        values, vectors = np.linalg.eigh(phi[kept].T @ phi[kept])
        seen, asked = vectors.T @ (phi[kept].T @ onehot[kept]), phi[~kept] @ vectors

        def held(gamma: float) -> float:
            return float(((asked / (values.clip(min=0) + gamma) @ seen).argmax(axis=1) == s.y[~kept]).mean())

        return max((10.0**k for k in range(-2, 7)), key=held)

    def answered(phi: Array, new: Array) -> Array:
        return (new @ chapter_06.ridge(phi, onehot, chosen(phi))).argmax(axis=1) == s.truth

    widths, plain, hits = [64, 192, 512, 1024, 2048], answered(s.x, s.new), []
    for width in widths:
        mixing = np.random.default_rng(0).normal(size=(s.x.shape[1], width)) / np.sqrt(s.x.shape[1])
        hits.append(answered(np.maximum(s.x @ mixing, 0), np.maximum(s.new @ mixing, 0)))
    return {
        "widths": widths, "accuracy": [share(hit) for hit in hits], "plain": share(plain), "images": len(s.truth),
        "widest, minus plain": said(paired(hits[-1], plain)), "narrowest, minus plain": said(paired(hits[0], plain)),
    }  # fmt: skip


def sure(s: Seen) -> dict[str, Any]:
    """Chapter 09: accuracy and confidence over the scale, class means in the place of names."""
    cosines, scales, asked = cosine_scores(means_of(s.x, s.y), s.new), [1, 3, 10, 30, 100, 300], []
    for scale in scales:
        p = chapter_09.confidence(cosines, scale)
        hit = p.argmax(axis=1) == s.truth
        asked.append([share(hit), round(float(p.max(axis=1).mean()), 4)])
    return {"scales": scales, "asked": asked, "images": len(s.truth)}


def few_images(s: Seen) -> dict[str, Any]:
    """Chapter 10b: one photograph of a class plays its name."""
    F, scale = torch.nn.functional, 20.0
    centre = s.x.mean(axis=0)
    x, new = (F.normalize(torch.from_numpy(part - centre).float(), dim=1) for part in (s.x, s.new))
    rank = np.arange(len(s.y)) - np.searchsorted(s.y, s.y)
    names, base = x[rank == rank.max()], np.arange(100) % 2 == 0
    ids = np.flatnonzero(base)
    shots = np.round(16 ** (1 - np.arange(50) / 49)).astype(int)
    rows = np.concatenate([np.flatnonzero(s.y == c)[:n] for c, n in zip(ids, shots, strict=True)])
    few, few_y = x[rows], torch.from_numpy(np.searchsorted(ids, s.y[rows]))
    change = torch.zeros(x.shape[1], x.shape[1], requires_grad=True)
    optimiser, hits, answers = torch.optim.Adam([change], lr=1e-3), {}, []
    for step in range(31):
        g = F.normalize(names + names @ change.T, dim=1)
        if step in (0, 3, 10, 30):
            scores = (new @ g.detach().T).numpy()
            allowed = np.where(base[s.truth][:, None] == base[None], scores, -np.inf)
            hits[step] = allowed.argmax(axis=1) == s.truth
            answers.append((scores, share(scores.argmax(axis=1) == s.truth)))
        optimiser.zero_grad()
        F.cross_entropy(scale * few @ g[ids].T, few_y).backward()
        optimiser.step()
    scores, joint = answers[0]  # before training
    halves = chapter_10b.base_to_new(scores, s.truth, base)
    parts = {"head": ids[shots >= 8], "tail": ids[shots <= 2], "new": np.flatnonzero(~base)}
    where = {name: np.isin(s.truth, part) for name, part in parts.items()}
    return {
        "steps": list(hits), "accuracy": {n: [share(h[w]) for h in hits.values()] for n, w in where.items()},
        "images": {n: int(w.sum()) for n, w in where.items()},
        "gained": {n: said(paired(hits[30][w], hits[0][w])) for n, w in where.items()},
        "base, new, all": [round(part, 4) for part in (*halves, joint)],
    }  # fmt: skip


def tasks(s: Seen) -> dict[str, Any]:
    """Chapter 13: two heads, task by task."""
    curves: dict[str, list[float]] = {"nearest mean": [], "mine": []}
    hits: dict[str, Array] = {}
    for t in range(1, 11):
        known, here = s.y < 10 * t, s.truth < 10 * t
        means = means_of(s.x[known], s.y[known], 10 * t)
        weight, bias = discriminant(means, within_of(s.x[known], s.y[known], means))
        hits = {
            "nearest mean": cosine_scores(means, s.new[here]).argmax(axis=1) == s.truth[here],
            "mine": (s.new[here] @ weight.T + bias).argmax(axis=1) == s.truth[here],
        }
        for name, hit in hits.items():
            curves[name].append(share(hit))
    return {
        "accuracy": curves,
        "images per task": len(s.truth) // 10,
        "mine, minus nearest mean": said(paired(hits["mine"], hits["nearest mean"])),
    }


def draws(s: Seen) -> dict[str, Any]:
    """Chapter 14: a difference in twelve draws of the training images."""
    gains, shares = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        rows = np.concatenate([rng.choice(np.flatnonzero(s.y == c), 5, replace=False) for c in range(100)])
        means = means_of(s.x[rows], s.y[rows])
        plain, centred = (cosine_scores(means, s.new, c).argmax(axis=1) == s.truth for c in (False, True))
        gains.append(said(paired(centred, plain)))
        shares.append([plain.mean(), centred.mean()])
    half = teaching.share_error(shares[-1], len(s.truth))
    return {
        "centred, minus plain": gains, "images": len(s.truth),
        "unpaired half-width": round(100 * float(np.hypot(*half)), 2),
    }  # fmt: skip


def memory(s: Seen) -> dict[str, Any]:
    """Chapter 15: replay over memory."""
    s, counts, found = standard(s), [0, 1, 2, 5, 10, len(s.y) // 100], {}

    def ends(count: int, choose: Callable[[Array, int], Any]) -> Array:
        weight, kept = np.zeros((0, s.x.shape[1])), []
        for t in range(10):
            weight = np.concatenate([weight, np.zeros((10, s.x.shape[1]))])
            rows = np.concatenate([np.flatnonzero(s.y // 10 == t), *kept]).astype(int)
            weight = steps(weight, s.x[rows], s.y[rows], 60)
            mine = [np.flatnonzero(s.y == c) for c in range(10 * t, 10 * t + 10)]
            kept += [m[np.array(choose(s.x[m], count), int)] for m in mine]
        return (s.new @ weight.T).argmax(axis=1) == s.truth

    rng = np.random.default_rng(1)
    for name, choose in (
        ("herded", chapter_15.herded),
        ("drawn", lambda h, n: rng.choice(len(h), n, replace=False)),
    ):
        found[name] = [ends(count, choose) for count in counts]
    return {
        "counts": counts, "accuracy": {name: [share(hit) for hit in hits] for name, hits in found.items()},
        "herded, minus drawn": [said(paired(a, b)) for a, b in zip(*found.values(), strict=True)],
        "images": len(s.truth),
    }  # fmt: skip


def aligned(s: Seen) -> dict[str, Any]:
    """Chapter 17: heads of ten tasks, aligned by Gaussians."""
    s = standard(s)
    dim, images, epochs = s.x.shape[1], len(s.y) // 100, (100, 40, 200, 20, 80) * 2
    apart = np.zeros((100, dim))
    for t, count in enumerate(epochs):
        mine = s.y // 10 == t
        apart[10 * t : 10 * t + 10] = steps(np.zeros((10, dim)), s.x[mine], s.y[mine] - 10 * t, count)
    means = means_of(s.x, s.y)
    within = np.stack([np.cov(s.x[s.y == c].T) for c in range(100)])
    spreads = {
        "mean alone": 0 * within,
        "diagonal": np.stack([np.diag(np.diag(one)) for one in within]),
        "full, per class": within,
        "full, shared": np.repeat(within.mean(axis=0)[None], 100, axis=0),
    }

    def drawn(spread: Array) -> tuple[Array, Array]:
        rng, found = np.random.default_rng(0), []
        for mean, covariance in zip(means, spread, strict=True):
            values, vectors = np.linalg.eigh(covariance)
            found.append(mean + rng.normal(size=(images, dim)) * np.sqrt(values.clip(min=0)) @ vectors.T)
        return np.concatenate(found), np.repeat(np.arange(100), images)

    heads = {"not aligned": apart, **{name: steps(apart, *drawn(one), 100) for name, one in spreads.items()}}
    heads["all images (an oracle)"] = steps(apart, s.x, s.y, 100)
    hits = {name: (s.new @ weight.T).argmax(axis=1) == s.truth for name, weight in heads.items()}
    against = {name: said(paired(hits[name], hits["not aligned"])) for name in spreads}
    shared = said(paired(hits["full, shared"], hits["mean alone"]))
    return {
        "accuracy": {name: share(hit) for name, hit in hits.items()}, "images": len(s.truth),
        "minus not aligned": against, "full shared, minus mean alone": shared,
    }  # fmt: skip


def five_images(s: Seen) -> dict[str, Any]:
    """Chapter 18: five images of each new class."""
    rank = np.arange(len(s.y)) - np.searchsorted(s.y, s.y)
    session, base = (s.y < 60) | (rank < 5), s.y < 60
    means = means_of(s.x[session], s.y[session])
    sigma = within_of(s.x[base], s.y[base], means)
    weight, bias = discriminant(means, sigma)
    shrunk = sigma + 0.05 * np.trace(sigma) / len(sigma) * np.eye(len(sigma))
    scores = {"nearest mean": cosine_scores(means, s.new, centred=True), "discriminant": s.new @ weight.T + bias}
    noise = np.trace(np.linalg.solve(shrunk, sigma)) / np.bincount(s.y[session])
    scores["discriminant, corrected"] = scores["discriminant"] + 0.5 * noise
    hits = {name: one.argmax(axis=1) == s.truth for name, one in scores.items()}
    old = s.truth < 60
    table = {name: {"all": share(h), "base": share(h[old]), "new": share(h[~old])} for name, h in hits.items()}
    for row in table.values():
        row["H"] = round(chapter_18.harmonic(row["base"], row["new"]), 4)
    gain = {n: said(paired(hits[n][~old], hits["nearest mean"][~old])) for n in list(hits)[1:]}
    return {
        "table": table,
        "images": {"all": len(old), "base": int(old.sum()), "new": int((~old).sum())},
        "new, minus nearest mean": gain,
    }


OF_FEATURES: dict[str, Callable[[Seen], dict[str, Any]]] = {
    "01": angles, "02": biased, "04": head_only, "05": oriented, "06": wider, "09": sure, "10b": few_images,
    "13": tasks, "14": draws, "15": memory, "17": aligned, "18": five_images,
}  # fmt: skip
