"""No line of a learner forgets the device: every learner learns and answers on a pretended CUDA device."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from cillab.backbones import frozen
from cillab.core.state import pack, restore, snapshot, unpack
from cillab.learners import checks, learners, simplecil
from cillab.parts.heads import Prototypes
from tests.learners import tiny, tiny_clip
from tests.pretended import Pretended

GPU = torch.device("cuda", 0)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(frozen, "resolve_device", lambda device: GPU)
    with Pretended():
        yield


def bench(name: str, device: torch.device = GPU) -> checks.Bench:
    """The tiny bench, made smaller, with its images where a stream would put them."""
    made = (tiny_clip if "clip" in learners[name].capabilities.needs else tiny).bench(name)
    tasks = [tiny.TinyTask(i, (2 * i, 2 * i + 1), 5) for i in range(2)]
    for task in tasks:
        task._images, task._labels = task._images.to(device), task._labels.to(device)
    images, labels = made.test[0]
    return checks.Bench(name, made.backbone, tasks, [(images[:4].to(device), labels[:4].to(device))], made.quick)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("name", list(learners))
def test_learns_answers_and_comes_back(name: str) -> None:
    made = bench(name)
    learner: Any = made.taught()
    scores = checks.logits(learner, made.images)
    assert learner.backbone.device == GPU and scores.device == GPU and learner.features(made.images).device == GPU
    assert learner.head().weight.device == GPU and isinstance(learner.internals(), Mapping)
    held = {f"{n}.{key}": t for n, part in learner.parts().items() for key, t in part.state().tensors.items()}
    assert not [name for name, tensor in held.items() if tensor.device != GPU], "state beside the device"
    tensors, meta = pack(snapshot(learner.parts()))
    again = made.learner()
    restore(again.parts(), unpack({key: tensor.cpu() for key, tensor in tensors.items()}, meta))  # as from a file
    assert torch.equal(scores, checks.logits(again, made.images))


@pytest.mark.usefixtures("gpu")
def test_a_head_left_behind_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simplecil, "Prototypes", lambda dim, _device, **named: Prototypes(dim, **named))
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        bench("simplecil").taught(1)


@pytest.mark.xfail(reason="sums of features are float64 on the backbone's device", raises=TypeError, strict=True)
@pytest.mark.parametrize("name", ["simplecil", "ranpac"])
def test_learns_where_there_is_no_float64(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("mps", 0)
    monkeypatch.setattr(frozen, "resolve_device", lambda _: device)
    with Pretended():
        made = bench(name, device)
        assert checks.logits(made.taught(1), made.images).device == device
