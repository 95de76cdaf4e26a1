"""SSIAT, RSIAT and MOS: means that move with the features, adapters in sequence, a task id that corrects itself."""

import pytest
import torch
import torch.nn.functional as F

from cillab.kit import cross_entropy, fit, undecayed
from cillab.learners.checks import learn
from cillab.learners.rsiat import roominess
from cillab.parts.drifting import moved
from cillab.parts.maps import ResidualMap
from cillab.parts.per_task import Circle
from tests.learners import tiny


def drift(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return (
        torch.randn(3, 5, generator=draws),
        torch.randn(20, 5, generator=draws),
        torch.randn(20, 5, generator=draws),
    )


@pytest.mark.parametrize("sigma", [0.3, 4.0])
def test_means_move_with_the_images_near_them(sigma) -> None:
    means, before, step = drift()
    assert torch.equal(moved(means, before, before, sigma), means)
    shift = torch.arange(5.0)
    torch.testing.assert_close(moved(means, before, before + shift, sigma), means + shift)
    for c in range(3):
        weights = torch.stack([(-(x - means[c]).square().sum() / (2 * sigma**2)).exp() + 1e-5 for x in before])
        expected = means[c] + (weights[:, None] * step).sum(dim=0) / weights.sum()
        torch.testing.assert_close(moved(means, before, before + step, sigma)[c], expected)


def test_a_wide_window_moves_every_mean_alike() -> None:
    means, before, step = drift()
    far = moved(means, before, before + step, 1e4) - means
    torch.testing.assert_close(far, step.mean(dim=0).expand(3, -1), atol=1e-4, rtol=0)
    near = moved(means, before, before + step, 0.5) - means
    mixed = moved(means, before, before + step.roll(1, dims=0), 0.5) - means
    assert not torch.allclose(near, mixed, atol=1e-2)


def test_ssiat_follows_the_features_of_a_frozen_network_nowhere() -> None:
    bench = tiny.bench("ssiat", **{"fit.epochs": 0, "align.epochs": 0})
    learner = bench.taught(1)
    before = learner.memory.means.clone()
    learn(learner, bench.tasks[1])
    assert torch.equal(learner.memory.means[:2], before)


def test_mos_without_merging_and_alignment_is_a_sequence_of_adapters() -> None:
    bench = tiny.bench("mos", merge=0.0, orthogonality=0.0, ensemble=False, loops=0, **{"align.epochs": 0})
    learner, other = bench.taught(2), bench.learner()
    (adapter, head) = other.worn.grow(), other.classifier.linear
    for task in bench.tasks[:2]:  # one adapter that goes on learning
        other.roster.enter(task)
        other.classifier.grow(task.classes)

        def loss(h, labels, task=task):
            return cross_entropy(head(h), labels, other.seen, task.classes, "local")

        p = other.params
        groups = [{"params": adapter.parameters()}, {**undecayed(head), "lr": p.head_rate * p.fit.lr}]
        for _ in fit(other, task, groups, loss, p.fit, stage="adapter", under=adapter):
            pass
    assert all(torch.equal(a, b) for a, b in zip(adapter.parameters(), learner.worn[1].parameters(), strict=True))
    assert torch.equal(head.weight, learner.classifier.linear.weight)


def test_merging_draws_an_adapter_to_its_elders() -> None:
    near, free = (tiny.bench("mos", merge=merge).taught(2) for merge in (0.5, 0.0))

    def gap(learner) -> float:
        pairs = zip(*(adapter.parameters() for adapter in learner.worn), strict=True)
        return sum(float((a - b).norm()) for a, b in pairs)

    assert gap(near) < 0.7 * gap(free)


def test_old_adapters_are_left_alone() -> None:
    bench = tiny.bench("mos")
    learner = bench.taught(1)
    before = [p.detach().clone() for p in learner.worn[0].parameters()]
    learn(learner, bench.tasks[1])
    assert all(torch.equal(a, b) for a, b in zip(before, learner.worn[0].parameters(), strict=True))


@pytest.mark.parametrize("loops", [0, 1, 4])
@pytest.mark.parametrize("ensemble", [False, True])
def test_the_circle_is_the_equations(loops, ensemble) -> None:
    dim, draws = 4, torch.Generator().manual_seed(1)
    head = Circle(dim, loops, ensemble, torch.device("cpu"))
    for t in range(3):
        head.grow((2 * t, 2 * t + 1))
    head.means.add(torch.randn(12, dim, generator=draws), torch.arange(12) % 6)
    head.linear.weight.data.normal_(generator=draws)
    features = torch.randn(40, 4 * dim, generator=draws)
    found = head(features)
    for x, score in zip(features, found, strict=True):
        original, adapted = x[:dim], x[dim:].reshape(3, dim)
        near = torch.stack([F.cosine_similarity(original, mean, dim=0) for mean in head.means.means(x)])
        task = int(near.argmax()) // 2
        for _ in range(loops):
            again = int((head.linear.weight @ adapted[task]).argmax()) // 2
            if again == task:
                break
            task = again
        expected = (head.linear.weight @ adapted[task]).softmax(dim=0)
        torch.testing.assert_close(score, expected + (3 * near).softmax(dim=0) if ensemble else expected)
    torch.testing.assert_close(head(features.flip(0)).flip(0), found)
    assert head.rows().weight.shape == (6, 4 * dim)


def test_rsiat_without_its_losses_is_ssiat() -> None:
    same = {"scale": 20.0, "margin": 0.0, "align.epochs": 2}
    plain, none = tiny.bench("ssiat", **same), tiny.bench("rsiat", room=0.0, tie=0.0, orthogonal=0.0, **same)
    one, other = plain.taught(3), none.taught(3)
    for a, b in zip(one.worn.parameters(), other.worn.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(one.memory.means, other.memory.means)
    torch.testing.assert_close(one.classifier.weight, other.classifier.weight)


def test_roominess_by_a_loop_over_pairs() -> None:
    _, h, _ = drift()
    labels = torch.arange(20) % 3
    own, others = [], []
    for i in range(20):
        for j in range(20):
            cosine = F.cosine_similarity(h[i], h[j], dim=0)
            if i != j and labels[i] == labels[j]:
                own.append(1 - cosine)
            elif i != j:
                others.append((cosine - 0.3).clamp(min=0))
    expected = torch.stack(own).mean() + 0.5 * torch.stack(others).mean()
    torch.testing.assert_close(roominess(h, labels, 0.5, 0.3), expected)
    torch.testing.assert_close(roominess(7 * h, labels, 0.5, 0.3), expected)
    alone = roominess(h[:3], torch.arange(3), 0.0, 0.3)
    assert float(alone) == 0.0


def test_a_tie_that_counts_alone_keeps_the_features() -> None:
    """P starts at the identity, so the tie starts as distillation of features: they move less the heavier it is."""

    def drifted(tie: float) -> float:
        bench = tiny.bench("rsiat", tie=tie, orthogonal=0.0, map_lr=1e-9, **{"fit.lr": 0.05, "fit.epochs": 10})
        learner = bench.taught(1)
        images = bench.test[0][0]
        with torch.no_grad():
            before = learner.features(images)
            learn(learner, bench.tasks[1])
            return float((learner.features(images) - before).norm())

    assert drifted(100.0) < 0.5 * drifted(0.0)


def test_the_map_of_rsiat_starts_as_the_identity_and_is_made_of_its_layers() -> None:
    _, x, _ = drift()
    plan = ResidualMap(5, 4, 3, torch.Generator().manual_seed(0), torch.device("cpu"))
    assert torch.equal(plan(x), x)
    for p in plan.parameters():
        p.data.normal_(generator=torch.Generator().manual_seed(1))
    z = x @ plan.weights[0].T + plan.biases[0]
    for layer in (1, 2, 3):
        z = F.gelu(z) @ plan.weights[layer].T + plan.biases[layer]
    torch.testing.assert_close(plan(x), x + z)
