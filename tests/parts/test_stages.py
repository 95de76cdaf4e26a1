"""Alignment on drawn features, and the first session under a head that is thrown away."""

import torch
import torch.nn.functional as F
from torch import Tensor

from cillab.kit import (
    Fit,
    GaussianMemory,
    Linear,
    Progress,
    align,
    each_epoch,
    first_session,
    fit_features,
    gathered,
    viewed,
)
from cillab.learners.finetune import Finetune
from cillab.parts import stages
from tests.learners import tiny

DIM = 5


def memory() -> GaussianMemory:
    found = GaussianMemory(DIM)
    draws = torch.Generator().manual_seed(0)
    labels = torch.tensor([4, 9, 1]).repeat_interleave(30)
    found.add(torch.randn(90, DIM, generator=draws) + 3 * F.one_hot(torch.arange(3).repeat_interleave(30), DIM), labels)
    return found


def aligned(each: int = 16, pool: int = 1 << 25, epochs: int = 6) -> tuple[Linear, list[Tensor]]:
    head, batches = Linear(DIM), []
    head.grow((4, 9, 1))
    before, stages._POOL = stages._POOL, pool

    def loss(h: Tensor, columns: Tensor) -> Tensor:
        batches.append(columns)
        return F.cross_entropy(head(h), columns)

    try:
        steps = list(
            align(
                head.parameters(), head.classes, memory(), loss, Fit(epochs=epochs, batch_size=12, lr=0.1), each,
                torch.Generator().manual_seed(1),
            )
        )  # fmt: skip
    finally:
        stages._POOL = before
    assert steps[-1].done == steps[-1].total == epochs * each * 3
    return head, batches


def test_a_head_of_zeros_learns_to_tell_the_gaussians_apart() -> None:
    head, _ = aligned()
    h, labels = memory().sample(200, torch.Generator().manual_seed(7))
    guesses = torch.tensor(head.classes)[head(h).argmax(dim=1)]
    assert float((guesses == labels).double().mean()) > 0.9
    assert not head.weight.requires_grad


def test_every_class_comes_as_often_in_one_round_or_in_many() -> None:
    for pool in (1 << 25, 16):
        _, batches = aligned(pool=pool, epochs=2)
        assert torch.bincount(torch.cat(batches)).tolist() == [32, 32, 32]


def test_alignment_is_the_same_with_the_same_draws() -> None:
    assert torch.equal(aligned()[0].weight, aligned()[0].weight)


def test_the_first_session_moves_what_it_is_given_and_nothing_else() -> None:
    learner, task = Finetune(tiny.backbone(), seed=3), tiny.tasks(1)[0]
    learner.roster.enter(task)
    before = {name: p.clone() for name, p in learner.worn.named_parameters()}
    some = [p for name, p in learner.worn.named_parameters() if name.startswith("norm.")]
    for _ in first_session(learner, task, some, Fit(epochs=2, batch_size=8, lr=0.05)):
        pass
    moved = {name for name, p in learner.worn.named_parameters() if not torch.equal(before[name], p)}
    assert moved and all(name.startswith("norm.") for name in moved)
    assert learner.classifier.classes == ()


def test_features_are_shuffled_by_the_named_draws_and_replayed_ones_are_drawn_first() -> None:
    learner, task, stored = Finetune(tiny.backbone()), tiny.tasks(1)[0], memory()
    h, labels = torch.randn(10, DIM, generator=torch.Generator().manual_seed(2)), torch.arange(10)
    head, seen = Linear(DIM), list[tuple[Tensor, Tensor]]()
    head.grow((0, 1))

    def loss(x: Tensor, y: Tensor) -> Tensor:
        seen.append((x, y))
        return head(x).square().mean()

    how = Fit(epochs=2, batch_size=6)
    replay = stored, 2, (9, 1)
    steps = list(fit_features(learner, task, (h, labels), head.parameters(), loss, how, stage="s", replay=replay))
    assert [p.done for p in steps] == [6, 12, 14, 20, 26, 28] and steps[-1].total == 28
    for epoch in range(2):
        draws = learner.draws("order", task.index, epoch)
        drawn, owners = stored.sample(2, draws, (9, 1))
        order = torch.randperm(14, generator=draws)
        own = seen[3 * epoch : 3 * epoch + 3]
        assert torch.equal(torch.cat([x for x, _ in own]), torch.cat([h, drawn])[order])
        assert torch.equal(torch.cat([y for _, y in own]), torch.cat([labels, owners])[order])


def test_something_happens_after_every_epoch_and_its_steps_follow() -> None:
    steps = [Progress("a", done, 4, (done - 1) // 2, 2) for done in range(1, 5)]
    more = Progress("b", 1, 1)
    found = list(each_epoch(steps, lambda p: [more] if p.epoch == 0 else None))
    assert found == [*steps[:2], more, *steps[2:]]


def test_views_follow_the_clean_features() -> None:
    learner, task = Finetune(tiny.backbone()), tiny.tasks(1)[0]

    def exhausted(steps):
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value

    h, labels = exhausted(gathered(learner, task))
    both, theirs = exhausted(viewed(learner, task, (h, labels), 2, Fit()))
    assert len(both) == 3 * len(h) and torch.equal(both[: len(h)], h) and torch.equal(theirs[: len(h)], labels)
    first, second = both[len(h) :].chunk(2)
    assert not torch.equal(first, second) and theirs.sort().values.equal(labels.repeat(3).sort().values)
