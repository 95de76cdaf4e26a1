"""Low rank: one task of InfLoRA and of SD-LoRA is LoRA; new branches keep out of what old tasks use."""

import numpy as np
import pytest
import torch

from cillab.kit import cross_entropy, fit
from cillab.learners import make_learner
from cillab.learners.checks import learn, logits
from cillab.parts.subspaces import Directions, SubspaceSteps
from tests.learners import tiny

FIT = {"rank": 2, "epochs": 2, "batch_size": 16, "lr": 0.01}


def factors(lora) -> list[torch.Tensor]:
    return [p.detach().clone() for p in lora.parameters()]


def test_sd_lora_with_one_task_is_lora() -> None:
    """With its magnitude at 1 and held, bit for bit; the optimiser is the same for both."""
    bench = tiny.bench("sd-lora")
    how = FIT | {"fit.optimiser": "adam", "fit.schedule": "cosine"}
    sd = make_learner("sd-lora", bench.backbone, seed=7, start=1.0, learn_magnitudes=False, **how)
    lora = make_learner("lora", bench.backbone, seed=7, **FIT)
    for learner in (sd, lora):
        learn(learner, bench.tasks[0])
    assert all(torch.equal(a, b) for a, b in zip(factors(sd.branches[0]), factors(lora.worn), strict=True))
    with torch.no_grad():
        torch.testing.assert_close(sd.logits(bench.images), lora.logits(bench.images))


