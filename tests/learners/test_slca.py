"""SLCA: alignment leaves no trace in what is learnt next; its loss and its draws are the equations."""

import pytest
import torch
import torch.nn.functional as F

from cillab.learners.checks import learn, logits
from tests.learners import tiny

QUICK = {"fit.epochs": 2, "fit.batch_size": 8, "align.epochs": 2, "align.batch_size": 16, "each": 16}


def test_rows_before_alignment_come_back() -> None:
    """Aligned or not, backbone, rows before alignment and Gaussians are the same bit for bit after every task."""
    bench = tiny.bench("slca", **QUICK)
    aligned, plain = bench.learner(), bench.learner(**{"align.epochs": 0})
    for number, task in enumerate(bench.tasks):
        learn(aligned, task)
        learn(plain, task)
        for name in ("worn", "plain", "memory"):
            one, two = (learner.parts()[name].state().tensors for learner in (aligned, plain))
            assert all(torch.equal(one[key], two[key]) for key in one), (number, name)
        moved = not torch.equal(aligned.classifier.weight, aligned.plain.weight)
        assert moved == (number > 0)  # the first task has nothing to be aligned with
        assert torch.equal(plain.classifier.weight, plain.plain.weight)


def test_the_loss_of_alignment_in_a_loop() -> None:
    bench = tiny.bench("slca", **QUICK, tau=0.3)
    learner = bench.taught()
    draws = torch.Generator().manual_seed(0)
    h, columns = torch.randn(7, 32, generator=draws), torch.arange(7) % 6
    z = learner.classifier(h)
    total = 0.0
    for row, column in zip(z, columns, strict=True):
        lengths = [row[2 * t : 2 * t + 2].norm() for t in range(3)]
        total += float(F.cross_entropy(row / (sum(lengths) / 3 * 0.3), column))
    assert float(learner._aligned(h, columns)) == pytest.approx(total / 7, rel=1e-5)


def test_the_memory_holds_the_features_of_the_moment() -> None:
    """Gaussians of a task are those of the encoder at its end, and later tasks leave them as they are."""
    bench = tiny.bench("slca", **QUICK)
    learner = bench.taught(1)
    with torch.no_grad():
        images, labels = next(bench.tasks[0].batches(100))
        h = learner.features(images).double()
    for row, c in enumerate(bench.tasks[0].classes):
        torch.testing.assert_close(learner.memory.means[row].double(), h[labels == c].mean(dim=0), rtol=1e-4, atol=1e-5)
    before = learner.memory.means.clone()
    learn(learner, bench.tasks[1])
    assert torch.equal(learner.memory.means[:2], before) and learner.memory.classes == learner.seen


@pytest.mark.parametrize("kind", ["diagonal", "pooled", "low-rank"])
def test_smaller_memories_align_as_well(kind: str) -> None:
    bench = tiny.bench("slca", **QUICK, covariance=kind)
    assert logits(bench.taught(2), bench.images).isfinite().all()


def test_means_of_older_tasks_are_drawn_shorter(monkeypatch) -> None:
    """s_c of equation (3) by hand; a task that brings no new class counts as well."""
    given = []

    def align(head, classes, memory, *_):
        given.append(memory)
        return iter(())

    monkeypatch.setattr("cillab.learners.slca.align", align)
    bench = tiny.bench("slca", **QUICK | {"fit.epochs": 0})
    learner = bench.taught(2)
    shares = {1: (0.95, 1), 2: (0.9 + 0.1 / 3, 0.9 + 0.2 / 3, 1), 3: (0.925, 0.95, 0.975)}
    for index, share in shares.items():
        if index > 1:
            learn(learner, bench.tasks[2] if index == 2 else tiny.TinyTask(3, (0, 1)))
        by = torch.tensor(share).repeat_interleave(2)[:, None]
        torch.testing.assert_close(given[-1].means, learner.memory.means * by)
        assert torch.equal(given[-1].covariances, learner.memory.covariances)
    assert len(given) == 3
