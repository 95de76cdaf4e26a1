"""Slots and overlays: a fresh one changes nothing, a trained one leaves the backbone as it was, all hooks go."""

import pytest
import torch
import torch.nn.functional as F

from cillab.backbones import AdapterSlot, Overlay, Slots, norms, slots as places
from cillab.backbones.slots import PromptSlot
from cillab.core import rng
from cillab.core.errors import IncompatibleError, InvalidRequestError, RunError
from tests.backbones.models import clip, clip_model, convnet, copies_of, hooks_of, pixels, same, vit


def adapters(backbone, scale: float = 1.0) -> Slots:
    return Slots.everywhere(
        backbone, "mlp", lambda i: AdapterSlot(backbone.token_dim, 4, scale, generator=rng.stream(0, "adapter", i))
    )


def excited(slots: Slots) -> Slots:
    """The same slots with weights that are not zero any more."""
    for index, parameter in enumerate(slots.parameters()):
        parameter.data.add_(0.1 * torch.randn(parameter.shape, generator=rng.stream(1, index)))
    return slots


@pytest.mark.parametrize("make", [vit, clip])
def test_fresh_slots_and_overlays_change_no_bit(make) -> None:
    backbone, own = make(), pixels(2)
    with torch.no_grad():
        before = backbone.embed(own)
        with backbone.wearing(Overlay(backbone, "*"), adapters(backbone)):
            assert torch.equal(backbone.embed(own), before)
        assert torch.equal(backbone.embed(own), before)


@pytest.mark.parametrize("make", [vit, clip])
def test_training_leaves_the_backbone_bit_identical(make) -> None:
    backbone, own = make(), pixels(4)
    before = copies_of(backbone.module)
    overlay, slots = Overlay(backbone, *norms(backbone)).requires_grad_(), adapters(backbone)
    slots.requires_grad_(True)
    trained = [*overlay.parameters(), *slots.parameters()]
    optimiser = torch.optim.SGD(trained, lr=0.1)
    losses = []
    for _ in range(3):
        with backbone.wearing(overlay, slots):
            loss = backbone.embed(own).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(parameter.grad is not None for parameter in trained)
    assert same(copies_of(backbone.module), before)
    assert not any(parameter.requires_grad for parameter in backbone.module.parameters())


@pytest.mark.parametrize("make", [vit, clip])
def test_everything_comes_off_after_an_exception(make) -> None:
    backbone = make()
    originals = dict(backbone.module.named_parameters())
    with pytest.raises(KeyError), backbone.wearing(Overlay(backbone, "*"), adapters(backbone)):
        assert hooks_of(backbone.module) > 0
        assert dict(backbone.module.named_parameters())[norms(backbone)[0]] is not originals[norms(backbone)[0]]
        raise KeyError
    assert hooks_of(backbone.module) == 0
    assert all(tensor is originals[name] for name, tensor in backbone.module.named_parameters())


@pytest.mark.parametrize("scaled", [False, True])
def test_the_mlp_place_is_parallel_to_the_mlp(scaled: bool) -> None:
    """Oracle: the block written out, x + attention, then MLP(norm(x)) (times layer scale) + adapter(x) + x."""
    backbone, own = vit(depth=1, init_values=0.5 if scaled else None), pixels(2)
    slots, model = excited(adapters(backbone)), backbone.module
    block = model.blocks[0]
    with torch.no_grad(), backbone.wearing(slots):
        got = backbone.embed(own)
    with torch.no_grad():
        tokens = model.norm_pre(model._pos_embed(model.patch_embed(own)))
        stream = tokens + block.ls1(block.attn(block.norm1(tokens)))
        adapter = slots[0]
        term = adapter.scale * (F.relu(stream @ adapter.down.weight.T + adapter.down.bias) @ adapter.up.weight.T)
        after = stream + block.ls2(block.mlp(block.norm2(stream))) + term + adapter.scale * adapter.up.bias
        expected = model.forward_head(model.norm(after))
    assert torch.allclose(got, expected, atol=1e-5)
    assert not torch.allclose(got, model(own), atol=1e-2)


def test_open_clip_with_tokens_first_gives_the_same_features() -> None:
    """The same weights run as [image, token, dim] and as [token, image, dim]; a slot that mixes tokens would notice."""
    first, second = clip(), clip(clip_model())
    transformer = second.module.transformer
    transformer.batch_first = False
    for block in transformer.resblocks:
        block.attn.batch_first = False
    seen = []

    class Watching(AdapterSlot.__bases__[0]):
        def forward(self, tokens):
            seen.append(tuple(tokens.shape))
            return 0.5 * tokens.mean(dim=1, keepdim=True).expand_as(tokens)

    own, results = pixels(3), []
    for backbone in (first, second):
        slots = Slots(
            backbone, {"mlp:transformer.resblocks.1": Watching(), "beside:transformer.resblocks.2.mlp": Watching()}
        )
        with torch.no_grad(), backbone.wearing(slots):
            results.append(backbone.embed(own))
    assert torch.allclose(*results, atol=1e-5)
    assert set(seen) == {(3, 17, 32)}


