"""RAPF, LingoCL, MG-CLIP and ZSCL against their equations."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cillab.learners.checks import learn
from cillab.learners.rapf import fused
from cillab.learners.zscl import agreement
from tests.learners import tiny, tiny_clip

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


def test_rows_of_mg_clip_start_as_class_means_and_old_ones_stay() -> None:
    untrained, how = tiny_clip.learner("mg-clip", **{"fit.epochs": 0, "head.epochs": 0}), {"fit.epochs": 0}
    for task in tiny.tasks(2):
        learn(untrained, task)
        images, labels = next(iter(task.batches(24)))
        with torch.no_grad():
            v = untrained.features(images)
        rows = untrained.rows.weight[[untrained.seen.index(c) for c in task.classes]]
        means = torch.stack([v[labels == c].mean(dim=0) for c in task.classes])
        torch.testing.assert_close(F.normalize(rows, dim=1), F.normalize(means, dim=1), rtol=1e-3, atol=1e-4)
    one, two = tiny_clip.taught("mg-clip", 1, **how), tiny_clip.taught("mg-clip", 2, **how)
    assert torch.equal(one.rows.weight, two.rows.weight[:2])


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


def test_what_rapf_draws_of_old_classes_trains_its_map() -> None:
    how = {"mix": 1.0, "apart": 0.0, "fit.lr": 0.01}
    with_old, without = (tiny_clip.taught("rapf", 2, replayed=n, **how) for n in (2, 0))
    drawn, labels = with_old.memory.sample(50, torch.Generator().manual_seed(0), (0, 1))

    def lost(learner) -> float:
        with torch.no_grad():
            scores = learner.classifier(F.normalize(learner.map(drawn), dim=-1))
        return float(F.cross_entropy(scores, torch.tensor([learner.seen.index(int(c)) for c in labels])))

    assert lost(with_old) < lost(without)


def test_zscl_without_a_step_is_zero_shot_clip() -> None:
    learner = tiny_clip.taught("zscl", 2, **{"fit.epochs": 0})
    torch.testing.assert_close(logits(learner), logits(tiny_clip.taught("zeroshot-clip", 2)), rtol=0, atol=1e-3)


def test_agreement_by_a_loop_is_least_where_both_say_the_same() -> None:
    draws = torch.Generator().manual_seed(0)
    v, teacher, texts = (F.normalize(torch.randn(n, 6, generator=draws), dim=1) for n in (5, 5, 7))
    z, theirs = 10 * v @ texts.T / 2, 10 * teacher @ texts.T / 2
    rows = [-(theirs[i].softmax(0) * z[i].log_softmax(0)).sum() for i in range(5)]
    columns = [-(theirs[:, j].softmax(0) * z[:, j].log_softmax(0)).sum() for j in range(7)]
    expected = 4 * (torch.stack(rows).mean() + torch.stack(columns).mean())
    torch.testing.assert_close(agreement(v, teacher, texts, 10.0, 2.0), expected)
    moving = teacher.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(agreement(moving, teacher, texts, 10.0, 2.0), moving)
    assert float(gradient.abs().max()) < 1e-5 < expected - float(agreement(teacher, teacher, texts, 10.0, 2.0))


def test_zscl_keeps_the_mean_of_its_weights() -> None:
    """One step, taken into the mean: half of the way that the last weights went."""

    def way(every: int) -> Tensor:
        learner = tiny_clip.taught("zscl", 1, every=every, **{"fit.lr": 0.001, "fit.batch_size": 64, "fit.epochs": 1})
        originals = dict(learner.backbone.module.named_parameters())
        return torch.cat([(p - originals[n]).detach().flatten() for n, p in learner.worn.named_parameters()])

    torch.testing.assert_close(way(1), way(0) / 2, rtol=1e-3, atol=1e-6)


def test_zscl_keeps_what_fewer_steps_than_it_averages_have_learnt() -> None:
    few = {"fit.lr": 0.001, "fit.batch_size": 64, "fit.epochs": 1}
    torch.testing.assert_close(
        logits(tiny_clip.taught("zscl", 1, every=10, **few)), logits(tiny_clip.taught("zscl", 1, every=0, **few))
    )


def test_the_spring_of_zscl_holds_its_weights() -> None:
    def way(spring: float) -> float:
        how = {"fit.lr": 0.001, "fit.epochs": 6, "fit.batch_size": 24}
        learner = tiny_clip.taught("zscl", 1, tie=0.0, spring=spring, every=0, **how)
        originals = dict(learner.backbone.module.named_parameters())
        return sum(float((p - originals[n]).square().sum()) for n, p in learner.worn.named_parameters()) ** 0.5

    assert way(100.0) < 0.7 * way(0.0)


def test_zscl_is_tied_to_zero_shot_clip_on_names_of_no_task() -> None:
    def left(tie: float) -> float:
        learner = tiny_clip.taught(
            "zscl", 1, tie=tie, spring=0.0, every=0, **{"fit.lr": 0.003, "fit.epochs": 8, "fit.batch_size": 24}
        )
        with torch.no_grad():
            now, before = learner.features(IMAGES), F.normalize(learner.backbone(IMAGES), dim=-1)
        return float((now - before).norm())

    assert left(50.0) < 0.8 * left(0.0)
