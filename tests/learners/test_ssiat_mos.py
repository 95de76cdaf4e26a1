"""SSIAT, RSIAT and MOS: means that move with the features, adapters in sequence, a task id that corrects itself."""

import math
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F

from cillab.kit import Progress, cross_entropy, fit, undecayed
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


def test_old_means_of_ssiat_move_before_new_classes_come() -> None:
    """Equation (2) is about the means that were there; those of new classes are where the features are now."""
    bench = tiny.bench("ssiat", sigma=2.0, **{"fit.lr": 0.1, "align.epochs": 0})
    learner, task = bench.taught(1), bench.tasks[1]
    images, labels = next(task.batches(24))
    means = learner.memory.means.clone()
    with torch.no_grad():
        before = learner.features(images)
    learn(learner, task)
    with torch.no_grad():
        after = learner.features(images)
    assert float((after - before).mean(dim=0).norm()) > 0.1
    torch.testing.assert_close(learner.memory.means[:2], moved(means, before, after, 2.0), rtol=1e-4, atol=1e-4)
    own = torch.stack([after[labels == c].mean(dim=0) for c in task.classes])
    torch.testing.assert_close(learner.memory.means[2:], own, rtol=1e-4, atol=1e-4)


def test_means_of_older_tasks_are_drawn_shorter_by_ssiat(monkeypatch) -> None:
    """1 - b + b (t_c + 1) / (t + 1) of equation (3) with b = 0.3; a task that brings no new class counts as well."""
    given = []

    def align_head(learner, task, head, memory, *_):
        given.append((memory, learner.memory.means.clone(), learner.memory.covariances.clone()))
        yield from ()
        return {}

    monkeypatch.setattr("cillab.parts.drifting.align_head", align_head)
    learner = tiny.bench("ssiat", shrink=0.3, **{"first.epochs": 0, "fit.epochs": 0}).taught(3)
    learn(learner, tiny.TinyTask(3, (0, 1)))
    shares = [(0.85, 1), (0.8, 0.9, 1), (0.775, 0.85, 0.925)]
    for (drawn, means, covariances), share in zip(given, shares, strict=True):
        torch.testing.assert_close(drawn.means, means * torch.tensor(share).repeat_interleave(2)[:, None])
        assert torch.equal(drawn.covariances, covariances)


