"""iCaRL and DER++ against their equations, and the stores of images against what they promise."""

from copy import deepcopy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from scipy import stats
from torch import Tensor

from cillab.learners import make_learner
from cillab.learners.checks import learn, logits, same_states
from cillab.parts.exemplars import Exemplars, Reservoir, herded
from cillab.parts.losses import distillation
from tests.learners import tiny

IMAGES = torch.cat([tiny.pictures(c, 4, seed=3) for c in range(6)])
QUICK = {"epochs": 2, "batch_size": 12}


def features(count: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(count, 5, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_herding_by_a_loop() -> None:
    f = features(9).double().numpy()
    chosen: list[int] = []
    for k in range(1, 7):
        away = {i: np.linalg.norm(f.mean(0) - f[[*chosen, i]].sum(0) / k) for i in range(9) if i not in chosen}
        chosen.append(min(away, key=away.__getitem__))
    assert herded(torch.from_numpy(f), 6).tolist() == chosen


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_a_shorter_herd_begins_the_longer_one_and_all_means_all(some: int, more: int, seed: int) -> None:
    f = features(12, seed)
    few, many = sorted((some, more))
    assert torch.equal(herded(f, few), herded(f, many)[:few])
    assert sorted(herded(f, 12).tolist()) == sorted(herded(f, 99).tolist()) == list(range(12))


def test_the_herd_is_nearer_to_the_mean_than_chance() -> None:
    f = features(60)
    gap = float((f[herded(f, 6)].mean(0) - f.mean(0)).norm())
    draws = torch.Generator().manual_seed(1)
    chance = [float((f[torch.randperm(60, generator=draws)[:6]].mean(0) - f.mean(0)).norm()) for _ in range(200)]
    assert gap < min(chance)


def test_cutting_keeps_the_first_of_every_class() -> None:
    store, labels = Exemplars(), torch.tensor([3, 3, 7, 3, 7])
    store.add(torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 3, 2, 2), labels)
    store.cut(2)
    assert store.labels.tolist() == [3, 3, 7, 7] and store.images[:, 0, 0, 0].tolist() == [0, 1, 2, 4]
    assert store.without(3)[:, 0, 0, 0].tolist() == [0, 1] and store.labels.tolist() == [7, 7]


def test_every_item_stays_in_the_reservoir_with_the_same_chance() -> None:
    capacity, items, repeats = 8, 32, 400
    hits, draws = np.zeros(items), torch.Generator().manual_seed(0)
    for _ in range(repeats):
        store = Reservoir(capacity)
        for chunk in torch.arange(items).split(5):
            store.show(
                chunk.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 1, 1), chunk, torch.zeros(len(chunk), 0), draws
            )
        assert len(store) == capacity and store.shown == items
        assert store.images[:, 0, 0, 0].tolist() == store.labels.tolist()  # image and label stay together
        hits[store.labels.numpy()] += 1
    assert hits.sum() == capacity * repeats
    # places within one pass exclude each other, which makes counts less spread than chi squared: one side is enough
    assert stats.chisquare(hits).pvalue > 1e-3


def test_an_undone_task_leaves_the_reservoir_whole() -> None:
    learner = make_learner("der", tiny.backbone(), memory=16, **QUICK)
    learn(learner, tiny.tasks(1)[0])
    kept = learner.images.images.clone()
    running = learner.observe(tiny.tasks(2)[1])
    for _ in range(3):
        next(running)
    running.close()
    assert torch.equal(learner.images.images, kept)


def test_distillation_is_still_where_both_agree() -> None:
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    distillation(z, z.detach()).backward()
    assert z.grad is not None and float(z.grad.abs().max()) < 1e-7
    p = (z.detach() / 2).softmax(1)
    torch.testing.assert_close(distillation(z, z.detach()), -(p * p.log()).sum(1).mean())


def taught(name: str, count: int, **changes: object):
    learner = make_learner(name, tiny.backbone(), **{**QUICK, "memory": 24, **changes})
    for task in tiny.tasks(count):
        learn(learner, task)
    return learner


@pytest.mark.parametrize("name", ["icarl", "der"])
def test_no_image_of_an_unseen_class_and_never_more_than_the_memory(name: str) -> None:
    learner = taught(name, 2)
    assert set(learner.images.labels.tolist()) <= set(learner.seen) and len(learner.images) <= 24
    assert int(learner.internals()["stored"].sum()) == len(learner.images)


def test_icarl_shares_the_memory_and_answers_by_the_nearest_mean_of_exemplars() -> None:
    learner = taught("icarl", 3)
    assert learner.images.counts(learner.seen).tolist() == [4] * 6
    with torch.no_grad():
        z = learner.features(IMAGES)
        means = []
        for c in learner.seen:
            own = learner.features(learner.images.images[learner.images.labels == c])
            means.append(F.normalize(own.double().mean(0), dim=0))
        expected = -torch.cdist(z.double(), torch.stack(means)).square()
    torch.testing.assert_close(logits(learner, IMAGES).double(), expected, rtol=1e-4, atol=1e-5)


def test_with_all_images_icarl_is_the_nearest_mean_of_unit_features() -> None:
    learner, task = make_learner("icarl", tiny.backbone(), each=99, epochs=0), tiny.tasks(1)[0]
    learn(learner, task)
    images, labels = next(task.batches(99))
    f = F.normalize(tiny.backbone()(images), dim=1)
    for row, c in zip(learner.head().weight, learner.seen, strict=True):
        torch.testing.assert_close(row, F.normalize(f[labels == c].mean(0), dim=0), rtol=1e-4, atol=1e-5)