def test_lora_is_a_slot_beside_a_linear_layer() -> None:
    """Adding the low-rank product to the weight itself gives the same features."""

    class Lora(AdapterSlot.__bases__[0]):
        def __init__(self) -> None:
            super().__init__()
            self.low = torch.nn.Parameter(0.3 * torch.randn(32, 2, generator=rng.stream(0, "low")))
            self.high = torch.nn.Parameter(0.3 * torch.randn(2, 96, generator=rng.stream(0, "high")))

        def forward(self, tokens):
            return tokens @ self.low @ self.high

    backbone, own, lora = vit(), pixels(2), Lora()
    merged = Overlay(backbone, "blocks.1.attn.qkv.weight")
    next(merged.parameters()).data += (lora.low @ lora.high).T
    with torch.no_grad():
        plain = backbone.embed(own)
        with backbone.wearing(Slots(backbone, {"beside:blocks.1.attn.qkv": lora})):
            beside = backbone.embed(own)
        with backbone.wearing(merged):
            assert torch.allclose(backbone.embed(own), beside, atol=1e-5)
    assert not torch.allclose(plain, beside, atol=1e-3)


def test_a_tap_sees_what_the_next_module_receives() -> None:
    backbone, slots = vit(), None
    slots = excited(adapters(backbone))
    with (
        torch.no_grad(),
        backbone.tap("blocks.0") as outside,
        backbone.wearing(slots),
        backbone.tap("blocks.0") as inside,
    ):
        received = []
        handle = backbone.module.blocks[1].register_forward_pre_hook(lambda _m, inputs: received.append(inputs[0]))
        backbone.embed(pixels(2))
        handle.remove()
    assert torch.equal(outside["blocks.0"], received[0])
    assert torch.equal(inside["blocks.0"], received[0])


def test_norms_are_those_of_the_blocks_and_the_last_one() -> None:
    names = set(norms(vit(pre_norm=True)))
    blocks = {f"blocks.{i}.norm{j}.{p}" for i in range(3) for j in (1, 2) for p in ("weight", "bias")}
    assert names == blocks | {"norm.weight", "norm.bias"}
    assert {name.split(".")[-2] for name in norms(clip())} == {"ln_1", "ln_2", "ln_post"}


def test_slots_and_overlays_survive_save_and_load() -> None:
    backbone, own = vit(), pixels(2)
    slots, overlay = excited(adapters(backbone, scale=0.7)), Overlay(backbone, "norm.*")
    next(overlay.parameters()).data.mul_(2)
    copy, other = adapters(backbone, scale=0.1), Overlay(backbone, "norm.*")
    with torch.no_grad(), backbone.wearing(slots, overlay):
        expected = backbone.embed(own)
    copy.load(slots.state())
    other.load(overlay.state())
    with torch.no_grad(), backbone.wearing(copy, other):
        assert torch.equal(backbone.embed(own), expected)


def test_refusals() -> None:
    backbone = vit()
    with pytest.raises(IncompatibleError, match="test_resnet is a convnet"):
        adapters(convnet())
    with pytest.raises(InvalidRequestError, match=r"no module 'blocks\.7'"):
        Slots(backbone, {"after:blocks.7": AdapterSlot(32, 4, generator=rng.stream(0))})
    with pytest.raises(InvalidRequestError, match=r"one of after, mlp, beside"):
        Slots(backbone, {"blocks.0": AdapterSlot(32, 4, generator=rng.stream(0))})
    with pytest.raises(InvalidRequestError, match=r"matches 'nrm\.weight'\. Nearest: 'norm\.weight'"):
        Overlay(backbone, "nrm.weight")
    with pytest.raises(RunError, match=r"differ in 'norm.(weight|bias)'"):
        Overlay(backbone, "norm.*").load(Overlay(backbone, "blocks.0.*").state())
    with pytest.raises(RunError, match=r"does not fit the slot mlp:blocks\.0"):
        adapters(backbone).load(Slots(backbone, {"mlp:blocks.0": AdapterSlot(32, 8, generator=rng.stream(0))}).state())
    slots = adapters(backbone)
    with pytest.raises(RuntimeError, match="worn already"), backbone.wearing(slots), backbone.wearing(slots):
        pass
    assert hooks_of(backbone.module) == 0


