"""A wardrobe grows, and becomes what a state says: fewer deltas or more."""

import torch

from cillab.backbones import AdapterSlot, Slots
from cillab.core import rng
from cillab.core.state import pack, restore, snapshot, undone_on_failure, unpack
from cillab.parts.wardrobe import Wardrobe
from tests.backbones.models import pixels, vit


def wardrobe(backbone) -> Wardrobe[Slots]:
    def make(number: int) -> Slots:
        def adapter(layer: int) -> AdapterSlot:
            return AdapterSlot(backbone.token_dim, 4, generator=rng.stream(0, number, layer))

        return Slots.everywhere(backbone, "mlp", adapter)

    return Wardrobe(make)


def excited(worn: Slots) -> Slots:
    for index, parameter in enumerate(worn.parameters()):
        parameter.data.add_(0.1 * torch.randn(parameter.shape, generator=rng.stream(1, index)))
    return worn


def test_it_saves_and_loads_however_many_there_are() -> None:
    backbone, own = vit(), pixels(2)
    first = wardrobe(backbone)
    for _ in range(3):
        excited(first.grow())
    tensors, meta = pack(snapshot({"worn": first}))
    for start in (0, 2, 5):
        second = wardrobe(backbone)
        for _ in range(start):
            second.grow()
        restore({"worn": second}, unpack(tensors, meta))
        assert len(second) == 3
        for one, other in zip(first, second, strict=True):
            with torch.no_grad(), backbone.wearing(one):
                expected = backbone.embed(own)
            with torch.no_grad(), backbone.wearing(other):
                assert torch.equal(backbone.embed(own), expected)
    assert len(list(first.parameters())) == 3 * len(list(first[0].parameters()))


def test_an_interrupted_task_takes_its_delta_away_again() -> None:
    worn = wardrobe(vit())
    kept = worn.grow()
    before = [p.detach().clone() for p in kept.parameters()]
    try:
        with undone_on_failure({"worn": worn}):
            excited(worn.grow())
            excited(kept)
            raise KeyError
    except KeyError:
        pass
    assert len(worn) == 1
    assert all(torch.equal(p, b) for p, b in zip(worn[0].parameters(), before, strict=True))
