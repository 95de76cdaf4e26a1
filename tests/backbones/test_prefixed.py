"""Prefixes in the attention: the layer written out, each image its own, nothing left behind."""

import pytest
import torch

from cillab.backbones.prefixed import PrefixSlot
from cillab.backbones.slot import KeyValueSlot
from cillab.backbones.slots import AdapterSlot, Slots
from cillab.core import rng
from cillab.core.errors import InvalidRequestError
from tests.backbones.models import clip, clip_model, hooks_of, pixels, vit


def prefix(number: int = 0, length: int = 3) -> PrefixSlot:
    return PrefixSlot(32, length, generator=rng.stream(0, "prefix", number))


def written_out(qkv: torch.Tensor, heads: int, for_keys: torch.Tensor, for_values: torch.Tensor) -> torch.Tensor:
    """Equation (1) for one image and head at a time."""
    images, tokens, width = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    size, out = width // heads, torch.zeros(images, tokens, width)
    for i in range(images):
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            q, k, v = (qkv[i, :, third * width :][:, part] for third in range(3))
            k, v = torch.cat([for_keys[i][:, part], k]), torch.cat([for_values[i][:, part], v])
            out[i, :, part] = (q @ k.T / size**0.5).softmax(dim=1) @ v
    return out


class PerImage(KeyValueSlot):
    """A prefix for every image."""

    def __init__(self, images: int, length: int = 3) -> None:
        super().__init__()
        self.register_buffer("prefix", torch.randn(2, images, length, 32, generator=rng.stream(0, "per image")))

    def forward(self, tokens):
        return self.prefix[:, : len(tokens)]


@pytest.mark.parametrize("normed", [False, True])
def test_timms_attention_is_the_equation(normed) -> None:
    backbone = vit(qk_norm=normed)
    block, slot, x = backbone.module.blocks[1].attn, PerImage(2), torch.randn(2, 5, 32, generator=rng.stream(0, "x"))
    slots = Slots(backbone, {"kv:blocks.1": slot})
    with torch.no_grad(), slots.worn_by(backbone.module):
        got = block(x)
    with torch.no_grad():
        qkv = block.qkv(x)
        if normed:
            q, k, v = (part.unflatten(2, (2, 16)) for part in qkv.chunk(3, dim=2))
            qkv = torch.cat([part.flatten(2) for part in (block.q_norm(q), block.k_norm(k), v)], dim=2)
        expected = block.proj(written_out(qkv, 2, *slot.prefix))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_open_clips_attention_is_the_equation() -> None:
    backbone = clip()
    block, slot = backbone.module.transformer.resblocks[1].attn, PerImage(2)
    x = torch.randn(2, 5, 32, generator=rng.stream(0, "x"))
    with torch.no_grad(), Slots(backbone, {"kv:transformer.resblocks.1": slot}).worn_by(backbone.module):
        got, _ = block(x, x, x, need_weights=False)
    with torch.no_grad():
        qkv = torch.nn.functional.linear(x, block.in_proj_weight, block.in_proj_bias)
        expected = block.out_proj(written_out(qkv, block.num_heads, *slot.prefix))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_open_clip_with_tokens_first_gives_the_same_features() -> None:
    first, second = clip(), clip(clip_model())
    second.module.transformer.batch_first = False
    for block in second.module.transformer.resblocks:
        block.attn.batch_first = False
    results = []
    for backbone in (first, second):
        with torch.no_grad(), backbone.wearing(Slots.everywhere(backbone, "kv", prefix)):
            results.append(backbone.embed(pixels(3)))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [vit, clip])
def test_an_empty_prefix_is_the_plain_network_and_nothing_is_left(make) -> None:
    backbone, own = make(), pixels(2)
    slots = Slots.everywhere(backbone, "kv", lambda i: prefix(i, length=0))
    full = Slots.everywhere(backbone, "kv", prefix)
    with torch.no_grad():
        plain = backbone.embed(own)
        with backbone.wearing(slots):
            torch.testing.assert_close(backbone.embed(own), plain, rtol=1e-4, atol=1e-5)
        with pytest.raises(KeyError), backbone.wearing(full):
            assert not torch.allclose(backbone.embed(own), plain, atol=1e-2)
            raise KeyError
        assert torch.equal(backbone.embed(own), plain)
    assert not [m for m in backbone.module.modules() if "forward" in vars(m)] and not hooks_of(backbone.module)


@pytest.mark.parametrize("make", [vit, clip])
def test_a_prefix_of_one_image_never_reaches_another(make) -> None:
    """The bug of a known port: gathered prefixes reshaped without a permutation mix keys and values of images."""
    backbone, own = make(), pixels(3)
    slot = PerImage(3)
    with torch.no_grad(), backbone.wearing(Slots(backbone, {f"kv:{backbone.block_names[0]}": slot})):
        before = backbone.embed(own)
        slot.prefix[:, 1] += 1
        after = backbone.embed(own)
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert not torch.allclose(before[1], after[1], atol=1e-3)


def test_two_prefixes_stand_at_one_place_and_adapters_beside_them() -> None:
    """Attention does not mind the order of keys: two prefixes are the longer one."""
    backbone, own, name = vit(), pixels(2), "kv:blocks.1"
    one, two, both = prefix(1), prefix(2), prefix(3, length=6)
    both.prefix.data = torch.cat([one.prefix, two.prefix], dim=1)
    idle = Slots.everywhere(backbone, "mlp", lambda i: AdapterSlot(32, 4, generator=rng.stream(0, i)))
    with torch.no_grad():
        with backbone.wearing(Slots(backbone, {name: one}), idle, Slots(backbone, {name: two})):
            together = backbone.embed(own)
        with backbone.wearing(Slots(backbone, {name: both})):
            torch.testing.assert_close(backbone.embed(own), together, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [vit, clip])
def test_prefixes_train_and_survive_save_and_load(make) -> None:
    backbone, own = make(), pixels(3)
    slots = Slots.everywhere(backbone, "kv", prefix, 2, start=1).requires_grad_(True)
    assert [str(place) for place in slots.places] == [f"kv:{name}" for name in backbone.block_names[1:3]]
    with backbone.wearing(slots):
        backbone.embed(own).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in slots.parameters())
    other = Slots.everywhere(backbone, "kv", lambda i: prefix(i + 7), 2, start=1)
    other.load(slots.state())
    assert all(torch.equal(a, b) for a, b in zip(slots.parameters(), other.parameters(), strict=True))


def test_refusals() -> None:
    backbone = vit()
    with pytest.raises(InvalidRequestError, match="`kv:` places take a KeyValueSlot"):
        Slots(backbone, {"kv:blocks.0": AdapterSlot(32, 4, generator=rng.stream(0))})
    with pytest.raises(InvalidRequestError, match="takes no prefix"):
        Slots(backbone, {"kv:blocks.0.mlp": prefix()})
