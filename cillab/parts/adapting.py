"""Small modules in the blocks of a ViT, as methods ask for them: adapters, prompts, a shared prefix and a pool."""

from typing import Any

from pydantic import PositiveInt

from cillab.backbones.prefixed import PrefixSlot
from cillab.backbones.slots import AdapterSlot, PromptSlot, Slots
from cillab.core.params import HyperParams
from cillab.parts.method import Method
from cillab.parts.pools import PromptPool


class PrefixParams(HyperParams):
    """A general prefix in the first blocks, and one out of a pool in the next ones."""

    general: PositiveInt = 5
    """Keys and values of the general prompt, in each of its blocks."""
    general_blocks: PositiveInt = 2
    """First blocks, those of the general prompt."""
    expert: PositiveInt = 5
    """Keys and values of a prompt of the pool, in each of its blocks."""
    expert_blocks: PositiveInt = 3
    """Blocks after those of the general prompt, for a prompt of the pool."""

    quick = {"general": 2, "general_blocks": 1, "expert": 2}


def prefixes(learner: Method, how: PrefixParams, **pool: Any) -> tuple[Slots, PromptPool]:
    """The general prefix, and the pool that is worn with it; `pool` goes to `PromptPool`. The pool is empty."""
    backbone = learner.backbone

    def general(layer: int) -> PrefixSlot:
        return PrefixSlot(backbone.token_dim, how.general, generator=learner.draws("general", layer))

    shared = Slots.everywhere(backbone, "kv", general, how.general_blocks)
    after = range(how.general_blocks, how.general_blocks + how.expert_blocks)
    return shared, PromptPool(backbone, how.expert, kind="prefix", blocks=after, beside=shared, **pool)


def adapters(
    learner: Method, bottleneck: int, *names: str | int, scale: float = 0.1, blocks: int | None = None
) -> Slots:
    """A fresh adapter beside the MLP of every block (or of the first `blocks`); `names` tell its draws from others'."""

    def make(layer: int) -> AdapterSlot:
        draws = learner.draws("adapter", *names, layer)
        return AdapterSlot(learner.backbone.token_dim, bottleneck, scale, generator=draws)

    return Slots.everywhere(learner.backbone, "mlp", make, blocks)


def prompts(learner: Method, length: int, *names: str | int, blocks: int | None = None) -> Slots:
    """`length` tokens at the entrance of every block (VPT-deep), or of the first `blocks` (1 is VPT-shallow)."""

    def make(layer: int) -> PromptSlot:
        return PromptSlot(learner.backbone.token_dim, length, generator=learner.draws("prompt", *names, layer))

    return Slots.everywhere(learner.backbone, "before", make, blocks)
