"""CPE-CLIP against its equations, and prompts that stay beside one another."""

from contextlib import ExitStack

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cillab.backbones.slots import Slots
from cillab.learners.checks import learn
from tests.backbones.models import clip
from tests.learners import tiny, tiny_clip

IMAGES = tiny_clip.images()


@pytest.fixture(scope="module")
def taught():
    return tiny_clip.taught("cpe-clip", 1, layers=3)


def test_both_towers_have_the_layers_of_the_shallower_one(taught) -> None:
    assert len(taught.prompt.deep) + 1 == len(taught.worn) == 1  # the tiny text tower has one block


def test_prompts_that_keep_stand_beside_earlier_ones_and_are_gone_at_the_end(taught) -> None:
    backbone, lengths = taught.backbone, list[int]()
    slots = Slots(backbone, {f"before:{name}": taught.worn[0] for name in backbone.block_names[:2]})
    with torch.no_grad(), backbone.wearing(slots), ExitStack() as hooks:
        for name in backbone.block_names:
            block = backbone.module.get_submodule(name)
            handle = block.register_forward_pre_hook(lambda _, inputs: lengths.append(inputs[0].shape[1]))
            hooks.callback(handle.remove)
        found = backbone.embed(backbone.pixels(IMAGES[:1]))
    own = (32 // 8) ** 2 + 1
    assert lengths == [own + 2, own + 4, own + 4] and found.shape == (1, 24)


def test_images_read_the_prompt_of_names_through_the_bridge(taught) -> None:
    with torch.no_grad():
        made = taught.worn[0].tokens()
        expected = taught.prompt.context @ taught.bridge.matrix.T + taught.bridge.bias
        torch.testing.assert_close(made, expected)
        torch.testing.assert_close(taught.features(IMAGES).norm(dim=1), torch.ones(len(IMAGES)))


def test_what_images_wear_is_part_of_the_key_of_their_features(taught) -> None:
    """Features are remembered by content: a changed prompt of the text side changes those of images."""
    with torch.no_grad():
        before, kept = taught.features(IMAGES), taught.prompt.context.detach().clone()
        taught.prompt.context.add_(1.0)
        moved = taught.features(IMAGES)
        taught.prompt.context.copy_(kept)
        assert float((moved - before).norm()) > 1e-3
        torch.testing.assert_close(taught.features(IMAGES), before)


@pytest.mark.parametrize("balance", [False, True])
def test_balance_shrinks_the_step_by_the_share_of_new_classes(balance: bool) -> None:
    """One step of plain descent in the second task: with balance half as far, for two classes of four."""
    plain = {"fit.momentum": 0.0, "fit.batch_size": 64, "fit.epochs": 1, "fit.weight_decay": 0.0, "layers": 1}
    backbone, ways = clip(), list[Tensor]()
    for on in (False, balance):
        learner = tiny_clip.learner("cpe-clip", backbone, balance=on, **plain)
        learn(learner, tiny.TinyTask(0, (0, 1)))
        before = learner.prompt.context.detach().clone()
        learn(learner, tiny.TinyTask(1, (2, 3)))
        ways.append(learner.prompt.context.detach() - before)
    torch.testing.assert_close(ways[1], ways[0] * (0.5 if balance else 1.0), rtol=1e-3, atol=1e-7)


def test_names_alone_get_prototypes(taught) -> None:
    learner = tiny_clip.taught("cpe-clip", 1)
    learn(learner, tiny.TinyTask(1, (2, 3), count=0))
    assert learner.head().weight.shape == (4, 24)
    assert torch.equal(learner.classifier.prototypes, learner.classifier.encode().detach())
    assert F.cosine_similarity(learner.classifier.prototypes, learner.classifier.frozen).max() < 0.9999
