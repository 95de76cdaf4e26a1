"""A compiled backbone against one that runs as it is written: same features, same gradients, dressed in anything."""

import pytest
import torch

from cillab.backbones import AdapterSlot, NoiseSlot, Overlay, Slots, make_backbone
from cillab.backbones.lora import LoRA
from cillab.backbones.prefixed import PrefixSlot
from cillab.core import devices, rng
from cillab.core.errors import InvalidRequestError
from cillab.lab import RunSpec
from cillab.lab.early import refuse_early
from tests.learners import tiny

NO_COMPILER = "compile on a CPU needs a C\\+\\+ compiler: g\\+\\+ or clang\\+\\+ is not there"


def dresses(backbone):
    """What learners wear, with numbers that are not zero."""
    made = {
        "nothing": [],
        "noise": [Slots.everywhere(backbone, "after", lambda i: NoiseSlot(32, 8, generator=rng.stream(i, "noise")))],
        "adapters": [Slots.everywhere(backbone, "mlp", lambda i: AdapterSlot(32, 4, generator=rng.stream(i, "mlp")))],
        "prefix": [Slots.everywhere(backbone, "kv", lambda i: PrefixSlot(32, 2, generator=rng.stream(i, "kv")))],
        "lora": [LoRA(backbone, 2, 1.0, generator=rng.stream(0, "lora"))],
        "all weights": [Overlay(backbone, "*")],
    }
    for slot in made["noise"][0]:
        slot.grow(torch.ones(1))
    with torch.no_grad():
        for dress in made.values():
            for delta in dress:
                for index, parameter in enumerate(delta.parameters()):
                    parameter.add_(0.05 * torch.randn(parameter.shape, generator=rng.stream(index, "moved")))
    return made


def asked(backbone, dress, pixels):
    """Features, and gradients of what is worn."""
    trained = [parameter for delta in dress for parameter in delta.parameters()]
    for parameter in trained:
        parameter.requires_grad_(True)
    with backbone.wearing(*dress):
        features = backbone.embed(pixels)
        loss = (features * torch.linspace(-1, 1, features.shape[1])).sum()
        gradients = torch.autograd.grad(loss, trained) if trained else ()
    return [features.detach(), *gradients]


@pytest.mark.slow
def test_the_same_features_and_gradients_whatever_is_worn() -> None:
    plain, backbone = tiny.backbone(), tiny.backbone()
    backbone.compile()
    pixels = torch.randn(5, 3, tiny.SIZE, tiny.SIZE, generator=rng.stream(0, "pixels"))
    theirs = dresses(plain)
    for turn in range(2):
        before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        for name, dress in dresses(backbone).items():
            for count in (2, 5):
                found, expected = (asked(b, d, pixels[:count]) for b, d in ((backbone, dress), (plain, theirs[name])))
                for at, (one, other) in enumerate(zip(found, expected, strict=True)):
                    away = float((one - other).abs().max() / other.abs().max().clamp(min=1e-3))
                    assert away < 1e-4, f"{name}, {count} images, tensor {at}"
        made = torch._dynamo.utils.counters["stats"]["unique_graphs"] - before
        assert made > 0 if turn == 0 else made == 0, "other slots of the same kind are no reason to compile again"
    assert backbone.feature_key() != plain.feature_key()
    images = tiny.pictures(0, 3, seed=1)
    with torch.no_grad():
        assert torch.allclose(backbone(images), plain(images), atol=1e-4)


def test_without_a_compiler_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(devices, "which", lambda name: None)
    monkeypatch.setattr(devices, "cuda_devices", lambda: 0)
    with pytest.raises(InvalidRequestError, match=NO_COMPILER):
        make_backbone("bundled:vit", device="cpu", compile=True)
    with pytest.raises(InvalidRequestError, match=NO_COMPILER):
        refuse_early(RunSpec.of({"compile": True}))
    monkeypatch.setattr(devices, "cuda_devices", lambda: 1)
    monkeypatch.setattr(devices, "find_spec", lambda name: None)
    with pytest.raises(InvalidRequestError, match="needs Triton"):
        refuse_early(RunSpec.of({"compile": True}))


def test_it_is_part_of_what_a_run_is() -> None:
    assert RunSpec.of({"compile": True}).digest() != RunSpec().digest() == RunSpec.of({"compile": False}).digest()
    assert "--compile" in RunSpec.of({"compile": True}).arguments()
