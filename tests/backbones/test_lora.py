"""Low-rank changes of attention. Oracle: the same model with the changed matrices written into it."""

import copy

import pytest
import torch
from open_clip.transformer import VisionTransformer

from cillab.backbones.clip import clip_anatomy
from cillab.backbones.lora import LoRA
from cillab.core import rng
from cillab.core.errors import IncompatibleError, RunError
from tests.backbones.models import clip, convnet, copies_of, pictures, pixels, same, vit


def lora(backbone, rank: int = 4, seed: int = 0, **options) -> LoRA:
    return LoRA(backbone, rank, generator=rng.stream(seed, "lora"), **options)


def excited(worn: LoRA) -> LoRA:
    """The same factors with up matrices that are not zero any more."""
    with torch.no_grad():
        for index, up in enumerate(worn.up):
            up.normal_(generator=rng.stream(1, index))
    return worn


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("make", [vit, clip])
def test_a_fresh_one_changes_no_bit(make, precision: str, grad: bool) -> None:
    backbone, own = make(precision=precision), pixels(2)
    with torch.set_grad_enabled(grad):
        before = backbone.embed(own)
        with backbone.wearing(lora(backbone)):
            assert torch.equal(backbone.embed(own), before)


@pytest.mark.parametrize("make", [vit, clip])
def test_it_is_the_model_with_changed_matrices(make) -> None:
    backbone, own = make(), pixels(2)
    worn = excited(lora(backbone, alpha=2.0))
    by_hand = copy.deepcopy(backbone.module)
    dim = backbone.token_dim
    for index, name in enumerate(worn.names):
        matrix = by_hand.get_parameter(name).data
        for place, rows in enumerate((slice(0, dim), slice(2 * dim, 3 * dim))):  # q and v, not k
            matrix[rows] += 2.0 / 4 * worn.up[index][place] @ worn.down[index][place]
    with torch.no_grad(), backbone.wearing(worn):
        torch.testing.assert_close(backbone.embed(own), by_hand(own), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("make", [vit, clip])
def test_gradient_reaches_the_factors_alone(make, precision: str) -> None:
    backbone, own = make(precision=precision), pixels(4)
    before, worn = copies_of(backbone.module), lora(backbone)
    target = pixels(1, seed=3).flatten()[: backbone.feature_dim]
    worn.requires_grad_(True)
    optimiser = torch.optim.SGD(worn.parameters(), lr=0.05)
    losses = []
    for _ in range(3):
        with backbone.wearing(worn):
            loss = (backbone.embed(own) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in worn.parameters())
    assert all(p.grad is None for p in backbone.module.parameters())
    assert same(copies_of(backbone.module), before)


def test_it_comes_off_after_an_exception() -> None:
    backbone = clip()
    originals = dict(backbone.module.named_parameters())
    with pytest.raises(KeyError), backbone.wearing(excited(lora(backbone))):
        raise KeyError
    assert all(tensor is originals[name] for name, tensor in backbone.module.named_parameters())


def test_features_are_remembered_by_its_factors() -> None:
    backbone, images = vit(), pictures(2)
    worn = lora(backbone)
    with torch.no_grad():
        plain = backbone(images)
        with backbone.wearing(worn):
            assert torch.equal(backbone(images), plain)
        excited(worn)
        with backbone.wearing(worn):
            changed = backbone(images)
        assert not torch.equal(changed, plain)
        with backbone.wearing(worn):
            assert torch.equal(backbone(images), changed)


def test_state_goes_round_and_does_not_fit_another_rank() -> None:
    backbone, own = vit(), pixels(2)
    worn, other = excited(lora(backbone)), lora(backbone, seed=9)
    other.load(worn.state())
    with torch.no_grad():
        with backbone.wearing(worn):
            expected = backbone.embed(own)
        with backbone.wearing(other):
            assert torch.equal(backbone.embed(own), expected)
    with pytest.raises(RunError, match="other blocks, maps or ranks"):
        lora(backbone, rank=2).load(worn.state())


def test_only_vits_that_stack_q_k_and_v() -> None:
    with pytest.raises(IncompatibleError, match="test_resnet is a convnet"):
        lora(convnet())


@pytest.mark.slow
def test_parameters_on_clip_vit_b_16_are_the_published_count() -> None:
    module = VisionTransformer(224, 16, 768, layers=12, heads=12, mlp_ratio=4, output_dim=512)
    backbone = clip()
    backbone.module, backbone.anatomy = module, clip_anatomy(module)
    worn = LoRA(backbone, 8, 8.0, generator=rng.stream(0))
    assert sum(p.numel() for p in worn.parameters()) == 294_912
