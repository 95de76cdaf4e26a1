"""On a GPU every value that Python asks a tensor for stops the queue. Here: no training step of any learner asks.

The device is a pretended one (`tests/pretended.py`), so that what lies on the CPU anyway (draws, Adam's counters) is
not counted. Counted is what makes the host wait: values read (`item`, `float`, `tolist`, `cpu`, ...), results whose
size is a value (`nonzero`, `unique`, a mask as index), and copies to the device that do not say `non_blocking`. Every
`LOSS_EVERY` steps the loss is read, and between two epochs a method may look at itself: those steps are left out.
"""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cillab.backbones import frozen
from cillab.learners import checks, learners
from cillab.parts.fitting import LOSS_EVERY, Fit
from tests.learners import tiny, tiny_clip
from tests.pretended import Pretended

GPU = torch.device("cuda", 0)
VALUES = {
    "item", "tolist", "cpu", "numpy", "__float__", "__int__", "__bool__", "__index__", "is_nonzero", "nonzero",
    "unique", "__contains__", "allclose", "equal", "masked_select", "bincount", "argwhere", "cholesky", "eigh", "svd",
}  # fmt: skip
FEW, EACH = {"epochs": 2, "batch_size": 3}, 5  # images of a class
MORE = {"teen": {"adapt": "ssf"}}


class Watch(Pretended):
    """The pretended device, and what made the host wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        on_device = bool(args) and isinstance(args[0], Tensor) and self.where(args[0]) == GPU
        masks = name in ("__getitem__", "__setitem__") and on_device and _asks(args[1])
        if (name in VALUES and on_device) or masks:
            self._count(name)
        found = super().__torch_function__(func, types, args, kwargs)
        quiet = bool((kwargs or {}).get("non_blocking"))
        if name == "to" and not quiet and isinstance(found, Tensor) and self.where(args[0]) != self.where(found):
            self._count("to the device" if self.where(found) == GPU else "to the host")
        if name in ("tensor", "as_tensor") and not on_device and self.where(found) == GPU:
            self._count("tensor")
        return found

    def _count(self, what: str) -> None:
        """Under the line of cillab that asked. Clipping asks for the true device of a gradient: no move on a GPU."""
        if "clip_grad" in sys._getframe(2).f_code.co_filename:
            return
        frame = sys._getframe(1)
        while frame.f_back is not None and "cillab" not in Path(frame.f_code.co_filename).parts:
            frame = frame.f_back
        self.waits[f"{what}, {Path(frame.f_code.co_filename).name}:{frame.f_lineno}"] += 1


def _asks(index: Any) -> bool:
    """A mask has to be counted, a list has to be copied."""
    found = index if isinstance(index, tuple) else (index,)
    return any(isinstance(one, list) or (isinstance(one, Tensor) and one.dtype == torch.bool) for one in found)


def test_the_watch_sees_them() -> None:
    with Watch() as watch:
        x = torch.ones(3, device="cuda")
        _ = float(x[0]), bool(x[0]), int(x[0]), x[0].item(), x.tolist(), x.cpu(), x.nonzero(), x[x > 0], x.to("cpu")
        assert watch.waits.total() == 9, watch.waits
        _ = torch.ones(3).to(GPU), torch.tensor([1.0], device=GPU)
        assert watch.waits.total() == 11, watch.waits
        host = torch.ones(3)
        _ = float(host[0]), host.tolist(), host[host > 0], host.to(GPU, non_blocking=True), x + 1, x[:2]
        assert watch.waits.total() == 11, watch.waits


def trained(name: str) -> bool:
    """Does it take gradient steps?"""
    return any(isinstance(record, Fit) for record in learners[name].Params.records().values())


@pytest.mark.parametrize("name", [name for name in learners if trained(name)])
def test_a_step_asks_for_nothing_but_now_and_then_the_loss(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen, "resolve_device", lambda device: GPU)
    with Watch() as watch:
        made = (tiny_clip if "clip" in learners[name].capabilities.needs else tiny).bench(name)
        tasks = [tiny.TinyTask(i, (2 * i, 2 * i + 1), EACH) for i in range(2)]
        for task in tasks:
            task._images, task._labels = task._images.to(GPU), task._labels.to(GPU)
        own = checks.quick_values(learners[name].Params)
        few = {key: count for key in own for end, count in FEW.items() if key.endswith(end)}
        learner, steps = made.learner(**few, **MORE.get(name, {})), 0
        for task in tasks:
            before = None
            for now in learner.observe(task):
                same = before is not None and (before.stage, before.epoch) == (now.stage, now.epoch) and now.epochs
                if same and now.step % LOSS_EVERY != 1 and now.done < now.total:
                    steps += 1
                    assert not watch.waits, f"{name}, stage {now.stage!r}, step {now.step}: {dict(watch.waits)}"
                before = now
                watch.waits.clear()
    assert steps >= 2, "no step was looked at"
