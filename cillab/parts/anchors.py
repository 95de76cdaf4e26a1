"""What holds weights where they were: springs to earlier weights, stiffer where they matter, and moving averages."""

from collections.abc import Generator, Iterable, Mapping
from itertools import islice
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cillab.core.contract import Part, Progress, State, Task
from cillab.parts.fitting import attention_for
from cillab.parts.method import Loss, Method

Named = Mapping[str, nn.Parameter]


def frozen_copy(named: Iterable[tuple[str, nn.Parameter]]) -> dict[str, Tensor]:
    """The values of today, by name."""
    return {name: p.detach().clone() for name, p in named}


def spring(
    named: Iterable[tuple[str, nn.Parameter]],
    earlier: Mapping[str, Tensor],
    stiffness: Mapping[str, Tensor] | None = None,
) -> Float[Tensor, ""]:
    """sum_i F_i (theta_i - theta'_i)^2 over all weights; F_i = 1 without `stiffness`.

    Source: EWC, Kirkpatrick et al., PNAS 114(13) 2017, arXiv:1612.00796, without its factor 1/2; with F_i = 1 the plain
    L2 anchor.
    """
    total: Any = 0.0
    for name, p in named:
        square = (p - earlier[name]).square()
        total = total + (square if stiffness is None else stiffness[name] * square).sum()
    return torch.as_tensor(total)


@final
class Importance(Part):
    """F by name, summed over tasks. Only learning needs it."""

    def __init__(self, device: torch.device | None = None) -> None:
        self.values: dict[str, Tensor] = {}
        self.device = device

    def add(self, fresh: Mapping[str, Tensor], keep: float = 1.0) -> None:
        """F <- keep F + F of the newest task."""
        self.values = {n: f if n not in self.values else keep * self.values[n] + f for n, f in fresh.items()}

    def state(self) -> State:
        """Everything as it is."""
        return State(dict(self.values), {}, frozenset(self.values))

    def load(self, state: State) -> None:
        """Take over everything."""
        self.values = {name: tensor.clone().to(self.device) for name, tensor in state.tensors.items()}


def fisher(
    learner: Method[Any], task: Task, named: Named, loss: Loss, images: int, *, stage: str = "fisher"
) -> Generator[Progress, None, dict[str, Tensor]]:
    """Diagonal of the empirical Fisher information: F_i = mean over images of (d loss / d theta_i)^2.

    One backward pass per image, on at most `images` of the task drawn by the learner's seed: the square of a batch's
    mean gradient, which much code takes, shrinks with the batch. `loss(h, labels)` is minus a log-likelihood.
    """
    parameters, count = list(named.values()), min(images, len(task))
    sums = {name: torch.zeros_like(p, requires_grad=False) for name, p in named.items()}
    draws = learner.draws(stage, task.index)
    for p in parameters:
        p.requires_grad_(True)
    try:
        for step, (x, labels) in enumerate(islice(task.batches(1, shuffle=draws), count), start=1):
            with torch.enable_grad(), attention_for(learner.backbone):
                value = loss(learner.embed(learner.on(x)), labels.to(learner.backbone.device))
                gradients = torch.autograd.grad(value, parameters, allow_unused=True)
            for name, gradient in zip(named, gradients, strict=True):
                if gradient is not None:
                    sums[name] += gradient.detach().square() / count
            yield Progress(stage, step, count, step=step)
    finally:
        for p in parameters:
            p.requires_grad_(False)
    return sums


class MovingAverage:
    """theta' <- m theta' + (1 - m) theta after every step, from where theta was at the start."""

    def __init__(self, parameters: Iterable[nn.Parameter], momentum: float) -> None:
        self.parameters, self.momentum = list(parameters), momentum
        self.values = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        """After a step of the optimiser."""
        for value, p in zip(self.values, self.parameters, strict=True):
            value.lerp_(p.detach(), 1 - self.momentum)

    @torch.no_grad()
    def settle(self) -> None:
        """Theta <- theta'."""
        for value, p in zip(self.values, self.parameters, strict=True):
            p.copy_(value)