@pytest.mark.parametrize("batch_size", [24, 12])
def test_after_every_step_mos_mixes_a_share_of_the_mean_of_older_adapters(batch_size) -> None:
    """Equation (2) by hand for m = 1/4 and two elders; steps of no length leave nothing but the merge."""
    still = {"fit.lr": 1e-30, "fit.epochs": 1, "fit.batch_size": batch_size, "align.epochs": 0}
    learner, draws = tiny.bench("mos", merge=0.25, **still).taught(2), torch.Generator().manual_seed(0)
    for p in learner.worn.parameters():
        p.data.normal_(generator=draws)
    first, second = ([p.clone() for p in adapter.parameters()] for adapter in learner.worn)
    learn(learner, tiny.tasks(3)[2])
    for a, b, found in zip(first, second, learner.worn[2].parameters(), strict=True):
        expected = b  # it starts as the last one
        for _ in range(24 // batch_size):
            expected = 0.75 * expected + 0.25 * (a + b) / 2
        torch.testing.assert_close(found, expected)


def test_the_loss_of_mos_by_hand(monkeypatch) -> None:
    """Equation (1): the second term asks each row of Z, old means and features as they are, to be like itself alone."""
    learner, found = tiny.bench("mos", orthogonality=0.3, temperature=0.7, **{"align.epochs": 0}).taught(1), []
    draws = torch.Generator().manual_seed(0)
    learner.memory.means = 0.3 * torch.randn(2, 32, generator=draws)
    h, labels, z = 0.3 * torch.randn(3, 32, generator=draws), torch.tensor([3, 2, 3]), [*learner.memory.means]

    def spied(owner, task, groups, loss, how, **_):
        head = owner.classifier.linear
        for values in (head.weight, head.bias):
            values.data.normal_(generator=draws)
        own = [-(head.weight[2:] @ x + head.bias[2:]).log_softmax(dim=0)[y - 2] for x, y in zip(h, labels, strict=True)]
        found.extend([float(loss(h, labels)), float(sum(own)) / 3])
        return iter(())

    monkeypatch.setattr("cillab.learners.mos.fit", spied)
    learn(learner, tiny.tasks(2)[1])
    z += [*h]
    alike = [[float(one @ other) / 0.7 for other in z] for one in z]
    apart = [math.log(sum(math.exp(value) for value in row)) - row[i] for i, row in enumerate(alike)]
    assert found[0] == pytest.approx(found[1] + 0.3 * sum(apart) / 5, rel=1e-5)


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


def test_a_class_that_returns_is_remembered_under_the_adapter_that_scores_it() -> None:
    bench = tiny.bench("mos", merge=0.0, **{"align.epochs": 0, "fit.lr": 1.0})
    learner = bench.taught(2)
    before = learner.memory.means[:2].clone()
    learn(learner, tiny.TinyTask(2, (0, 1)))  # the same images: under the same adapter nothing moves
    torch.testing.assert_close(learner.memory.means[:2], before, rtol=1e-5, atol=1e-5)


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


def test_the_circle_goes_round_with_the_bias_of_the_head() -> None:
    """W = 1: the first guess 0 gives W h_1 = (1, 0) and stays; with b = (0, 2) it is (1, 2), and (0, 3) for task 1."""
    head = Circle(2, 4, ensemble=False, device=torch.device("cpu"))
    head.grow((0,))
    head.grow((1,))
    head.means.add(torch.eye(2), torch.arange(2))
    head.linear.weight.data, head.linear.bias.data = torch.eye(2), torch.tensor([0.0, 2.0])
    x = torch.tensor([[1.0, 0.0, 1.0, 0.0, 0.0, 1.0]])
    torch.testing.assert_close(head(x), torch.tensor([[0.0, 3.0]]).softmax(dim=1))
    head.linear.bias.data.zero_()
    torch.testing.assert_close(head(x), torch.tensor([[1.0, 0.0]]).softmax(dim=1))


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


def surprise(learner, h: torch.Tensor, labels: torch.Tensor) -> float:
    """CE(s (cos(h, w) - m onehot)) over the classes of the last task, in a loop."""
    s, m, start = learner.params.scale, learner.params.margin, min(learner.seen[-2:])
    total = 0.0
    for x, y in zip(h, (labels - start).tolist(), strict=True):
        near = [s * float(F.cosine_similarity(x, w, dim=0)) for w in learner.classifier.weight[-2:]]
        near[y] -= s * m
        total += math.log(sum(math.exp(value) for value in near)) - near[y]
    return total / len(h)


@pytest.mark.parametrize(
    ("warmup", "weights"), [(0.5, (0, 0.5, 1, 1)), (0.0, (1, 1, 1, 1)), (1.0, (0, 0.25, 0.5, 0.75))]
)
def test_the_room_of_rsiat_is_made_bit_by_bit(warmup, weights, monkeypatch) -> None:
    """Equation (1): lambda rises to 0.6 over a share of the steps, here two epochs of two."""
    steps = {"first.epochs": 2, "first.batch_size": 12, "fit.epochs": 0}
    bench, found = tiny.bench("rsiat", room=0.6, warmup=warmup, scale=4.0, margin=0.2, **steps), {}
    h, labels = torch.randn(5, 32, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 1, 0, 1])

    def spied(owner, task, trained, loss, how, **_):
        found["own"], found["losses"] = surprise(owner, h, labels), []
        for step in range(4):
            found["losses"].append(float(loss(h, labels)))
            yield Progress("adapter", 12 * step, 48)

    monkeypatch.setattr("cillab.learners.rsiat.fit", spied)
    learn(bench.learner(), bench.tasks[0])
    room = float(roominess(h, labels, 0.5, 0.3))
    assert found["losses"] == pytest.approx([found["own"] + 0.6 * weight * room for weight in weights], rel=1e-5)


def test_the_loss_of_a_later_task_of_rsiat_by_hand(monkeypatch) -> None:
    """Equation (2) with h' from before the task: beta times the mean square, gamma times the mean size of a cosine."""
    bench = tiny.bench("rsiat", scale=4.0, margin=0.2, tie=0.5, orthogonal=0.7, **{"align.epochs": 0})
    learner, draws, found = bench.taught(1), torch.Generator().manual_seed(0), {}
    means = learner.memory.means = 5 * torch.randn(2, 32, generator=draws)  # cosines of either sign

    def spied(owner, task, groups, loss, how, **_):
        before = deepcopy(owner.worn)
        for p in [*owner.worn.parameters(), *owner.map.parameters()]:
            p.data.add_(0.5 * torch.randn(p.shape, generator=draws))
        images, labels = next(task.batches(4, draws))
        pixels = owner.backbone.pixels(images)
        with torch.no_grad():
            h, earlier = (owner.on_pixels(pixels)(worn) for worn in (owner.worn, before))
            mapped, kept = owner.map(earlier), owner.map(means)
            tie = sum(float((a - b) ** 2) for a, b in zip(h.flatten(), mapped.flatten(), strict=True)) / h.numel()
            cosines = [float(F.cosine_similarity(mu, x, dim=0)) for mu in kept for x in mapped]
            found["loss"] = float(loss(pixels, labels))
        assert min(cosines) < 0 < max(cosines)
        found["by hand"] = surprise(owner, h, labels) + 0.5 * tie + 0.7 * sum(map(abs, cosines)) / 8
        return iter(())

    monkeypatch.setattr("cillab.learners.rsiat.fit", spied)
    learn(learner, bench.tasks[1])
    assert found["loss"] == pytest.approx(found["by hand"], rel=1e-4)


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
