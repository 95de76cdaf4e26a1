"""Several sets of slots on the same images in one forward pass: what stands before the first place is computed once.

    rows of the pass: [d_1 of every image, d_2 of every image, ...]

From the first place on an image is one row for each set. A row goes through the very operations of a pass under its set
alone, so the answers are the same; stem, first attention and the preparation of pixels are shared, and small batches
become large ones.
"""

from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from cillab.backbones.slot import Slot, Tokens
from cillab.backbones.slots import Slots
from cillab.core.contract import Backbone, Delta

SIDE = 8  # sets in one pass: with eight images that is a batch of a good size


def possible(deltas: Sequence[Delta]) -> bool:
    """Are these sets of slots in the same places beside MLPs?"""
    sets = [delta for delta in deltas if isinstance(delta, Slots)]
    if len(sets) < 2 or len(sets) < len(deltas):
        return False
    return all(one.places == sets[0].places and all(p.kind == "mlp" for p in one.places) for one in sets)


def abreast(backbone: Backbone, sets: Sequence[Slots]) -> Slots:
    """One set that makes of every image a row for each of `sets`, which must be `possible`."""
    order = {name: index for index, (name, _) in enumerate(backbone.module.named_modules())}
    first = min(range(len(sets[0])), key=lambda i: order[sets[0].places[i].module])
    return Slots(
        backbone,
        {str(place): _Rows([one[i] for one in sets], i == first) for i, place in enumerate(sets[0].places)},
    )


@final
class _Rows(Slot):
    """The slots of one place, each on the rows of its own set."""

    def __init__(self, slots: Sequence[Slot], first: bool) -> None:
        super().__init__()
        self._slots, self.first = tuple(slots), first  # in a tuple: they belong to their sets

    def forward(self, tokens: Tokens) -> Float[Tensor, "row token dim"]:
        rows = [tokens] * len(self._slots) if self.first else tokens.chunk(len(self._slots))
        return torch.cat([slot(own) for slot, own in zip(self._slots, rows, strict=True)])
