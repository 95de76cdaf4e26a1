"""Features, taps and digests. Oracle: the library's own forward pass on its own transform of PIL images."""

import pytest
import torch
from PIL import Image
from timm.data.transforms_factory import create_transform

from cillab.backbones.computing import resolve_device, resolve_precision
from cillab.core.contract import Delta
from cillab.core.errors import InvalidRequestError
from tests.backbones.models import clip, convnet, copies_of, hooks_of, pictures, pixels, same, vit


@pytest.mark.parametrize(("height", "width"), [(32, 32), (50, 37), (20, 64)])
def test_features_equal_timm_on_timms_transform(height: int, width: int) -> None:
    """Tolerance: a pixel may differ by one grey level of 255, where our rounding between two passes differs."""
    backbone, images = vit(crop=0.9), pictures(4, height, width)
    transform = create_transform(
        (3, 32, 32), mean=(0.5,) * 3, std=(0.5,) * 3, crop_pct=0.9, interpolation="bicubic", is_training=False
    )
    theirs = torch.stack([transform(Image.fromarray(image.permute(1, 2, 0).numpy())) for image in images])
    assert (backbone.pixels(images) - theirs).abs().max() <= 2 / 255 + 1e-6
    with torch.no_grad():
        expected, got = backbone.module(theirs), backbone(images)
    assert torch.nn.functional.cosine_similarity(got, expected).min() > 0.9995
    assert torch.nn.functional.cosine_similarity(got, expected.roll(1, 0)).max() < 0.99  # images do differ


@pytest.mark.parametrize(("amx", "chosen"), [(True, "bf16"), (False, "fp32")])
def test_auto_takes_bf16_on_a_cpu_with_amx_alone(monkeypatch: pytest.MonkeyPatch, amx: bool, chosen: str) -> None:
    """AVX512-BF16 without AMX multiplies slower than fp32 (`benchmarks/precision.py`)."""
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    assert resolve_precision("auto", torch.device("cpu")) == chosen


def test_a_convnet_gives_timms_features() -> None:
    backbone, own = convnet(), pixels(2, 64)
    assert backbone.kind == "convnet"
    assert backbone.depth == len(backbone.block_names) > 1
    with torch.no_grad():
        assert torch.equal(backbone.embed(own), backbone.module(own))
        assert backbone(pictures(2)).shape == (2, backbone.feature_dim)
    with backbone.tap(backbone.block_names[-1], cut=True) as taken:
        backbone.embed(own).sum().backward()
    activation = taken[backbone.block_names[-1]]
    assert activation.shape[1] == backbone.token_dim
    assert activation.grad.abs().sum() > 0


def test_empty_one_and_many_images() -> None:
    backbone, images = vit(), pictures(130)
    with torch.no_grad():
        assert backbone(images[:0]).shape == (0, 32)
        together = torch.cat([backbone.embed(backbone.pixels(chunk)) for chunk in images.split(10)])
        assert torch.allclose(backbone(images), together, atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_company_does_not_change_a_single_bit(precision: str) -> None:
    backbone, images = vit(precision), pictures(70)
    with torch.no_grad():
        full = backbone._by_chunks(images, backbone.embed)
        for count in (1, 2, 5, 9):
            assert torch.equal(backbone._by_chunks(images[:count], backbone.embed), full[:count])


def test_bf16_agrees_with_fp32() -> None:
    images = pictures(16)
    with torch.no_grad():
        exact, fast = vit("fp32")(images), vit("bf16")(images)
    assert fast.dtype == torch.float32
    assert not torch.equal(exact, fast)
    assert torch.nn.functional.cosine_similarity(exact, fast).min() > 0.998


@pytest.mark.parametrize("make", [vit, clip])
def test_a_tap_changes_nothing_and_leaves_nothing(make) -> None:
    backbone, own = make(), pixels(3)
    with torch.no_grad():
        before = backbone.embed(own)
        with backbone.tap(*backbone.block_names) as taken:
            assert torch.equal(backbone.embed(own), before)
        assert [taken[name].shape for name in backbone.block_names] == [(3, 17, 32)] * 3
        with backbone.tap(backbone.block_names[1], cut=True):
            assert torch.allclose(backbone.embed(own), before, atol=1e-5)
    assert hooks_of(backbone.module) == 0
    with pytest.raises((AssertionError, RuntimeError)), backbone.tap(backbone.block_names[0]):
        backbone.embed(pixels(1, size=16))  # the models take 32 px only
    assert hooks_of(backbone.module) == 0
    assert not backbone._taps


@pytest.mark.parametrize("make", [vit, clip])
def test_the_gradient_at_a_cut_is_the_full_gradient(make) -> None:
    backbone, own = make(), pixels(2)
    name = backbone.block_names[1]
    with backbone.tap(name, cut=True) as taken:
        (cut,) = torch.autograd.grad(backbone.embed(own).square().sum(), taken[name])
    with backbone.tap(name) as taken:
        (full,) = torch.autograd.grad(backbone.embed(own.requires_grad_()).square().sum(), taken[name])
    assert torch.allclose(cut, full, atol=1e-4 * float(full.abs().max()))  # torch's attention has a path without grad
    assert full.abs().sum() > 0


def test_a_tap_on_nothing_names_the_nearest() -> None:
    with pytest.raises(InvalidRequestError, match=r"no module 'blocks.9'.*Nearest: 'blocks"), vit().tap("blocks.9"):
        pass


def test_the_digest_is_of_the_weights_alone() -> None:
    first, second = vit(), vit(precision="bf16")
    assert first.digest() == second.digest()
    assert first.digest() != vit(embed_dim=64).digest()
    second.module.blocks[0].mlp.fc1.weight.data[0, 0] += 1
    changed = vit()
    changed.module.load_state_dict(second.module.state_dict())
    assert changed.digest() != first.digest()


def test_nothing_is_worn_after_a_failure() -> None:
    class Broken(Delta):
        def worn_by(self, module):
            raise ValueError("broken")

        def tensors(self):
            return {}

    backbone = vit()
    before = copies_of(backbone.module)
    with pytest.raises(ValueError, match="broken"), backbone.wearing(Broken()):
        pass
    assert backbone._worn == []
    assert same(copies_of(backbone.module), before)


def test_the_model_is_frozen_and_in_eval_mode() -> None:
    for backbone in (vit(), convnet(), clip()):
        assert not any(module.training for module in backbone.module.modules())
        assert not any(parameter.requires_grad for parameter in backbone.module.parameters())


def test_a_device_without_float64_is_not_taken_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("auto") == torch.device("cpu")
