"""APER and EASE: one task of EASE is APER's adapter branch; equations (3) and (4) written out in loops."""

import pytest
import torch
import torch.nn.functional as F

from cillab.learners import make_learner
from cillab.learners.checks import accuracy, learn
from cillab.parts.per_task import Subspaces
from tests.learners import tiny

QUICK = {"bottleneck": 4, "epochs": 2, "batch_size": 16, "lr": 0.05}
VARIANTS = ("adapter", "ssf", "vpt-shallow", "vpt-deep", "finetune")


def features(learner, images):
    with torch.no_grad():
        return learner.features(images)


def test_ease_with_one_task_is_apers_adapter_branch() -> None:
    bench = tiny.bench("ease", **QUICK)
    ease, aper = bench.taught(1), make_learner("aper", bench.backbone, seed=7, **QUICK)
    learn(aper, bench.tasks[0])
    plain, adapted = features(aper, bench.images).chunk(2, dim=1)
    assert torch.equal(features(ease, bench.images), adapted)
    assert not torch.allclose(plain, adapted, atol=1e-6)
    branch = aper.classifier.means().float().chunk(2, dim=1)[1]
    expected = F.normalize(adapted, dim=1) @ F.normalize(branch, dim=1).T
    with torch.no_grad():
        torch.testing.assert_close(ease.logits(bench.images), expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_apers_first_half_is_the_original_network(variant) -> None:
    bench = tiny.bench("aper", **QUICK, variant=variant)
    learner = bench.taught(2)
    with torch.no_grad():
        expected = bench.backbone(bench.images)
    plain, adapted = features(learner, bench.images).chunk(2, dim=1)
    assert torch.equal(plain, expected)
    assert not torch.allclose(plain, adapted, atol=1e-6)
    assert accuracy(learner, bench) > 0.4


def test_only_the_first_session_adapts() -> None:
    bench = tiny.bench("aper", **QUICK)
    learner = bench.taught(1)
    before = features(learner, bench.images)
    learn(learner, bench.tasks[1])
    assert torch.equal(features(learner, bench.images), before)


def test_finetune_has_its_own_steps_unless_they_are_given() -> None:
    def fit(**values):
        return make_learner("aper", tiny.backbone(), **values).params.fit

    assert (fit().epochs, fit().batch_size, fit().weight_decay) == (20, 48, 5e-4)
    assert (fit(variant="finetune").epochs, fit(variant="finetune").weight_decay) == (6, 0.05)
    assert fit(variant="finetune", epochs=3).epochs == 3


def test_old_adapters_are_left_alone() -> None:
    bench = tiny.bench("ease", **QUICK)
    learner = bench.taught(1)
    first = features(learner, bench.images)
    learn(learner, bench.tasks[1])
    both = features(learner, bench.images)
    assert torch.equal(both[:, : first.shape[1]], first) and both.shape[1] == 2 * first.shape[1]
    alike = learner.internals()["adapters/similarity"]
    assert alike.shape == (2, 2)
    torch.testing.assert_close(alike.diagonal(), torch.ones(2))
    with torch.no_grad():
        x, y = learner.features(next(bench.tasks[1].batches(64))[0]).double().chunk(2, dim=1)
    x, y = x - x.mean(dim=0), y - y.mean(dim=0)
    cka = (x.T @ y).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm())  # Kornblith's other form
    torch.testing.assert_close(alike[0, 1].double(), cka, rtol=1e-4, atol=1e-5)


def test_prototypes_and_logits_are_the_equations() -> None:
    """Two classes a task, three tasks, in loops over classes and blocks."""
    dim, draws = 5, torch.Generator().manual_seed(0)
    head, means = Subspaces(dim, 0.3), torch.zeros(6, 3, dim)
    for t in range(3):
        head.grow((2 * t, 2 * t + 1))
        h = torch.randn(8, (t + 1) * dim, generator=draws) + 1
        labels = torch.arange(8) % 2 + 2 * t
        head.take(h, labels)
        for c in (2 * t, 2 * t + 1):
            means[c, : t + 1] = h[labels == c].mean(dim=0).reshape(t + 1, dim)
    for c in range(6):
        i = c // 2
        for j in range(i + 1, 3):
            known = range(2 * j, 6)
            weights = torch.stack([F.cosine_similarity(means[c, i], means[n, i], dim=0) for n in known]).softmax(0)
            means[c, j] = sum(w * means[n, j] for w, n in zip(weights, known, strict=True))
    torch.testing.assert_close(head.prototypes().float(), means)
    h = torch.randn(3 * dim, generator=draws)
    for c, logit in enumerate(head(h[None])[0]):
        cosines = [F.cosine_similarity(h[j * dim : (j + 1) * dim], means[c, j], dim=0) for j in range(3)]
        home = c // 2
        others = sum(cosine for j, cosine in enumerate(cosines) if j != home)
        torch.testing.assert_close(logit, cosines[home] + 0.3 / 2 * others)
