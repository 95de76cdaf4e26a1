"""A scale and a shift per channel: what hooks behind every layer would do, without the hooks."""

import pytest
import torch
from torch import nn

from cillab.backbones.affine import Affine
from cillab.backbones.overlay import Overlay
from cillab.core import rng
from cillab.core.errors import RunError
from tests.backbones.models import clip, convnet, copies_of, pixels, same, vit

MAKERS = pytest.mark.parametrize("make", [vit, clip, convnet])


def affine(backbone, where="everywhere", std=0.3, seed=0) -> Affine:
    return Affine(backbone, where, std, generator=rng.stream(seed, "affine"))


def size_of(backbone) -> int:
    return backbone.preprocessing.size


@MAKERS
@pytest.mark.parametrize("where", ["everywhere", "norms"])
def test_a_silent_one_changes_no_bit_and_the_weights_come_back(make, where) -> None:
    backbone = make()
    own, before = pixels(2, size_of(backbone)), copies_of(backbone.module)
    originals = dict(backbone.module.named_parameters())
    with torch.no_grad():
        plain = backbone.embed(own)
        with backbone.wearing(affine(backbone, where, std=0.0)):
            assert torch.equal(backbone.embed(own), plain)
        with pytest.raises(KeyError), backbone.wearing(affine(backbone, where)):
            assert not torch.allclose(backbone.embed(own), plain, atol=1e-2)
            raise KeyError
    assert same(copies_of(backbone.module), before)
    assert all(tensor is originals[name] for name, tensor in backbone.module.named_parameters())


@pytest.mark.parametrize("make", [vit, convnet])
def test_it_is_a_hook_behind_every_layer(make) -> None:
    """Oracle: gamma * y + beta applied to what each module returns."""
    backbone = make()
    own, worn = pixels(2, size_of(backbone)), affine(backbone, std=0.1)
    with torch.no_grad(), backbone.wearing(worn):
        got = backbone.embed(own)

    def hook(gamma, beta):
        def change(module, _inputs, output):
            shape = (1, -1, 1, 1) if output.dim() == 4 and isinstance(module, nn.Conv2d | nn.BatchNorm2d) else (-1,)
            return gamma.reshape(shape) * output + beta.reshape(shape)

        return change

    handles = [
        backbone.module.get_submodule(site.module).register_forward_hook(hook(gamma, beta))
        for site, gamma, beta in zip(worn.sites, worn.gamma, worn.beta, strict=True)
    ]
    with torch.no_grad():
        expected = backbone.embed(own)
    for handle in handles:
        handle.remove()
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_open_clips_attention_has_its_share() -> None:
    """q, k and v lie in one parameter there, with no module of their own."""
    backbone, own = clip(), pixels(2)
    worn, name = affine(backbone), "transformer.resblocks.1.attn"
    index = [site.module for site in worn.sites].index(name)
    for i, (gamma, beta) in enumerate(zip(worn.gamma, worn.beta, strict=True)):
        if i != index:
            gamma.data.fill_(1)
            beta.data.zero_()
    by_hand = Overlay(backbone, f"{name}.in_proj_*")
    weights = dict(by_hand.named_parameters())
    weights[f"{name}.in_proj_weight"].data.mul_(worn.gamma[index][:, None])
    weights[f"{name}.in_proj_bias"].data.mul_(worn.gamma[index]).add_(worn.beta[index])
    results = []
    for delta in (worn, by_hand):
        with torch.no_grad(), backbone.wearing(delta):
            results.append(backbone.embed(own))
    assert torch.equal(*results)


@MAKERS
def test_all_of_it_trains_and_survives_save_and_load(make) -> None:
    backbone, size = make(), size_of(make())
    worn, own = affine(backbone, std=0.02).requires_grad_(True), pixels(3, size)
    optimiser, losses = torch.optim.Adam(worn.parameters(), lr=1e-3), []
    for _ in range(3):
        with backbone.wearing(worn):
            loss = backbone.embed(own).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(parameter.grad is not None for parameter in worn.parameters())
    assert not any(parameter.requires_grad for parameter in backbone.module.parameters())
    other = affine(backbone, seed=1)
    other.load(worn.state())
    with torch.no_grad():
        for delta in (worn, other):
            with backbone.wearing(delta):
                losses.append(backbone.embed(own))
    assert torch.equal(losses[-1], losses[-2])
    with pytest.raises(RunError, match="of other layers"):
        affine(backbone, "norms").load(worn.state())


def test_norms_are_fewer_than_everywhere() -> None:
    backbone = vit()
    film, ssf = affine(backbone, "norms"), affine(backbone)
    assert {site.module for site in film.sites} == {f"blocks.{i}.norm{j}" for i in range(3) for j in (1, 2)} | {"norm"}
    assert len(ssf.sites) == 7 + 3 * 4 + 1  # norms, four maps a block, the patch embedding
