"""Small modules in the blocks of a ViT, as methods ask for them: adapters, prompts."""

from cillab.backbones.slots import AdapterSlot, PromptSlot, Slots
from cillab.parts.method import Method


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
