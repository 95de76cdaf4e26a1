"""What-ifs: exact where measured, close between, found by what a part can do, and nothing is left changed."""

import numpy as np
import pytest
import torch
from torch import Tensor

from cillab.core.contract import Learner, Mixed
from cillab.core.params import HyperParams
from cillab.geometry.heads import Head
from cillab.lab.whatif import WhatIf, mixtures


class Terms:
    """Three terms with weights of their own."""

    def __init__(self, dim: int, generator: torch.Generator) -> None:
        self.weights = torch.tensor([0.5, 0.3, 0.2])
        self.terms = 0.3 * torch.randn(3, 12, dim, generator=generator)

    def mix(self, weights: Tensor) -> None:
        self.weights = weights.clone()


class Fake(Learner[HyperParams]):
    """Features that are a bent function of a mixture; not of the family of any method."""

    seen = (4, 9, 2)  # type: ignore[assignment]

    def observe(self, task):
        raise NotImplementedError

    def head(self):
        raise NotImplementedError

    def internals(self):
        return {}

    def __init__(self, bend: float) -> None:
        generator = torch.Generator().manual_seed(3)
        self.worn, self.bend = [Terms(6, generator)], bend
        self.base = torch.randn(12, 6, generator=generator)
        self.rows = torch.randn(3, 6, generator=generator)

    def parts(self):
        return {"worn": self.worn, "empty": object()}

    def features(self, images: Tensor) -> Tensor:
        (slot,) = self.worn
        at = images.flatten(1)[:, 0].long()
        straight = (slot.weights[:, None, None] * slot.terms).sum(dim=0)
        return (self.base + straight + self.bend * straight**2)[at]

    def scores(self, features: Tensor) -> Tensor:
        return features @ self.rows.T


def asked(bend: float) -> WhatIf:
    images = torch.arange(12, dtype=torch.uint8).view(12, 1, 1, 1).expand(12, 3, 2, 2)
    found = WhatIf(Fake(bend), images, torch.zeros(12, dtype=torch.int64))
    steps = list(found.measure())
    assert steps[-1][0] == steps[-1][1] == len(steps)
    return found


def truth(found: WhatIf, factors: tuple[float, ...]) -> np.ndarray:
    return found._features(factors, slice(0, 12))


def test_mixtures_are_found_by_what_they_can_do() -> None:
    slots = mixtures(Fake(0.0))
    assert len(slots) == 1 and isinstance(slots[0], Mixed)
    assert not isinstance(torch.nn.Linear(2, 2), Mixed)


def test_linear_mixtures_are_interpolated_exactly_and_bent_ones_closely() -> None:
    straight, bent = asked(0.0), asked(0.3)
    draws = np.random.default_rng(0)
    for factors in (tuple(draws.uniform(0, 2, 3).tolist()), (0.4, 1.0, 1.0), (1.3, 0.2, 0.0)):
        np.testing.assert_allclose(straight.features(factors)[0], truth(straight, factors), atol=1e-5)
        moved = np.abs(truth(bent, factors) - bent.known[bent.one]).max()
        assert np.abs(bent.features(factors)[0] - truth(bent, factors)).max() < 0.25 * moved
    single = (1.0, 0.35, 1.0)  # one term alone: a parabola is exact for a square
    np.testing.assert_allclose(bent.features(single)[0], truth(bent, single), atol=1e-5)
    assert straight.agreement == 1.0


def test_what_was_measured_is_exact_and_the_learner_stays_as_it_was() -> None:
    found = asked(0.3)
    for factors in found.plan():
        features, exact = found.features(factors)
        assert exact
        np.testing.assert_allclose(features, truth(found, factors), atol=1e-6)
    torch.testing.assert_close(found.slots[0].weights, found.learnt[0])
    assert not found.features((0.5, 0.5, 0.5))[1]


def test_a_stopped_measurement_answers_with_what_it_has() -> None:
    whole = asked(0.3)
    found = WhatIf(whole.learner, whole.images, whole.labels)
    with pytest.raises(KeyError):
        found.features((0.0, 1.0, 1.0))
    for _, step in zip(range(3), found.measure(), strict=False):
        assert step[1] > 3
    assert found.reply(found.one).exact
    head = Head(np.eye(3, 6), np.array([0.0, 0.0, 100.0]))
    assert set(found.reply((0.5, 1.0, 1.0), head).classes) == {2}  # the class of the third row


def test_the_first_answer_waits_for_one_mixture_and_what_is_asked_is_measured_next() -> None:
    whole, factors = asked(0.3), (1.0, 0.35, 1.0)
    found = WhatIf(whole.learner, whole.images, whole.labels)
    passes: list[tuple[float, ...]] = []
    measured = found._features
    found._features = lambda factors, where: passes.append(factors) or measured(factors, where)  # type: ignore[method-assign]
    steps = found.measure()
    done, total = [next(steps) for _ in range(found.batches)][-1]
    assert passes == [found.one] and done < total
    features, exact = found.features(factors)
    assert exact and passes == [found.one, factors]
    np.testing.assert_allclose(features, truth(whole, factors), atol=1e-6)
    assert found.features(factors)[1] and len(passes) == 2  # asked twice, measured once
    for _ in range(2):
        next(steps)
    assert passes[2:] == [(1.0, 0.0, 1.0), (1.0, 2.0, 1.0)]  # before all others
    other = (1.0, 1.4, 1.0)
    assert not found.features(other)[1] and len(passes) == 4  # now it lies between what was measured
    np.testing.assert_allclose(found.features(other)[0], whole.features(other)[0], atol=1e-6)
    assert found.lacking((0.5, 0.5, 1.0))  # terms that are down together need more
    list(steps)
    assert not found.lacking((0.5, 0.5, 1.0)) and found.agreement is not None
