"""DMC and DMC-OT against what their stages promise: who trains when, what is replayed, what is calibrated."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cillab.backbones.lora import LoRA
from cillab.core.state import snapshot
from cillab.learners.checks import learn
from cillab.parts.calibration import CALIBRATIONS, Pairs
from cillab.parts.prompting import balanced_cross_entropy
from cillab.parts.watching import logit_bias
from tests.backbones.models import clip
from tests.learners import tiny, tiny_clip

BOTH = ("dmc", "dmc-ot")


def tensors(part: Any) -> dict[str, Tensor]:
    return {name: t.detach().clone() for name, t in part.state().tensors.items()}


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


@pytest.mark.parametrize("name", BOTH)
def test_the_images_stage_leaves_the_prompt_alone_and_the_text_stage_the_images(name: str) -> None:
    learner = tiny_clip.taught(name, 1)
    task = tiny.tasks(2)[1]
    steps = learner.observe(task)
    next(steps)
    prompt = tensors(learner.prompt)
    vision: dict[str, Tensor] = {}
    trained = False
    for progress in steps:
        if progress.stage != "text":
            assert same(tensors(learner.prompt), prompt), f"the prompt moved in stage {progress.stage}"
            vision = tensors(learner.worn)
        else:
            assert same(tensors(learner.worn), vision), "the images' side moved in the text stage"
            trained = True
    assert trained and not same(tensors(learner.prompt), prompt)


def test_the_images_stage_moves_the_images_side() -> None:
    learner = tiny_clip.learner("dmc")
    before = tensors(learner.worn)
    learn(learner, tiny.tasks(1)[0])
    assert not same(tensors(learner.worn), before)


def test_joint_training_is_the_ablation_that_moves_both_at_once() -> None:
    learner = tiny_clip.learner("dmc", joint=True)
    before = tensors(learner.prompt)
    for progress in learner.observe(tiny.tasks(1)[0]):
        if progress.stage == "images":
            continue
        assert not same(tensors(learner.prompt), before)
        break


@pytest.mark.parametrize("vision", ["lora", "last", "full", "none"])
def test_a_fresh_images_side_is_clips_own(vision: str) -> None:
    learner = tiny_clip.learner("dmc", vision=vision)
    with torch.no_grad():
        assert torch.equal(learner.features(tiny_clip.images()), learner.backbone(tiny_clip.images()))
    assert isinstance(learner.worn, LoRA) == (vision == "lora")
    learn(learner, tiny.tasks(1)[0])


def test_the_memory_holds_the_moments_of_the_tasks_features() -> None:
    learner = tiny_clip.taught("dmc", 1)
    task = tiny.tasks(1)[0]
    images, labels = next(task.batches(100))
    with torch.no_grad():
        h = learner.features(images)[labels == 1].double()
    row = learner.memory.classes.index(1)
    torch.testing.assert_close(learner.memory.means[row].double(), h.mean(dim=0), rtol=1e-4, atol=1e-5)
    expected = torch.cov(h.T, correction=0)
    torch.testing.assert_close(learner.memory.covariances[row].double(), expected, rtol=1e-3, atol=1e-5)


def test_drawn_features_have_the_stored_moments() -> None:
    memory = tiny_clip.taught("dmc", 1).memory
    drawn, labels = memory.sample(20_000, torch.Generator().manual_seed(0), floor=0.0)
    for row, c in enumerate(memory.classes):
        mine = drawn[labels == c].double()
        deviation = memory.covariances[row].diagonal().double().sqrt()
        error = (mine.mean(dim=0) - memory.means[row].double()) / deviation
        assert error.abs().max() < 5 / 20_000**0.5
        scale = deviation[:, None] * deviation
        assert ((torch.cov(mine.T) - memory.covariances[row].double()) / scale).abs().max() < 8 / 20_000**0.5


def test_replay_reaches_the_loss() -> None:
    with_replay, without = (tiny_clip.taught("dmc", 2, replay=n).classifier.prototypes for n in (4, 0))
    assert not torch.equal(with_replay, without)
    first = [tiny_clip.taught("dmc", 1, replay=n).classifier.prototypes for n in (4, 0)]
    assert torch.equal(*first)  # nothing to replay yet


def test_all_classes_weigh_the_same() -> None:
    """Oracle: the mean over classes of the mean over their features."""
    g = torch.Generator().manual_seed(0)
    labels = torch.tensor([7] * 9 + [3] * 2 + [5])
    logits = torch.randn(12, 4, generator=g)
    columns = {7: 0, 3: 1, 5: 3}  # column 2 is absent from the batch
    losses = F.cross_entropy(logits, torch.tensor([columns[int(y)] for y in labels]), reduction="none")
    expected = torch.stack([losses[labels == c].mean() for c in (7, 3, 5)]).mean()
    torch.testing.assert_close(balanced_cross_entropy(logits, labels, (7, 3, 9, 5)), expected)


def test_gradient_reaches_the_context_through_the_text_tower_alone() -> None:
    learner = tiny_clip.taught("dmc", 1)
    learner.prompt.requires_grad_(True)
    features = learner.features(tiny_clip.images()).detach()
    learner.classifier(features, learner.classifier.encode())[:, 0].sum().backward()
    assert learner.prompt.context.grad.abs().max() > 0
    assert all(p.grad is None for p in learner.backbone.model.parameters())
    assert all(p.grad is None for p in learner.worn.parameters())
    assert not learner.classifier(features).requires_grad  # the kept prototypes are numbers


def test_distillation_holds_features_where_they_were() -> None:
    gaps = []
    for distil in (0.0, 100.0):
        learner = tiny_clip.taught("dmc", 1, lr=0.01, distil=distil)
        task = tiny.tasks(2)[1]
        images, _ = next(task.batches(100))
        with torch.no_grad():
            before = F.normalize(learner.features(images), dim=-1)
            learn(learner, task)
            gaps.append(float((F.normalize(learner.features(images), dim=-1) - before).square().sum(dim=1).mean()))
    assert gaps[1] < 0.5 * gaps[0]


def test_logit_bias_by_a_loop() -> None:
    learner = tiny_clip.taught("dmc", 2)
    task = tiny.tasks(2)[1]
    table = logit_bias(learner.classifier, learner.memory, task.classes, learner.draws("bias", task.index), each=5)
    draws = learner.draws("bias", task.index)
    for row, classes in enumerate(((0, 1), (2, 3))):
        scores = learner.classifier(learner.memory.sample(5, draws, classes)[0])
        expected = [float(scores[:, columns].max(dim=1).values.mean()) for columns in ([0, 1], [2, 3])]
        assert table[row].tolist() == pytest.approx(expected, rel=1e-5)
    assert learner.internals()["text/logit_bias"].shape == (2, 2)


@pytest.mark.parametrize("calibration", sorted(CALIBRATIONS))
def test_old_gaussians_are_those_before_moved_by_the_pairs(calibration: Any) -> None:
    """Oracle: the same images through the encoder before and after, in the order of the task."""
    learner = tiny_clip.taught("dmc-ot", 1, calibration=calibration, lr=0.01)
    task = tiny.tasks(2)[1]
    images, labels = next(task.batches(100))
    stored = snapshot({"memory": learner.memory})["memory"]
    with torch.no_grad():
        old = learner.features(images)
        learn(learner, task)
        new = learner.features(images)
    assert not torch.allclose(old, new, rtol=1e-2)
    assert torch.equal(learner.memory_before.means, stored.tensors["means"])
    assert torch.equal(learner.memory_before.covariances, stored.tensors["covariances"])
    expected = CALIBRATIONS[calibration](learner.memory_before, Pairs(old, new, labels), 0.05, 0.05)
    kept = learner.memory.only((0, 1))
    torch.testing.assert_close(kept.means, expected.means, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(kept.covariances, expected.covariances, rtol=1e-3, atol=1e-3)


def test_an_encoder_that_stays_leaves_the_memory_and_has_a_flat_spectrum() -> None:
    learner = tiny_clip.taught("dmc-ot", 2, vision="none")
    torch.testing.assert_close(learner.memory.only((0, 1)).means, learner.memory_before.means, rtol=1e-4, atol=1e-4)
    spectrum = learner.internals()["transport/eigenvalues"]
    torch.testing.assert_close(spectrum, torch.ones(24), rtol=0, atol=1e-4)


def test_task_tokens_of_older_tasks_are_frozen() -> None:
    learner = tiny_clip.taught("dmc-ot", 1)
    first, shared = learner.prompt.tasks[0].detach().clone(), learner.prompt.context.detach().clone()
    learn(learner, tiny.tasks(2)[1])
    assert torch.equal(learner.prompt.tasks[0], first)
    assert not torch.equal(learner.prompt.context, shared)
    assert learner.classifier.task_of == (0, 0, 1, 1)


@pytest.mark.parametrize("shared", [True, False])
def test_a_task_without_a_new_class_gets_no_tokens(shared: bool) -> None:
    """It got some, no name was written with them, and they were stored for ever."""
    learner = tiny_clip.taught("dmc-ot", 2, shared_after_first=shared)
    before = [q.detach().clone() for q in learner.prompt.tasks]
    old = learner.prompt.context.detach().clone()
    learn(learner, tiny.tasks(1)[0])
    assert len(learner.prompt.tasks) == 2
    assert all(torch.equal(q, b) for q, b in zip(learner.prompt.tasks, before, strict=True))
    assert torch.equal(learner.prompt.context, old) is not shared
    learn(learner, tiny.TinyTask(3, (4, 5)))
    assert learner.classifier.task_of == (0, 0, 1, 1, 2, 2)


def test_the_shared_tokens_can_be_kept_from_the_first_task() -> None:
    learner = tiny_clip.taught("dmc-ot", 1, shared_after_first=False)
    prompt, old = learner.prompt.context.detach().clone(), learner.classifier.prototypes.clone()
    learn(learner, tiny.tasks(2)[1])
    assert torch.equal(learner.prompt.context, prompt)
    # then old prototypes stay as well
    torch.testing.assert_close(learner.classifier.prototypes[:2], old, rtol=0, atol=1e-6)


def test_separation_pushes_old_and_new_prototypes_apart() -> None:
    cosines = []
    for weight in (0.0, 50.0):
        changes = {"separation": weight, "margin": -1.0, "text_epochs": 5, "text_lr": 0.01}
        g = tiny_clip.taught("dmc-ot", 2, **changes).classifier.prototypes
        cosines.append(float((g[:2] @ g[2:].T).mean()))
    assert cosines[1] < cosines[0]


def test_separation_says_nothing_where_no_class_is_new() -> None:
    learner = tiny_clip.taught("dmc-ot", 1, separation=1.0)
    learn(learner, tiny.tasks(1)[0])
    assert learner.seen == (0, 1)


def test_internals_say_where_gaussians_were() -> None:
    learner = tiny_clip.taught("dmc-ot", 2)
    found = learner.internals()
    assert found["gaussian/mean"].shape == (4, 24)
    assert found["gaussian/factor"].shape == (4, 8, 24) and found["gaussian/factor"].dtype == torch.float16
    assert found["gaussian/mean_before"][:2].isfinite().all() and found["gaussian/mean_before"][2:].isnan().all()
    assert found["gaussian/factor_before"].shape == (4, 8, 24)
    assert found["transport/eigenvalues"].min() > 0
    once = tiny_clip.taught("dmc-ot", 1).internals()
    assert "gaussian/mean_before" not in once and "transport/eigenvalues" not in once


def test_parameters_of_the_text_side_are_few() -> None:
    learner = tiny_clip.learner("dmc-ot", clip(), context="random", context_length=6, task_tokens=3)
    learn(learner, tiny.tasks(1)[0])
    assert sum(p.numel() for p in learner.prompt.parameters()) == (6 + 3) * 16
