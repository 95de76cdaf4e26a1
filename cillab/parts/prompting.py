"""Learning a soft prompt from features: no image passes through a network while text is trained."""

from collections.abc import Callable, Generator, Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from cillab.backbones.prompts import TextPrompt
from cillab.backbones.text import TEMPLATES
from cillab.core import rng
from cillab.core.contract import Backbone, Progress, Task
from cillab.core.params import HyperParams
from cillab.parts.fitting import FitParams, augmentation, augmented, sweep
from cillab.parts.heads import columns_of

Taken = tuple[Float[Tensor, "image feature"], Int64[Tensor, " image"]]
BATCH = 128  # images per forward pass when features are collected


class PromptParams(HyperParams):
    """How a soft prompt looks and how it is trained."""

    context: Literal["phrase", "random"] = "phrase"
    """Start the context tokens from "a photo of a" (untrained, that is zero-shot CLIP), or draw them from
    N(0, 0.02^2)."""
    context_length: PositiveInt = 16
    """Number of context tokens when they are drawn; the phrase has four."""
    text_layers: PositiveInt = 1
    """Layers of the text side with context tokens of their own (deep prompts); 1 is the input alone."""
    text_epochs: NonNegativeInt = 10
    """Passes over a task's features while the prompt trains."""
    text_batch: PositiveInt = 128
    """Real features per step of the prompt."""
    text_lr: PositiveFloat = 0.002
    """Learning rate of the prompt; 0.002 is CoOp's for SGD. Not tuned."""
    text_optimiser: Literal["sgd", "adamw"] = "adamw"
    """Optimiser of the prompt; CoOp has SGD at 0.002."""
    text_weight_decay: NonNegativeFloat = 0.0
    """Weight decay of the prompt."""
    views: NonNegativeInt = 0
    """Augmented passes over a task's images whose features train the prompt beside the clean ones."""


def make_prompt(backbone: Backbone, how: PromptParams, seed: int, task_tokens: int = 0) -> TextPrompt:
    """The prompt that a record asks for."""
    phrase = TEMPLATES[0].partition(" {}")[0]
    return TextPrompt(
        backbone,
        phrase if how.context == "phrase" else how.context_length,
        layers=how.text_layers,
        task_tokens=task_tokens,
        generator=rng.stream(seed, "text prompt"),
    )


def text_schedule(how: PromptParams) -> FitParams:
    """The text side's numbers as the training loop wants them."""
    return FitParams(
        lr=how.text_lr,
        batch_size=how.text_batch,
        optimiser=how.text_optimiser,
        weight_decay=how.text_weight_decay,
    )


def collect(
    task: Task,
    backbone: Backbone,
    embed: Callable[[Tensor], Float[Tensor, "image feature"]],
    views: int,
    how: FitParams | None,
    seed: int,
) -> Generator[Progress, None, tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]]:
    """Features of a task: of its images as they are, and of those plus `views` augmented passes.

    `embed` turns normalised pixels into features; `how` says how views are augmented.
    """
    clean: list[tuple[Tensor, Tensor]] = []

    def visit(images: Tensor, labels: Tensor) -> None:
        clean.append((embed(backbone.pixels(images)), labels.to(backbone.device)))

    yield from sweep(task.batches(BATCH), visit, len(task), "features")
    more: list[tuple[Tensor, Tensor]] = []

    def visit_view(pixels: Tensor, labels: Tensor) -> None:
        more.append((embed(pixels), labels.to(backbone.device)))

    augment = augmentation(how or FitParams())
    for number in range(views):
        batches = augmented(task, backbone, augment, BATCH, seed, "views", number)
        yield from sweep(batches, visit_view, len(task), f"views {number + 1}")
    return _joined(clean), _joined([*clean, *more])


def _joined(taken: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    return torch.cat([h for h, _ in taken]), torch.cat([y for _, y in taken])


def balanced_cross_entropy(
    logits: Float[Tensor, "image cls"], labels: Int64[Tensor, " image"], classes: tuple[int, ...]
) -> Float[Tensor, ""]:
    """Cross-entropy in which every class of the batch weighs the same, however many features it has there.

    (1 / |C_b|) sum over classes c of the batch of the mean of -log softmax(logits)_c over its features.
    """
    columns = columns_of(labels, classes)
    counts = torch.bincount(columns, minlength=len(classes))
    weights = 1 / (counts[columns] * (counts > 0).sum())
    return (weights * F.cross_entropy(logits, columns, reduction="none")).sum()


def shuffled(taken: Taken, batch: int, draws: torch.Generator) -> Iterator[Taken]:
    """Features in batches, each once, in an order drawn from `draws`."""
    features, labels = taken
    for chosen in torch.randperm(len(labels), generator=draws).to(features.device).split(batch):
        yield features[chosen], labels[chosen]
