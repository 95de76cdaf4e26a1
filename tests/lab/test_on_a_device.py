"""Whole runs on a pretended CUDA device and on MPS: stream, probe, Grad-CAM, checkpoints, what-ifs."""

from pathlib import Path

import pytest
import torch

from cillab.backbones import frozen
from cillab.lab import Lab
from cillab.lab.whatif import WhatIf
from cillab.learners import learners, make_learner
from tests.lab.fakes import squares
from tests.learners import tiny, tiny_clip
from tests.pretended import Pretended

GPU = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    found = torch.device(getattr(request, "param", "cuda"), 0)
    monkeypatch.setattr(frozen, "resolve_device", lambda device: found)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Pretended")
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 1)
    with Pretended():
        yield found


def lab_at(out: Path, name: str, scenario: str = "class-incremental", split: str = "B0-Inc2") -> Lab:
    backbone = tiny_clip.clip() if "clip" in learners[name].capabilities.needs else tiny.backbone()
    learner = make_learner(name, backbone, **learners[name].Params.quick)
    stream = squares(6, split, scenario=scenario)
    return Lab(stream, learner, out, probe_points=6, train_probe_per_class=2, cams=True)


@pytest.mark.parametrize(
    ("gpu", "name", "scenario", "split"),
    [
        ("cuda", "simplecil", "class-incremental", "B0-Inc2"),
        ("cuda", "simplecil", "si-blurry", "scenario"),
        ("cuda", "zeroshot-clip", "base-to-new", "base-new"),
        ("mps", "acil", "class-incremental", "B0-Inc2"),
        ("mps", "zeroshot-clip", "base-to-new", "base-new"),
    ],
    indirect=["gpu"],
)
def test_a_run_with_all_that_is_looked_at(
    gpu: torch.device, name: str, scenario: str, split: str, tmp_path: Path
) -> None:
    lab = lab_at(tmp_path / "run", name, scenario, split)
    list(lab)
    assert lab.run.result is not None
    assert lab.run.info.device.startswith(f"{gpu} (") and lab.run.info.device != f"{gpu} ()"
    assert any(key.startswith("cam") for key in lab.run.snapshot(lab.run.steps[-1]))


def test_resumed_and_asked_what_if(tmp_path: Path) -> None:
    next(iter(lab_at(tmp_path / "run", "min")))
    again = lab_at(tmp_path / "new", "min")
    again = Lab.resume(tmp_path / "run", again.stream, again.learner)
    list(again)
    images = again.stream.test(None)
    found = WhatIf(again.learner, images.images, images.labels)
    assert list(found.measure())
    assert len(found.reply(found.one).classes) == len(images)
    maps = found.maps(0, found.one)
    assert maps and images.images.device == GPU
