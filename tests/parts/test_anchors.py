"""Springs, Fisher information and averages over steps against closed forms."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cillab.kit import Importance, MovingAverage, fisher, frozen_copy, spring
from cillab.learners.checks import learn
from cillab.learners.finetune import Finetune
from tests.learners import tiny


def two() -> dict[str, nn.Parameter]:
    return {"a": nn.Parameter(torch.tensor([1.0, 2.0])), "b": nn.Parameter(torch.tensor([[3.0]]))}


def test_a_spring_by_hand_and_its_gradient() -> None:
    named = two()
    earlier = frozen_copy(named.items())
    assert float(spring(named.items(), earlier).detach()) == 0
    with torch.no_grad():
        named["a"] += torch.tensor([1.0, -2.0])
        named["b"] += 3
    assert float(spring(named.items(), earlier).detach()) == 1 + 4 + 9
    stiffness = {"a": torch.tensor([2.0, 0.0]), "b": torch.tensor([[0.5]])}
    value = spring(named.items(), earlier, stiffness)
    assert float(value.detach()) == 2 * 1 + 0.5 * 9
    value.backward()
    assert named["a"].grad is not None and named["a"].grad.tolist() == [2 * 2 * 1.0, 0.0]
    assert earlier["a"].tolist() == [1.0, 2.0]


def test_importance_adds_up_and_may_fade() -> None:
    kept = Importance()
    kept.add({"a": torch.ones(2)})
    first = kept.values["a"]
    kept.add({"a": 2 * torch.ones(2)}, keep=0.25)
    assert kept.values["a"].tolist() == [2.25, 2.25] and first.tolist() == [1.0, 1.0]
    other = Importance()
    other.load(kept.state())
    assert torch.equal(other.values["a"], kept.values["a"]) and kept.state().learning_only == {"a"}


def taught() -> Finetune:
    learner = Finetune(tiny.backbone(), Finetune.Params(epochs=1), seed=3)
    learn(learner, tiny.tasks(1)[0])
    return learner


def information(learner: Finetune, task, images: int) -> tuple[dict, list]:
    named = dict(learner.classifier.named_parameters())
    found, steps = fisher(learner, task, named, lambda h, y: F.cross_entropy(learner.classifier(h), y), images), []
    while True:
        try:
            steps.append(next(found))
        except StopIteration as stop:
            return stop.value, steps


def test_fisher_of_a_linear_head_is_the_closed_form() -> None:
    """d CE / d W = (p - y) h^T for one image: F is the mean of its squares."""
    learner, task = taught(), tiny.tasks(1)[0]
    found, steps = information(learner, task, 1000)
    images, labels = next(task.batches(100))
    with torch.no_grad():
        h = learner.features(images)
        gap = learner.classifier(h).softmax(dim=1) - F.one_hot(labels, 2)
    expected = torch.einsum("nk,nd->nkd", gap, h).square().mean(dim=0)
    torch.testing.assert_close(found["weight"], expected, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(found["bias"], gap.square().mean(dim=0), rtol=1e-3, atol=1e-6)
    assert len(steps) == steps[-1].total == len(task) and not learner.classifier.weight.requires_grad


def test_fisher_of_all_images_is_the_mean_over_halves_and_never_negative() -> None:
    learner, task = taught(), tiny.tasks(1)[0]
    whole, _ = information(learner, task, 1000)
    assert all(bool((f >= 0).all()) and bool(f.any()) for f in whole.values())
    few, steps = information(learner, task, 5)
    again, _ = information(learner, task, 5)
    assert len(steps) == 5 and torch.equal(few["weight"], again["weight"])
    assert not torch.allclose(few["weight"], whole["weight"])


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_moving_average_is_the_weighted_sum_of_its_steps(momentum: float) -> None:
    parameter = nn.Parameter(torch.tensor([2.0]))
    average, values = MovingAverage([parameter], momentum), [2.0]
    for step in range(1, 6):
        with torch.no_grad():
            parameter.fill_(step**2)
        values.append(step**2)
        average.update()
    average.settle()
    weights = np.array([momentum**5, *((1 - momentum) * momentum ** (5 - s) for s in range(1, 6))])
    assert float(parameter.detach()) == pytest.approx(float(weights @ np.array(values)), rel=1e-6)
