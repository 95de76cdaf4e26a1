"""What a run costs: trained and stored numbers, backbone passes, memory. Measured, not declared by the learner."""

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook

from cillab.core.contract import Backbone, Learner

COUNTED = 8  # images: a backbone may pad smaller batches


class Trainable:
    """The largest number of parameters that one optimiser step of a task updated while `watching`."""

    def __init__(self) -> None:
        self.largest = 0
        self._counted: set[int] = set()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Count inside this block. PyTorch's hook is process-wide, so it is held only while the learner runs."""
        handle = register_optimizer_step_pre_hook(self._count)
        try:
            yield
        finally:
            handle.remove()

    def forget(self) -> None:
        """Before every task: the number is the task's own, in a resumed run too. An identity may be used again."""
        self._counted.clear()
        self.largest = 0

    def _count(self, optimiser: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if id(optimiser) not in self._counted:
            self._counted.add(id(optimiser))
            number = sum(p.numel() for group in optimiser.param_groups for p in group["params"])
            self.largest = max(self.largest, number)


def stored_numbers(learner: Learner) -> int:
    """How many numbers a checkpoint holds beside the backbone: weights, statistics, exemplars, whatever their width."""
    return sum(t.numel() for part in learner.parts().values() for t in part.state().tensors.values())


def passes_per_image(learner: Learner, backbone: Backbone, images: Tensor) -> float:
    """How often one test image goes through the backbone for one prediction.

    Counted at the first layer that the image meets, with grad enabled, where no feature is remembered.
    """
    first: list[Any] = []
    rows = 0

    def count(module: Any, inputs: tuple[Any, ...]) -> None:
        nonlocal rows
        if not first:
            first.append(module)
        if module is first[0] and inputs and isinstance(inputs[0], Tensor):
            rows += inputs[0].shape[0]

    leaves = [module for module in backbone.module.modules() if not any(True for _ in module.children())]
    handles = [module.register_forward_pre_hook(count) for module in leaves]
    try:
        with torch.enable_grad():
            learner.logits(images[:1].repeat(COUNTED, 1, 1, 1))
    finally:
        for handle in handles:
            handle.remove()
    return rows / COUNTED


def peak_memory_bytes(device: torch.device) -> int:
    """Most memory in use so far: of the device's allocator, or of the whole process on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kilobytes everywhere but on macOS
