"""On a GPU every value that Python asks a tensor for stops the queue. Here: how often a training step asks.

Counted are the calls that would wait for a device (`item`, `float`, `tolist`, `cpu`, ...), in a task and in one with
three times the images; the difference belongs to the steps. The loss is read every `LOSS_EVERY` steps, and that is all.
`torch.equal` is left out: labels are compared with it on CPUs only (`columns_of`).
"""

import os
import sys
from collections import Counter

import pytest
import torch
from torch.overrides import TorchFunctionMode

from cillab.backbones import make_backbone
from cillab.learners import learners, make_learner
from cillab.parts.fitting import LOSS_EVERY
from cillab.streams.stream import make_stream

WAITING = {
    "item", "tolist", "cpu", "numpy", "__float__", "__int__", "__bool__", "__index__", "is_nonzero", "nonzero",
    "unique", "__contains__", "allclose", "masked_select",
}  # fmt: skip
SLOW = pytest.mark.slow
TRAINED = ("finetune", pytest.param("coda-prompt", marks=SLOW), pytest.param("l2p", marks=SLOW))


def _by_optimiser() -> bool:
    """Adam counts its steps in tensors that stay on the CPU, whatever the device: reading those waits for nothing."""
    frame = sys._getframe(2)
    while frame is not None and (frame.f_code.co_filename != __file__ or frame.f_code.co_name == "__torch_function__"):
        if f"{os.sep}torch{os.sep}optim{os.sep}" in frame.f_code.co_filename:
            return True
        frame = frame.f_back
    return False


class Watch(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        if name in WAITING and any(isinstance(one, torch.Tensor) for one in args) and not _by_optimiser():
            self.calls[name] += 1
        return func(*args, **(kwargs or {}))


def test_the_watch_sees_them() -> None:
    x = torch.ones(3)
    with Watch() as watch:
        _ = float(x[0]), bool(x[0]), int(x[0]), x[0].item(), x.tolist(), x.cpu(), x.numpy(), x.nonzero()
    assert sum(watch.calls.values()) == 8, watch.calls


@pytest.fixture(scope="module")
def backbone():
    return make_backbone("bundled:vit", precision="fp32")


def counted(learner: str, images: int, backbone) -> tuple[Counter[str], int]:
    """Calls in the first task, and its training steps."""
    stream = make_stream("digits", split="B0-Inc5", train_per_class=images, test_per_class=1).on(backbone)
    quick = {**learners[learner].Params.quick, "fit.batch_size": 4, "fit.epochs": 2}
    made, steps = make_learner(learner, backbone, **quick), 0
    with Watch() as watch:
        for progress in made.observe(stream[0]):
            steps += progress.epochs > 0
    return watch.calls, steps


@pytest.mark.parametrize("learner", TRAINED)
def test_a_step_asks_for_nothing_but_now_and_then_the_loss(learner: str, backbone) -> None:
    few, short = counted(learner, 4, backbone)
    many, long = counted(learner, 12, backbone)
    more = {name: many[name] - few[name] for name in many if many[name] > few[name]}
    assert long - short >= 15
    assert sum(more.values()) <= (long - short) / LOSS_EVERY + 4, (more, long - short)
