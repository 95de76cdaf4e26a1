"""RAPF, LingoCL and MG-CLIP against their equations."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cillab.learners.rapf import fused
from tests.learners import tiny_clip

IMAGES = tiny_clip.images()


def logits(learner) -> Tensor:
    with torch.no_grad():
        return learner.logits(IMAGES)


def matrix(seed: int, size: int = 6) -> Tensor:
    return torch.randn(size, size, generator=torch.Generator().manual_seed(seed))


def test_fusion_with_everything_new_is_the_new_map_and_without_a_change_nothing() -> None:
    old, new = matrix(0), matrix(1)
    torch.testing.assert_close(fused(old, new, 1.0), new, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(fused(old, old.clone(), 0.6), old, rtol=0, atol=1e-5)


def test_fusion_by_a_loop_over_entries() -> None:
    old, new = matrix(0).double(), matrix(1).double()
    u, s, vt = torch.linalg.svd(old)
    p, q = u.T @ new, torch.diag(s) @ vt
    most, mixed = max(abs(float(x)) for x in (p - q).flatten()), p.clone()
    for i in range(6):
        for j in range(6):
            m = min(1.0, abs(float(p[i, j] - q[i, j])) / most + 0.3)
            mixed[i, j] = m * p[i, j] + (1 - m) * q[i, j]
    torch.testing.assert_close(fused(old, new, 0.3), u @ mixed)


@pytest.mark.parametrize(("name", "changes"), [("rapf", {"epochs": 0}), ("lingocl", {"epochs": 0})])
def test_untrained_they_are_zero_shot_clip(name: str, changes: dict) -> None:
    learner = tiny_clip.taught(name, 2, template="a photo of a {}.", **changes)
    zero = tiny_clip.taught("zeroshot-clip", 2)
    torch.testing.assert_close(logits(learner), logits(zero), rtol=0, atol=1e-3)


def test_mg_clip_with_text_alone_and_no_step_ranks_as_zero_shot_clip() -> None:
    learner = tiny_clip.taught("mg-clip", 2, weight=0.0, template="a photo of a {}.", **{"fit.epochs": 0})
    zero = tiny_clip.taught("zeroshot-clip", 2)
    assert torch.equal(logits(learner).argmax(1), logits(zero).argmax(1))
    torch.testing.assert_close(logits(learner), logits(zero).log_softmax(1), rtol=0, atol=1e-3)


def test_mg_clip_answers_with_both_heads() -> None:
    learner = tiny_clip.taught("mg-clip", 2)
    with torch.no_grad():
        v = learner.features(IMAGES)
        text = (learner.text.scale * v @ learner.text.prototypes.T).softmax(1)
        rows = (learner.rows.scale * v @ F.normalize(learner.rows.weight, dim=1).T).softmax(1)
    torch.testing.assert_close(logits(learner).exp(), (text + 4 * rows) / 5, rtol=1e-4, atol=1e-6)


def test_mg_clip_counts_epochs_once_and_stops_when_negatives_have_moved() -> None:
    still = tiny_clip.taught("mg-clip", 1, moved=100.0, **{"fit.epochs": 3})
    moved = tiny_clip.taught("mg-clip", 2, moved=1e-9, **{"fit.epochs": 3})
    assert float(still.internals()["gap/epochs"]) == 3 and len(still.internals()["gap/negatives"]) == 4
    assert float(moved.internals()["gap/epochs"]) == 1 and len(moved.internals()["gap/negatives"]) == 2


def test_the_targets_of_lingocl_never_move() -> None:
    one, two = tiny_clip.taught("lingocl", 1), tiny_clip.taught("lingocl", 2)
    assert torch.equal(one.head().weight, two.head().weight[:2])
    assert not torch.equal(logits(one), logits(two)[:, :2])  # features did


def test_rapf_holds_names_apart_that_are_near() -> None:
    how = {"near": 10.0, "mix": 1.0, "replayed": 0, "fit.epochs": 6, "fit.lr": 0.01}
    held, free = (tiny_clip.taught("rapf", 2, apart=a, **how) for a in (50.0, 0.0))

    def margin(learner) -> float:
        drawn, _ = learner.memory.sample(50, torch.Generator().manual_seed(0), (0, 1))
        cosines = F.normalize(learner.map(drawn), dim=1) @ learner.classifier.prototypes.T
        own = cosines.gather(1, torch.tensor([0] * 50 + [1] * 50)[:, None])
        return float((own - cosines[:, 2:]).detach().mean())

    assert margin(held) > 0 > margin(free)