def test_without_its_terms_der_is_finetune_over_all_seen_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    import cillab.learners.der as module

    fit = module.fit

    def same_draws(*given, stage: str, **named):
        del stage  # its name tells streams of random numbers apart
        return fit(*given, stage="finetune", **named)

    monkeypatch.setattr(module, "fit", same_draws)
    no_decay = {"fit.weight_decay": 0.0}  # the head of finetune has none
    der = taught("der", 2, alpha=0.0, beta=0.0, **no_decay)
    plain = make_learner("finetune", tiny.backbone(), competitors="seen", **{**QUICK, **no_decay})
    for task in tiny.tasks(2):
        learn(plain, task)
    assert torch.equal(der.head().weight, plain.head().weight)
    assert torch.equal(logits(der, IMAGES), logits(plain, IMAGES))
    assert len(der.images) == 24  # it is filled all the same


def test_stored_logits_are_those_of_the_moment_and_later_columns_have_none() -> None:
    learner = taught("der", 2)
    old = torch.isin(learner.images.labels, torch.tensor(learner.seen[:2]))
    assert old.any() and (~old).any()
    stored, widths = learner.images.logits, learner.images.widths
    assert stored.shape[1] == 4 and bool((widths[~old] == 4).all())
    first_session = widths == 2
    assert bool(first_session.any()) and bool(old[first_session].all()) and not stored[first_session, 2:].any()


def test_evaluation_leaves_the_reservoir_alone() -> None:
    one, two = taught("der", 1), taught("der", 1)
    logits(one, IMAGES)
    assert same_states(one, two)


def changed(owner, head, draws: torch.Generator) -> None:
    """Weights somewhere else than they were before the task."""
    for values in owner.worn.parameters():
        values.data.add_(0.05 * torch.randn(values.shape, generator=draws))
    for values in head.parameters():
        values.data.normal_(std=0.3, generator=draws)


def surprise(scores: Tensor, own: int) -> float:
    """Cross-entropy of one image."""
    return -float(scores.log_softmax(dim=0)[own])


def test_the_loss_of_icarl_by_hand(monkeypatch) -> None:
    """Equation (1): the network before the task is the teacher, on the same images, for old classes alone."""
    learner, draws, found = taught("icarl", 1, distil=0.7, temperature=3.0), torch.Generator().manual_seed(0), {}

    def spied(owner, task, groups, loss, how, **_):
        before, head = deepcopy(owner.worn), deepcopy(owner.linear)
        changed(owner, owner.linear, draws)
        images, labels = next(task.batches(9, draws))
        found["classes"] = {int(y) for _, own in task.batches(64) for y in own}
        pixels, terms = owner.backbone.pixels(images), []
        with torch.no_grad():
            found["loss"] = float(loss(pixels, labels))
            h, earlier = (owner.on_pixels(pixels)(worn) for worn in (owner.worn, before))
        for x, was, y in zip(h, earlier, labels.tolist(), strict=True):
            logits, taught_by = owner.linear.weight @ x + owner.linear.bias, head.weight @ was + head.bias
            shares = (taught_by[:2] / 3).softmax(dim=0)
            held = -float(shares @ (logits[:2] / 3).log_softmax(dim=0))
            terms.append(surprise(logits, y) + 0.7 * held)
        found["by hand"] = sum(terms) / 9
        return iter(())

    monkeypatch.setattr("cillab.learners.icarl.fit", spied)
    learn(learner, tiny.tasks(2)[1])
    assert found["classes"] == {0, 1, 2, 3}  # exemplars are trained on beside the task
    assert found["loss"] == pytest.approx(found["by hand"], rel=1e-4)


def test_the_loss_of_der_by_hand(monkeypatch) -> None:
    """Equation (1): two draws; stored logits over the classes known then, stored labels over all classes."""
    options = {"drawn": 10, "alpha": 0.3, "beta": 0.7, "augment": "none"}
    learner, draws, found = taught("der", 2, **options), torch.Generator().manual_seed(0), {}
    store = learner.images
    shown = {image.numpy().tobytes(): int(y) for task in tiny.tasks(2) for x, own in task.batches(64)
             for image, y in zip(x, own, strict=True)}  # fmt: skip
    assert [shown[image.numpy().tobytes()] for image in store.images] == store.labels.tolist()

    def spied(owner, task, groups, loss, how, **_):
        changed(owner, owner.classifier, draws)
        images, labels = next(task.batches(5, draws))
        kept = [store.images.clone(), store.labels.clone(), store.logits.clone(), store.widths.clone()]
        fresh = owner.draws("reservoir", task.index)
        first, second = (torch.randperm(len(store), generator=fresh)[:10].tolist() for _ in range(2))
        pixels = owner.backbone.pixels(images)
        with torch.no_grad():
            found["loss"] = float(loss(pixels, labels))
            z, again = (
                owner.classifier(owner.embed(owner.on_pixels(owner.backbone.pixels(x)))) for x in (images, kept[0])
            )
        gaps = [float(again[i, c] - kept[2][i, c]) ** 2 for i in first for c in range(int(kept[3][i]))]
        found["widths"] = {int(kept[3][i]) for i in first}
        new = sum(surprise(row, y) for row, y in zip(z, labels.tolist(), strict=True)) / 5
        old = sum(surprise(again[i], int(kept[1][i])) for i in second) / 10
        found["by hand"] = new + 0.3 * sum(gaps) / len(gaps) + 0.7 * old
        return iter(())

    monkeypatch.setattr("cillab.learners.der.fit", spied)
    learn(learner, tiny.tasks(3)[2])
    assert found["widths"] == {2, 4}
    assert found["loss"] == pytest.approx(found["by hand"], rel=1e-4)


def test_icarl_keeps_an_image_of_each_class_however_small_its_memory_is() -> None:
    assert taught("icarl", 3, memory=3).images.counts((0, 1, 2, 3, 4, 5)).tolist() == [1] * 6
