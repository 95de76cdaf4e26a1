"""What a learner would answer with other mixing weights or another head: at once, and exactly where that was measured.

A forward pass of some hundred images takes seconds on a laptop, and slots stand behind every block, so that nothing can
be replayed from a cached prefix. But the features of the probe are smooth in the weights. So a few mixtures are
measured once, and between them features are interpolated:

    z(f) = z(1) + sum_i q_i(f_i) + p(f) [z(0) - z(1) - sum_i (z(1 - e_i) - z(1))]

f is a factor per term (1 = as learnt, 0 = off), q_i the parabola through the measured factors 0, 1 and 2 of term i, and
p(f) the share of pairs of terms that are turned down together. What was measured is answered exactly: each term alone
switched off, all of them, only the newest. Scores are those of the learner's own classifier on these features.

The first answer needs one measurement, of the mixture as it was learnt. A question that comes before those around it
were measured is answered by the learner itself, and what the next one like it needs is measured next.
"""

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import RLock
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from cillab.core import rng
from cillab.core.contract import Learner, Mixed
from cillab.core.errors import CillabError
from cillab.explain.gradcam import learner_backbone, maps_of, target_score
from cillab.geometry.heads import Head
from cillab.lab.maps import CAM_TARGETS, cam_floors

Factors = tuple[float, ...]
BATCH = 64  # images between two chances to stop
TRIALS = 2  # mixtures that are measured to see how well the interpolation answers
_DOUBLED = 12  # terms up to which factor 2 is measured as well


def mixtures(learner: Learner[Any]) -> list[Mixed]:
    """Everything a learner wears that mixes one term per task, first layer first; empty for most learners."""
    found: list[Mixed] = []
    for part in learner.parts().values():
        found += [one for one in (part if hasattr(part, "__iter__") else (part,)) if isinstance(one, Mixed)]  # type: ignore[union-attr]
    return [one for one in found if len(one.weights)]


@contextmanager
def mixed(slots: Sequence[Mixed], learnt: Sequence[Tensor], factors: Sequence[float] | None) -> Iterator[None]:
    """Inside the context every weight is the learnt one times the factor of its term; afterwards as learnt."""
    try:
        for slot, weights in zip(slots, learnt, strict=True):
            slot.mix(weights if factors is None else weights * torch.as_tensor(factors[: len(weights)]).to(weights))
        yield
    finally:
        for slot, weights in zip(slots, learnt, strict=True):
            slot.mix(weights)


@dataclass(frozen=True)
class Reply:
    """Answers to all images under one mixture and head."""

    classes: Int64[np.ndarray, " image"]  # class ids
    exact: bool  # was this very mixture measured?
    milliseconds: float


