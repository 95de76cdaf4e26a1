"""ACIL equals one joint ridge, whatever the tasks; joint training is blind to them because it keeps every image."""

import pytest
import torch

from cillab.learners import make_learner
from cillab.learners.checks import learn
from tests.learners import tiny

QUICK = {"acil": {"expansion": 64, "gamma": 1.0}, "joint": {"epochs": 1, "batch_size": 12}}


def everything(tasks) -> tuple[torch.Tensor, torch.Tensor]:
    pairs = [pair for task in tasks for pair in task.batches(64)]
    return torch.cat([x for x, _ in pairs]), torch.cat([y for _, y in pairs])


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_acil_is_the_joint_ridge(order) -> None:
    learner = make_learner("acil", tiny.backbone(), **QUICK["acil"])
    tasks = tiny.tasks()
    for index in order:
        learn(learner, tasks[index])
    images, labels = everything(tasks)
    with torch.no_grad():
        phi = torch.relu(learner.features(images) @ learner.parts()["expand"].state().tensors["matrix"])
    phi, y = phi.double(), (labels[:, None] == torch.tensor(learner.seen)).double()
    w = torch.linalg.solve(phi.T @ phi + torch.eye(64, dtype=torch.float64), phi.T @ y)
    torch.testing.assert_close(learner.head().weight.double(), w.T, rtol=1e-4, atol=1e-5)


def test_joint_keeps_every_image_and_starts_again() -> None:
    learner = make_learner("joint", tiny.backbone(), **QUICK["joint"])
    for task in tiny.tasks(2):
        learn(learner, task)
    assert learner.internals()["stored"].tolist() == [12] * 4
    assert learner.capabilities.exemplars
