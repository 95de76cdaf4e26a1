"""Finetune: every weight trains on the newest task. It forgets, and that is what it is here to show."""

from collections.abc import Iterator, Mapping
from typing import ClassVar, final

import torch
from jaxtyping import Float, UInt8
from pydantic import PositiveFloat
from torch import Tensor

from cillab.backbones.overlay import Overlay
from cillab.core.contract import Backbone, Capabilities, Head, Learner, Part, Progress, Task
from cillab.core.errors import NotObservedError
from cillab.core.params import HyperParams
from cillab.core.registry import learners
from cillab.core.state import undone_on_failure
from cillab.parts.fitting import FitParams, fit
from cillab.parts.heads import LinearHead
from cillab.parts.losses import Competitors, cross_entropy


class FinetuneParams(FitParams):
    """Hyper-parameters of sequential fine-tuning."""

    lr: PositiveFloat = 0.01
    """Learning rate of the head."""
    backbone_lr: PositiveFloat = 0.001
    """Learning rate of the backbone. The ratio of the two rates decides how much is forgotten."""
    competitors: Competitors = "local"
    """Classes in the softmax: those of the current task ("local", as in PILOT) or all seen ones ("seen")."""


@learners.register("finetune")
@final
class Finetune(Learner[FinetuneParams]):
    """Minimise cross-entropy on the current task over all weights of the backbone and a linear head.

        logits = f_theta(x) W^T + b;    theta, W, b  <-  SGD on CE(logits, y) over the task's classes     (1)

    Source: the sequential baseline of PILOT (Sun et al., arXiv:2309.07117). Deviation: normalisation layers of
    convnets stay in evaluation mode, so that a prediction never depends on batch mates. Keeps one full copy of the
    backbone's weights; one forward pass per image.
    """

    name: ClassVar[str] = "finetune"
    Params: ClassVar[type[HyperParams]] = FinetuneParams
    capabilities: ClassVar[Capabilities] = Capabilities(
        summary="all weights train on the newest task: the lower bound that forgets",
        paper="Sun et al., PILOT, arXiv:2309.07117",
        evidence="reproduction",
    )

    def __init__(self, backbone: Backbone, params: FinetuneParams | None = None, *, seed: int = 1993) -> None:
        self.backbone, self.params, self.seed = backbone, params or FinetuneParams(), seed
        self.theta = Overlay(backbone, "*")
        self.linear = LinearHead(backbone.feature_dim).to(backbone.device)

    @property
    def seen(self) -> tuple[int, ...]:
        """Class ids in order of first appearance."""
        return self.linear.classes

    def observe(self, task: Task) -> Iterator[Progress]:
        """Equation (1) on the images of `task`."""

        def loss(pixels: Tensor, labels: Tensor) -> Tensor:
            with self.backbone.wearing(self.theta):
                logits = self.linear(self.backbone.embed(pixels))
            return cross_entropy(logits, labels, self.seen, task.classes, self.params.competitors)

        with undone_on_failure(self.parts()):
            self.linear.grow(task.classes)
            groups = [
                {"params": self.linear.parameters()},
                {"params": self.theta.parameters(), "lr": self.params.backbone_lr},
            ]
            yield from fit(task, self.backbone, groups, loss, self.params, seed=self.seed, stage="finetune")

    def features(self, images: UInt8[Tensor, "image 3 height width"]) -> Float[Tensor, "image feature"]:
        """f_theta(x) with the current weights."""
        with self.backbone.wearing(self.theta):
            return self.backbone(images)

    def logits(self, images: UInt8[Tensor, "image 3 height width"]) -> Float[Tensor, "image cls"]:
        """Unnormalised scores of the linear head."""
        if not self.seen:
            raise NotObservedError("Finetune has seen no class yet: exhaust observe(task) first.")
        return self.linear(self.features(images))

    def head(self) -> Head:
        """W and b."""
        bias = self.linear.bias
        return Head(self.linear.weight.detach(), None if bias is None else bias.detach())

    def internals(self) -> Mapping[str, Tensor]:
        """Length of each row of W: rows of new classes outgrow old ones when the softmax is shared."""
        return {"row_norms": torch.linalg.vector_norm(self.linear.weight.detach(), dim=1)}

    def parts(self) -> Mapping[str, Part]:
        """The weights and the head."""
        return {"theta": self.theta, "head": self.linear}
