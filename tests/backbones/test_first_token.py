"""The last block for the class token alone. Oracle: the same pass under an empty tap, in which every token goes on."""

import pytest
import torch

from cillab.backbones import Overlay, Slots
from cillab.backbones.first_token import reads_first_token
from cillab.backbones.frozen import Anatomy, FrozenBackbone
from cillab.backbones.lora import LoRA
from cillab.backbones.slots import PromptSlot
from cillab.core import rng
from cillab.core.pixels import Preprocessing
from tests.backbones.models import clip, hooks_of, pixels, vit
from tests.backbones.test_compiled import asked, dresses

BACKBONES = {
    "timm": vit,
    "timm, registers": lambda: vit(reg_tokens=2),
    "timm, scaled": lambda: vit(init_values=0.5),
    "open_clip": clip,
}


def entering(backbone) -> list[int]:
    """Tokens of an image that enter the MLP of each block from now on, pass by pass."""
    seen: list[int] = []
    for name in backbone.block_names:
        backbone.module.get_submodule(name).mlp.register_forward_pre_hook(
            lambda _module, inputs: seen.append(inputs[0].numel() // inputs[0].shape[-1] // 2)
        )
    return seen


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("worn", ["nothing", "noise", "adapters", "prefix", "lora", "all weights"])
def test_features_and_gradients_are_those_of_the_whole_pass(name: str, worn: str) -> None:
    backbone = BACKBONES[name]()
    dress, images = dresses(backbone)[worn], pixels(2)
    with backbone.tap():
        wanted = asked(backbone, dress, images)
    seen = entering(backbone)
    hooks = hooks_of(backbone.module)
    found = asked(backbone, dress, images)
    whole = backbone.anatomy.tokens(images)
    assert seen == [whole, whole, 1] and hooks_of(backbone.module) == hooks
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))


@pytest.mark.parametrize("blocks", [1, 3])
def test_tokens_that_a_learner_adds_go_through_to_the_end(blocks: int) -> None:
    backbone = vit()
    prompts = Slots.everywhere(backbone, "before", lambda i: PromptSlot(32, 2, generator=rng.stream(i, "p")), blocks)
    seen, images = entering(backbone), pixels(2)
    found = asked(backbone, [prompts], images)
    assert seen == [19, 19, 19]
    with backbone.tap():
        wanted = asked(backbone, [prompts], images)
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


class Flat(FrozenBackbone):
    """The pixels themselves."""

    def _forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.module(pixels)

    def _weights(self) -> torch.nn.Module:
        return self.module


def test_a_model_without_blocks_takes_steps_too() -> None:
    backbone = Flat(
        torch.nn.Flatten(), tag="flat", anatomy=Anatomy("convnet", (), 48, 48), precision="fp32", device="cpu",
        preprocessing=Preprocessing(4, 1.0, "bicubic", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
    )  # fmt: skip
    image = torch.rand(2, 3, 4, 4)
    assert torch.equal(backbone.embed(image), image.flatten(1))


def test_where_other_tokens_are_read_or_no_step_is_taken_every_token_goes_on() -> None:
    for backbone in (vit(global_pool="avg"), vit(global_pool="map", class_token=False)):
        assert not reads_first_token(backbone.module)
        seen = entering(backbone)
        asked(backbone, [Overlay(backbone, "blocks.0.*")], pixels(2))
        assert len(set(seen)) == 1
    backbone = vit()
    seen = entering(backbone)
    with torch.no_grad(), backbone.wearing(LoRA(backbone, 2, 1.0, generator=rng.stream(0, "lora"))):
        backbone.embed(pixels(2))
    with backbone.tap(backbone.block_names[-1]) as activations:
        backbone.embed(pixels(2))
    assert seen == [17] * 6 and activations[backbone.block_names[-1]].shape[1] == 17