def test_inflora_with_one_task_is_lora_that_trains_one_factor() -> None:
    bench = tiny.bench("inflora")
    learner = make_learner("inflora", bench.backbone, seed=7, **FIT)
    learn(learner, bench.tasks[0])
    other = make_learner("inflora", bench.backbone, seed=7, **FIT)
    other.roster.enter(bench.tasks[0])
    other.classifier.grow(bench.tasks[0].classes)
    lora = other.branches.grow()
    for down, fixed in zip(lora.down, learner.branches[0].down, strict=True):
        down.data.copy_(fixed)

    def loss(h, labels):
        return cross_entropy(other.classifier(h), labels, other.seen, bench.tasks[0].classes, "local")

    trained = [*lora.up.parameters(), *other.classifier.parameters()]
    for _ in fit(other, bench.tasks[0], trained, loss, other.params.fit, stage="low rank", under=lora):
        pass
    for a, b in zip(factors(lora), factors(learner.branches[0]), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_infloras_new_inputs_avoid_what_old_tasks_use() -> None:
    learner = tiny.bench("inflora", rank=3, share=0.9).taught(2)
    for layer in range(2):
        first, second = (branch.down[layer][0] for branch in learner.branches)
        assert torch.equal(learner.branches[1].down[layer][0], learner.branches[1].down[layer][1])  # k and v alike
        torch.testing.assert_close(first @ first.T, torch.eye(3) / 3, atol=1e-4, rtol=0)
        torch.testing.assert_close(second @ second.T, torch.eye(3) / 3, atol=1e-4, rtol=0)
    one = tiny.bench("inflora", rank=3, share=0.9).taught(1)
    before = [one.kept.basis(layer).clone() for layer in range(2)]
    learn(one, tiny.tasks()[1])
    for layer, basis in enumerate(before):
        assert float((one.branches[1].down[layer][0] @ basis).abs().max()) < 1e-4
    assert all(size > 0 for size in one.kept.sizes())


def test_infloras_second_moments_are_those_of_the_tokens() -> None:
    bench = tiny.bench("inflora")
    learner, seen = bench.learner(), []
    moments: list[torch.Tensor] = []

    def run():
        moments.extend((yield from learner._moments(bench.tasks[0], "inputs")))

    for _ in run():
        pass
    images = torch.cat([x for x, _ in bench.tasks[0].batches(64)])
    handle = bench.backbone.module.blocks[1].attn.register_forward_pre_hook(lambda _m, x: seen.append(x[0]))
    with torch.no_grad():
        bench.backbone.embed(bench.backbone.pixels(images))
    handle.remove()
    x = seen[0].flatten(0, 1).double().numpy()
    np.testing.assert_allclose(moments[1].numpy(), x.T @ x / len(x), rtol=1e-3, atol=1e-4)


def test_sd_lora_keeps_directions_and_learns_every_magnitude() -> None:
    bench = tiny.bench("sd-lora", **FIT)
    learner = bench.taught(1)
    first = factors(learner.branches[0])
    learn(learner, bench.tasks[1])
    for old, now in zip(first, factors(learner.branches[0]), strict=True):
        torch.testing.assert_close(now, old / torch.linalg.matrix_norm(old, keepdim=True))
    second = factors(learner.branches[0])
    learn(learner, bench.tasks[2])
    assert all(torch.allclose(a, b) for a, b in zip(second, factors(learner.branches[0]), strict=True))
    a = learner.magnitudes.a
    assert a.shape == (3,) and bool((a[:2] != 0.8).all())


@pytest.mark.parametrize("name", ["inflora", "sd-lora"])
def test_what_is_shown_is_the_product(name) -> None:
    learner = tiny.bench(name, **FIT).taught(2)
    shown = learner.internals()
    assert shown["lowrank/magnitude"].shape == shown["lowrank/rank"].shape == (2, 2)
    branch, scale = learner.branches[1], 1.0 if name == "inflora" else float(learner.magnitudes.a[1].abs())
    products = branch.up[0] @ branch.down[0]
    norm = torch.linalg.vector_norm(products) * scale
    torch.testing.assert_close(shown["lowrank/magnitude"][0, 1], norm.detach(), rtol=1e-4, atol=1e-6)
    assert float(shown["lowrank/rank"].max()) <= 2


def test_cosos_matrices_move_outside_the_directions_of_old_tasks() -> None:
    bench = tiny.bench("coso", every=2)
    learner = bench.taught(1)
    before = [p.detach().clone() for p in learner.worn.parameters()]
    bases = [learner.kept.basis(layer).clone() for layer in range(2)]
    learn(learner, bench.tasks[1])
    for basis, old, now in zip(bases, before, learner.worn.parameters(), strict=True):
        change = now.detach() - old
        assert basis.shape[1] > 0 and float(change.norm()) > 1e-4
        assert float((basis.T @ change).norm() / change.norm()) < 1e-2
        assert torch.linalg.matrix_rank(change, rtol=1e-4) <= min(change.shape)
    assert learner.internals()["subspaces/kept"].tolist() == [float(n) for n in learner.kept.sizes()]


def test_cosos_first_step_is_adam_inside_the_leading_directions() -> None:
    draws = torch.Generator().manual_seed(0)
    gradient = torch.randn(20, 8, generator=draws) * 0.3 ** torch.arange(8)
    own = SubspaceSteps(gradient, 3, 8, 1, draws)
    moved = own.step(gradient)
    u, _, _ = torch.linalg.svd(gradient, full_matrices=False)
    p = u[:, :3]
    torch.testing.assert_close(own.directions @ own.directions.T, p @ p.T, atol=1e-3, rtol=0)
    inner = own.directions.T @ gradient
    torch.testing.assert_close(moved, own.directions @ inner.sign(), atol=1e-3, rtol=0)  # Adam's first step is a sign


def test_cosos_head_takes_adams_steps_at_a_rate_of_its_own() -> None:
    how = {"fit.epochs": 3, "fit.batch_size": 1000, "fit.lr": 1e-9, "fit.schedule": "constant", "fit.augment": "none"}
    bench, task = tiny.bench("coso", head_lr=0.05, **how), tiny.TinyTask(0, (0, 1))
    task._images, task._labels = task._images[:18], task._labels[:18]  # as many of both, and the bias has no gradient
    learner = bench.learner()
    learn(learner, task)
    (images, labels), head = next(task.batches(1000)), torch.nn.Linear(32, 2)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    optimiser, columns = torch.optim.Adam(head.parameters(), lr=0.05), torch.tensor(learner.seen)
    for _ in range(3):
        optimiser.zero_grad()
        y = (labels[:, None] == columns).int().argmax(dim=1)
        torch.nn.functional.cross_entropy(head(bench.backbone(images)), y).backward()
        optimiser.step()
    torch.testing.assert_close(logits(learner, images), head(bench.backbone(images)).detach(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("rank", "count"), [(8, 12), (20, 1)])
def test_branches_of_inflora_stay_outside_of_what_is_kept_when_little_room_is_left(rank: int, count: int) -> None:
    """Singular vectors of no weight are any vectors: they fell into M."""
    bench = tiny.bench("inflora", rank=rank, share=0.9999 if rank == 8 else 0.95, **{"fit.epochs": 0})
    learner = bench.taught(2)
    kept = [learner.kept.basis(layer).double() for layer in range(learner.kept.layers)]
    learn(learner, tiny.TinyTask(2, (4, 5), count))
    for down, basis in zip(learner.branches[2].down, kept, strict=True):
        assert basis.shape[1] and float((down.double() @ basis).abs().max()) < 1e-4


def test_infloras_share_grows_with_the_tasks(monkeypatch) -> None:
    """Equation (5) with eps = 0.9 and half = 2."""
    asked = list[float]()

    def extend(kept: Directions, layer: int, content: torch.Tensor, share: float) -> int:
        asked.extend([share] * (layer == 0))
        return 0

    monkeypatch.setattr(Directions, "extend", extend)
    tiny.bench("inflora", share=0.9, half=2, **{"fit.epochs": 0}).taught(3)
    assert asked == pytest.approx([0.9, 0.9 + 0.1 / 3, 0.95])


def test_magnitudes_of_sd_lora_begin_every_task_anew() -> None:
    bench = tiny.bench("sd-lora", start=0.8)
    learner = bench.taught(2)
    assert float((learner.magnitudes.a - 0.8).abs().max()) > 1e-4
    learner.params = learner.params.model_copy(update={"fit": learner.params.fit.model_copy(update={"epochs": 0})})
    learn(learner, bench.tasks[2])
    assert learner.magnitudes.a.tolist() == pytest.approx([0.8] * 3)
