"""Adapters abreast: one pass over several sets of slots gives what a pass for each would give."""

import pytest
import torch
from torch import Tensor

from cillab.backbones.abreast import abreast, possible
from cillab.backbones.slots import AdapterSlot, Slots
from tests.backbones.models import clip, pictures, vit

IMAGES = pictures(11)


def sets(backbone, count: int = 3, blocks: int | None = None) -> list[Slots]:
    """Adapters that change something."""
    draws = torch.Generator().manual_seed(0)

    def make(_: int) -> AdapterSlot:
        slot = AdapterSlot(backbone.token_dim, 4, 1.0, generator=draws)
        slot.up.weight.data.normal_(std=0.5, generator=draws)
        return slot

    return [Slots.everywhere(backbone, "mlp", make, blocks) for _ in range(count)]


def alone(backbone, deltas) -> Tensor:
    found = []
    for delta in deltas:
        with torch.no_grad(), backbone.wearing(delta):
            found.append(backbone(IMAGES))
    return torch.stack(found)


def passes(backbone, run) -> int:
    """Images that enter the model."""
    rows = []
    first = backbone.module.get_submodule("conv1" if backbone.clip else "patch_embed")
    handle = first.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    with torch.no_grad():
        run()
    handle.remove()
    return sum(rows)


@pytest.mark.parametrize("make", [vit, clip])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_each_is_what_passes_one_by_one_give(make, precision) -> None:
    deltas, one, other = sets(make()), make(precision=precision), make(precision=precision)
    expected = alone(one, deltas)
    with torch.no_grad():
        found = other.each(IMAGES, deltas)
    assert float((expected[0] - expected[1]).norm()) > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 if precision == "fp32" else 2e-2)
    with torch.no_grad():
        torch.testing.assert_close(other.each(IMAGES[4:5], deltas), found[:, 4:5])


def test_images_enter_once_and_are_remembered_under_each_set() -> None:
    backbone = vit()
    deltas = sets(backbone, 3)
    with torch.no_grad(), backbone.wearing(deltas[0]):
        backbone(IMAGES)
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in backbone.module.modules())
    assert passes(backbone, lambda: backbone.each(IMAGES, deltas)) == len(IMAGES)  # for the two that are left
    assert passes(backbone, lambda: backbone.each(IMAGES, deltas)) == 0
    assert passes(backbone, lambda: alone(backbone, deltas)) == 0
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in backbone.module.modules()) == hooks


def test_more_sets_than_stand_in_one_pass_and_slots_in_later_blocks_alone() -> None:
    backbone = vit()
    deltas = sets(backbone, 10, blocks=2)
    later = [Slots(backbone, {str(p): s for p, s in zip(one.places[1:], [*one][1:], strict=True)}) for one in deltas]
    for some in (deltas, later):
        with torch.no_grad():
            found = vit().each(IMAGES, some)
        torch.testing.assert_close(found, alone(vit(), some), rtol=0, atol=1e-5)


def test_what_cannot_stand_abreast_is_asked_one_by_one() -> None:
    backbone = vit()
    two, other = sets(backbone, 2), sets(backbone, 1, blocks=1)
    assert possible(two) and not possible([*two, *other]) and not possible(two[:1])
    with torch.no_grad():
        found = backbone.each(IMAGES, [*two, *other])
    torch.testing.assert_close(found, alone(backbone, [*two, *other]))
    with_gradient = backbone.each(IMAGES[:2], two)
    torch.testing.assert_close(with_gradient, found[:2, :2], rtol=0, atol=1e-5)
    assert len(abreast(backbone, two)) == 3
