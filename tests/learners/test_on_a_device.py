"""No line of a learner forgets the device: every learner learns and answers on a pretended CUDA device and on MPS.

MPS has no float64 (the pretended one refuses it as the real one does): what is summed in float64 lies on the CPU.
"""

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from cillab.backbones import frozen
from cillab.core.devices import doubles_on
from cillab.core.state import pack, restore, snapshot, unpack
from cillab.learners import checks, learners, simplecil
from cillab.parts.heads import Prototypes
from tests.learners import tiny, tiny_clip
from tests.pretended import Pretended

DEVICES = {kind: torch.device(kind, 0) for kind in ("cuda", "mps")}
# one of each way in which float64 is used: means, ridge, LDA, full and low-rank covariances, NumPy and back,
# directions, sketches, herding, sums per task, maps between encoders
QUICK_ON_MPS = (
    "simplecil", "ranpac", "lda", "fecam", "ssiat", "ncptm", "inflora", "coso", "icarl", "ease", "rapf", "dmc-ot",
)  # fmt: skip


@pytest.fixture
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    found = DEVICES[request.param]
    monkeypatch.setattr(frozen, "resolve_device", lambda _: found)
    with Pretended():
        yield found


def bench(name: str, device: torch.device) -> checks.Bench:
    """The tiny bench, made smaller, with its images where a stream would put them."""
    made = (tiny_clip if "clip" in learners[name].capabilities.needs else tiny).bench(name)
    tasks = [tiny.TinyTask(i, (2 * i, 2 * i + 1), 5) for i in range(2)]
    for task in tasks:
        task._images, task._labels = task._images.to(device), task._labels.to(device)
    images, labels = made.test[0]
    return checks.Bench(name, made.backbone, tasks, [(images[:4].to(device), labels[:4].to(device))], made.quick)


def each_learner_on_each_device() -> list:
    return [
        pytest.param(
            kind, name, id=f"{kind}-{name}", marks=[pytest.mark.slow] * (kind == "mps" and name not in QUICK_ON_MPS)
        )
        for kind in DEVICES
        for name in learners
    ]


@pytest.mark.parametrize(("device", "name"), each_learner_on_each_device(), indirect=["device"])
def test_learns_answers_and_comes_back(device: torch.device, name: str) -> None:
    made = bench(name, device)
    learner: Any = made.taught()
    scores = checks.logits(learner, made.images)
    assert learner.backbone.device == device and scores.device == device
    assert learner.features(made.images).device == device
    assert learner.head().weight.device == device and isinstance(learner.internals(), Mapping)
    held = {f"{n}.{key}": t for n, part in learner.parts().items() for key, t in part.state().tensors.items()}
    home = {True: doubles_on(device), False: device}
    beside = [key for key, tensor in held.items() if tensor.device != home[tensor.dtype == torch.float64]]
    assert not beside, "state beside the device"
    tensors, meta = pack(snapshot(learner.parts()))
    again = made.learner()
    restore(again.parts(), unpack({key: tensor.cpu() for key, tensor in tensors.items()}, meta))  # as from a file
    assert torch.equal(scores, checks.logits(again, made.images))


@pytest.mark.parametrize("device", DEVICES, indirect=True)
def test_a_head_left_behind_is_found(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simplecil, "Prototypes", lambda dim, _device, **named: Prototypes(dim, **named))
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        bench("simplecil", device).taught(1)


@pytest.mark.parametrize("device", ["mps"], indirect=True)
def test_a_part_that_forgets_where_double_precision_lives_is_found(device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cillab.parts.module.doubles_on", lambda device: device)
    with pytest.raises(TypeError, match="MPS framework doesn't support"):
        bench("simplecil", device).taught(1)