def prompts(backbone, length: int = 3, blocks: int | None = None) -> Slots:
    def make(index: int) -> PromptSlot:
        return PromptSlot(backbone.token_dim, length, generator=rng.stream(0, "prompt", index))

    return Slots.everywhere(backbone, "before", make, blocks)


def entered(backbone, own: torch.Tensor, *worn: Slots) -> list[torch.Tensor]:
    """What every block reads, images first."""
    seen: list[torch.Tensor] = []
    with torch.no_grad(), backbone.wearing(*worn):
        modules = [backbone.module.get_submodule(name) for name in backbone.block_names]
        handles = [m.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0].clone())) for m in modules]
        backbone.embed(own)
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("make", [vit, clip])
def test_prompts_stand_behind_the_image_and_are_gone_behind_the_last_block(make) -> None:
    backbone, own = make(), pixels(2)
    plain, slots = entered(backbone, own), prompts(backbone)
    found = entered(backbone, own, slots)
    for before, after, slot in zip(plain, found, slots, strict=True):
        assert after.shape[1] == before.shape[1] + 3
        assert torch.equal(after[:, -3:], slot.tokens.expand(2, -1, -1))
    assert torch.equal(found[0][:, :-3], plain[0])  # class token and patches stay where they are
    with torch.no_grad(), backbone.wearing(slots), backbone.tap(backbone.block_names[-1]) as taken:
        backbone.embed(own)
    assert taken[backbone.block_names[-1]].shape[1] == plain[0].shape[1]


@pytest.mark.parametrize("make", [vit, clip])
def test_prompts_flow_on_where_no_others_take_their_place(make) -> None:
    backbone, own = make(), pixels(2)
    slots = prompts(backbone, blocks=1)
    first, second, third = entered(backbone, own, slots)
    assert first.shape == second.shape == third.shape
    assert not torch.equal(second[:, -3:], first[:, -3:])  # changed by the image
    assert not torch.equal(second[0, -3:], second[1, -3:])


@pytest.mark.parametrize("average", [False, True])
def test_prompts_are_the_forward_pass_written_out(average: bool) -> None:
    """Oracle: append, run the blocks, cut, pool."""
    backbone = vit(depth=2, **({"global_pool": "avg", "fc_norm": False} if average else {}))
    own, model, slots = pixels(2), backbone.module, prompts(backbone, blocks=1)
    with torch.no_grad(), backbone.wearing(slots):
        got = backbone.embed(own)
    with torch.no_grad():
        tokens = model.norm_pre(model._pos_embed(model.patch_embed(own)))
        longer = model.blocks(torch.cat([tokens, slots[0].tokens.expand(2, -1, -1)], dim=1))
        torch.testing.assert_close(got, model.forward_head(model.norm(longer[:, :-3]), pre_logits=True))


def test_prompts_and_adapters_are_worn_together() -> None:
    backbone, own = clip(), pixels(2)
    with torch.no_grad():
        for worn in ((prompts(backbone), adapters(backbone)), (adapters(backbone), prompts(backbone))):
            with backbone.wearing(*worn):
                together = backbone.embed(own)
            with backbone.wearing(prompts(backbone)):
                assert torch.equal(backbone.embed(own), together)  # fresh adapters add nothing
    assert hooks_of(backbone.module) == 0


def test_even_zero_prompts_draw_attention() -> None:
    backbone, own = vit(), pixels(2)
    slots = prompts(backbone)
    for slot in slots:
        slot.tokens.data.zero_()
    with torch.no_grad():
        plain = backbone.embed(own)
        with backbone.wearing(slots):
            assert not torch.allclose(backbone.embed(own), plain, atol=1e-4)


def test_prompt_places_take_prompts_alone() -> None:
    backbone = vit()
    slot = PromptSlot(32, 2, generator=rng.stream(0))
    with pytest.raises(InvalidRequestError, match="`before:` places take a TokenSlot"):
        Slots(backbone, {"after:blocks.0": slot})
    with pytest.raises(InvalidRequestError, match="is no block that takes any number of tokens"):
        Slots(backbone, {"before:blocks.0.attn": slot})


def test_dressing_looks_through_the_model_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    own = places._find_tokens_first
    monkeypatch.setattr(places, "_find_tokens_first", lambda root, name: looked.append(name) or own(root, name))
    backbone = vit()
    worn = adapters(backbone)
    for _ in range(3):
        with backbone.wearing(worn):
            pass
    assert looked == list(backbone.block_names)