class WhatIf:
    """A learner and some images, ready to be asked. Several sessions may share it: every method takes the lock."""

    def __init__(
        self, learner: Learner[Any], images: UInt8[Tensor, "image 3 height width"], labels: Int64[Tensor, " image"]
    ) -> None:
        """Nothing is computed yet: run `measure` to its end, or as far as patience goes."""
        self.learner, self.images, self.labels = learner, images, labels
        self.slots = mixtures(learner)
        self.learnt = [slot.weights.detach().clone() for slot in self.slots]
        self.count = max((len(weights) for weights in self.learnt), default=0)  # terms that can be dragged
        self.known: dict[Factors, Float[np.ndarray, "image feature"]] = {}
        self.agreement: float | None = None  # share of trial answers that the interpolation gets right
        self.wanted: tuple[Factors, ...] = ()  # what the last question that could not be interpolated lacked
        self.lock = RLock()
        self.door = RLock()  # a question holds it: measuring waits outside, between two batches
        self._asked: tuple[Factors | None, np.ndarray] = None, np.empty((0, 0))  # measured for the last question

    @property
    def one(self) -> Factors:
        """As learnt."""
        return (1.0,) * self.count

    def plan(self) -> list[Factors]:
        """The mixtures that are measured, the most asked for first."""
        n = self.count
        if not n:
            return [()]
        newest = (0.0,) * (n - 1) + (1.0,)
        around = [one for at in reversed(range(n)) for one in self._around(at)]
        return list(dict.fromkeys([self.one, (0.0,) * n, newest, *around]))

    def _around(self, at: int) -> list[Factors]:
        """One term off, or twice as strong, and all others as learnt: what its parabola goes through."""
        values = (0.0, 2.0) if self.count <= _DOUBLED else (0.0,)
        return [tuple(value if k == at else 1.0 for k in range(self.count)) for value in values]

    def lacking(self, factors: Factors) -> tuple[Factors, ...]:
        """What is to be measured before this mixture can be interpolated; empty for one that was measured."""
        if factors in self.known:
            return ()
        needed = [one for at, factor in enumerate(factors) if factor != 1 for one in self._around(at)]
        if sum(factor < 1 for factor in factors) > 1:  # then all terms off are compared with every one of them off
            needed += [(0.0,) * self.count, *(self._around(at)[0] for at in range(self.count))]
        return tuple(one for one in dict.fromkeys(needed) if one not in self.known)

    def measure(self) -> Generator[tuple[int, int], None, None]:
        """Measure the plan and try the interpolation; yields batches done and to do, a chance to stop.

        After the first `batches` it can be asked anything.
        """
        plan, draws = self.plan(), rng.numpy_stream(1993, "what-if")
        trials = [tuple(draws.uniform(0, 2, self.count).round(2).tolist()) for _ in range(TRIALS if self.count else 0)]
        total, done = self.batches * (len(plan) + len(trials)), 0
        hits: list[np.ndarray] = []
        while plan or trials:
            factors = next((one for one in self.wanted if one in plan), (plan or trials)[0])
            (plan if plan else trials).remove(factors)
            guess = self.reply(factors) if factors not in self.plan() else None
            found = []
            for where in range(0, len(self.images), BATCH):
                with self.door:
                    pass
                found.append(self._features(factors, slice(where, where + BATCH)))
                done += 1
                if len(found) == self.batches:
                    self.known[factors] = np.concatenate(found)
                yield done, total
            if guess is not None:
                hits.append(guess.classes == self.reply(factors).classes)
        self.agreement = float(np.mean(hits)) if hits else None

    @property
    def batches(self) -> int:
        """Batches of one mixture."""
        return -(-len(self.images) // BATCH)

    def _features(self, factors: Factors, where: slice) -> Float[np.ndarray, "image feature"]:
        """Features of some images under a mixture, by the learner itself."""
        with self.lock, mixed(self.slots, self.learnt, factors or None), torch.no_grad():
            return self.learner.features(self.images[where]).float().cpu().numpy()

    def features(self, factors: Factors) -> tuple[Float[np.ndarray, "image feature"], bool]:
        """Features of all images under a mixture, and whether they were measured; else interpolated as above.

        Where that is not possible yet they are measured now, which takes as long as the learner takes for all images.

        Raises:
            KeyError: nothing was measured yet.
        """
        start = self.known[self.one]
        if factors in self.known:
            return self.known[factors], True
        with self.door:
            if lacking := () if factors == self._asked[0] else self.lacking(factors):
                self.wanted = lacking
                where = range(0, len(self.images), BATCH)
                self._asked = factors, np.concatenate([self._features(factors, slice(a, a + BATCH)) for a in where])
            if factors == self._asked[0]:
                return self._asked[1], True
        out = start.copy()
        for share, at in _shares(factors, self.known, self.plan()):
            out += share * (self.known[at] - start)
        return out, False

    def reply(self, factors: Factors, head: Head | None = None) -> Reply:
        """What all images are answered under a mixture, by the learner's classifier or another head."""
        began = time.perf_counter()
        features, exact = self.features(factors)
        seen = np.asarray(self.learner.seen, dtype=np.int64)
        if head is None:
            with self.door, self.lock, torch.no_grad():
                scores = self.learner.scores(torch.as_tensor(features).to(self.images.device)).float().cpu().numpy()
        else:
            scores = head.scores(features)
        return Reply(seen[scores.argmax(axis=1)], exact, 1000 * (time.perf_counter() - began))

    def maps(
        self, index: int, factors: Factors, head: Head | None = None
    ) -> dict[str, Float[np.ndarray, "row column"]]:
        """Grad-CAM of one image under a mixture and a head, computed anew; targets without a score are left out."""
        image, label = self.images[index : index + 1], self.labels[index : index + 1]
        learner = self.learner

        def scores(where: slice) -> dict[str, Tensor]:
            features = learner.features(image[where])
            logits = learner.scores(features) if head is None else _logits(head, features)
            own = label[where].to(logits.device)
            return {name: target_score(logits, learner.seen, name, own) for name in CAM_TARGETS}

        with self.door, self.lock, mixed(self.slots, self.learnt, factors or None):
            found = maps_of(learner_backbone(learner), scores, 1)
        arrays = {name: one[0].detach().float().cpu().numpy() for name, one in found.items()}
        return {name: values for name, values in arrays.items() if np.isfinite(values).all()}

    def floors(self) -> dict[str, float]:
        """What 95 % of the maps of a random head stay below, by target: a map that does not reach it says nothing.

        Of the learnt mixture and classifier. Empty for a learner whose features carry no gradient.
        """
        with self.lock:
            try:
                found = cam_floors(self.learner, self.images, self.labels)
            except CillabError:
                return {}
        return {name: value for name, value in found.items() if np.isfinite(value)}


def _logits(head: Head, features: Float[Tensor, "image feature"]) -> Float[Tensor, "image cls"]:
    """The scores of a head, with gradient."""
    rows = features / features.norm(dim=-1, keepdim=True) if head.unit else features
    weight, bias = (torch.as_tensor(values).to(rows) for values in (head.weight, head.bias))
    return rows @ weight.T + bias


def _shares(factors: Factors, known: dict[Factors, Any], plan: Sequence[Factors]) -> Iterator[tuple[float, Factors]]:
    """How much of each measured difference from the learnt mixture the interpolation takes."""
    n = len(factors)
    down = np.clip(1 - np.asarray(factors), 0, 1)
    every = (0.0,) * n
    pairs = (down.sum() ** 2 - np.square(down).sum()) / (n * (n - 1)) if n > 1 and every in known else 0.0
    if pairs:
        yield float(pairs), every
    for at in range(n):
        off, double = (tuple(v if k == at else 1.0 for k in range(n)) for v in (0.0, 2.0))
        u = factors[at] - 1
        if off in known and off in plan:
            with_double = double in known and double in plan
            yield float(u * (u - 1) / 2 if with_double else -u) - float(pairs), off
            if with_double:
                yield float(u * (u + 1) / 2), double
