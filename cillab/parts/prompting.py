"""Learning a soft prompt from features: no image passes through a network while text is trained."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn

from cillab.backbones.prompts import TextPrompt, TextTower
from cillab.backbones.text import TEMPLATES
from cillab.core import rng
from cillab.core.arrays import counted
from cillab.core.contract import Backbone
from cillab.core.params import HyperParams
from cillab.parts.fitting import Fit
from cillab.parts.heads import columns_of


class PromptParams(HyperParams):
    """How a soft prompt looks and how it is trained."""

    context: Literal["phrase", "random"] = "phrase"
    """Start the context tokens from "a photo of a" (untrained and shallow, that is zero-shot CLIP), or draw them from
    N(0, 0.02^2)."""
    context_length: PositiveInt = 16
    """Number of context tokens when they are drawn; the phrase has four."""
    text_layers: PositiveInt = 1
    """Blocks of the text side with context tokens of their own (deep prompts), at most as many as there are; 1 is the
    input alone, as in CoOp."""
    text: Fit = Fit(epochs=10, batch_size=128, lr=0.002, optimiser="adamw", weight_decay=0.0)
    """The prompt on a task's features; 0.002 is CoOp's rate, there for SGD. Not tuned."""
    views: NonNegativeInt = 0
    """Augmented passes over a task's images whose features train the prompt beside the clean ones."""

    former = {
        "text_epochs": "text.epochs",
        "text_batch": "text.batch_size",
        "text_lr": "text.lr",
        "text_optimiser": "text.optimiser",
        "text_weight_decay": "text.weight_decay",
    }


def make_prompt(backbone: Backbone, how: PromptParams, seed: int, task_tokens: int = 0) -> TextPrompt:
    """The prompt that a record asks for. Deeper tokens start at random, small, and so move more than words would."""
    start = TEMPLATES[0].partition(" {}")[0] if how.context == "phrase" else how.context_length
    draw = rng.stream(seed, "text prompt")
    return deep_prompt(backbone, start, how.text_layers, silent=False, task_tokens=task_tokens, generator=draw)


def deep_prompt(
    backbone: Backbone,
    context: int | str,
    layers: int,
    *,
    silent: bool,
    task_tokens: int = 0,
    generator: torch.Generator,
) -> TextPrompt:
    """A prompt with tokens of its own in the first `layers` blocks, or in all blocks if there are fewer.

    With `silent`, deeper tokens start as what the context becomes there, so that they change nothing; otherwise at
    random.
    """
    layers = min(layers, TextTower(backbone).depth)
    prompt = TextPrompt(backbone, context, layers=layers, task_tokens=task_tokens, generator=generator)
    if silent and layers > 1:
        shallow = TextPrompt(backbone, context, generator=generator)
        with torch.no_grad():
            for tokens, start in zip(prompt.deep, states_of_context(shallow, layers - 1), strict=True):
                tokens.copy_(start)
    return prompt


def states_of_context(prompt: TextPrompt, count: int) -> list[Float[Tensor, "token width"]]:
    """What the tokens of P are behind each of the first `count` blocks, under no deeper prompt.

    Where the tower is causal they do not depend on the class name, so that deep tokens that start there change
    nothing at all; elsewhere they are those of a sentence without a name.
    """
    tower, end = prompt.tower, prompt.start + len(prompt.context)
    blocks: list[nn.Module] = list(tower.own.transformer.resblocks)[:count]
    found: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        sentence = output.select(0 if tower.own.transformer.batch_first else 1, 0)
        found.append(sentence[prompt.start : end].detach().float().clone())

    handles = [block.register_forward_hook(keep) for block in blocks]
    try:
        with torch.no_grad():
            prompt.encode([""])
    finally:
        for handle in handles:
            handle.remove()
    return found


def balanced_cross_entropy(
    logits: Float[Tensor, "image cls"], labels: Int64[Tensor, " image"], classes: tuple[int, ...]
) -> Float[Tensor, ""]:
    """Cross-entropy in which every class of the batch weighs the same, however many features it has there.

    (1 / |C_b|) sum over classes c of the batch of the mean of -log softmax(logits)_c over its features.
    """
    columns = columns_of(labels, classes)
    counts = counted(columns, len(classes))
    weights = (counts > 0) / (counts.clamp(min=1) * (counts > 0).sum())
    return F.cross_entropy(logits, columns, weight=weights.to(logits.dtype), reduction="sum")
