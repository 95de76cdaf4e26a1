"""What a task trained: counted at the optimiser, anew for every task."""

import torch

from cillab.lab.costs import Trainable


def test_the_number_is_the_tasks_own_so_that_a_resumed_run_says_the_same() -> None:
    first, later = torch.zeros(30, requires_grad=True), torch.zeros(4, requires_grad=True)

    def of_task(trainable: Trainable, *trained: torch.Tensor) -> int:
        trainable.forget()
        for parameter in trained:
            optimiser = torch.optim.SGD([parameter], lr=0.1)
            parameter.grad = torch.ones_like(parameter)
            with trainable.watching():
                optimiser.step()
        return trainable.largest

    straight, resumed = Trainable(), Trainable()
    assert of_task(straight, first, later) == 30  # the largest of one task's optimisers
    assert of_task(straight, later) == of_task(resumed, later) == 4
    assert of_task(straight) == 0  # a closed form
