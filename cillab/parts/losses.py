"""Losses that methods share: which classes compete in the softmax is the question of every class-incremental loss."""

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from cillab.parts.heads import columns_of

Competitors = Literal["seen", "local"]


def cross_entropy(
    logits: Float[Tensor, "image cls"],
    labels: Int64[Tensor, " image"],
    classes: tuple[int, ...],
    task_classes: tuple[int, ...],
    competitors: Competitors = "seen",
) -> Float[Tensor, ""]:
    """Softmax cross-entropy over all classes seen ("seen") or over those of the current task alone ("local").

    Without stored images "seen" pushes old classes down with every image (recency bias); "local" leaves their rows
    alone, at the price of never comparing old with new.
    """
    if competitors == "local":
        kept = [classes.index(c) for c in task_classes]
        return F.cross_entropy(logits[:, kept], columns_of(labels, tuple(classes[i] for i in kept)))
    return F.cross_entropy(logits, columns_of(labels, classes))
