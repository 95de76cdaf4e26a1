"""Joint training: after every task, start again from the pre-trained weights and train on all images seen so far."""

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
from cillab.parts.exemplars import Exemplars
from cillab.parts.fitting import FitParams, fit, sweep
from cillab.parts.heads import LinearHead
from cillab.parts.losses import cross_entropy


class JointParams(FitParams):
    """Hyper-parameters of joint training."""

    lr: PositiveFloat = 0.02
    """Learning rate of the head."""
    backbone_lr: PositiveFloat = 0.01
    """Learning rate of the backbone; higher than in sequential training, where it decides what is forgotten."""


@learners.register("joint")
@final
class Joint(Learner[JointParams]):
    """The upper bound: no task boundary at all, because every image is kept.

        theta, W, b  <-  SGD on CE(f_theta(x) W^T + b, y) over all images seen, from the pre-trained weights     (1)

    Not a class-incremental method: it stores all images (in checkpoints too) and its cost grows with every task. For
    the number alone give it one task with all classes, `--split B0-Inc100`: the final test set is the same.
    """

    name: ClassVar[str] = "joint"
    Params: ClassVar[type[HyperParams]] = JointParams
    capabilities: ClassVar[Capabilities] = Capabilities(
        summary="all weights train on all images seen so far: the upper bound, which breaks the rules",
        paper="the usual upper bound, e.g. Sun et al., PILOT, arXiv:2309.07117",
        evidence="reproduction",
        exemplars=True,
    )

    def __init__(self, backbone: Backbone, params: JointParams | None = None, *, seed: int = 1993) -> None:
        self.backbone, self.params, self.seed = backbone, params or JointParams(), seed
        self.theta = Overlay(backbone, "*")
        self.linear = LinearHead(backbone.feature_dim).to(backbone.device)
        self.images = Exemplars(backbone.device)

    @property
    def seen(self) -> tuple[int, ...]:
        """Class ids in order of first appearance."""
        return self.linear.classes

    def observe(self, task: Task) -> Iterator[Progress]:
        """Equation (1) on everything seen so far, `task` included."""

        def loss(pixels: Tensor, labels: Tensor) -> Tensor:
            with self.backbone.wearing(self.theta):
                logits = self.linear(self.backbone.embed(pixels))
            return cross_entropy(logits, labels, self.seen, self.seen)

        with undone_on_failure(self.parts()):
            yield from sweep(task.batches(self.params.batch_size), self.images.add, len(task), "store")
            classes = self.linear.classes
            self.theta.load(Overlay(self.backbone, "*").state())
            self.linear.load(LinearHead(self.backbone.feature_dim).state())
            self.linear.grow((*classes, *task.classes))
            everything = self.images.task(task.index, task.class_names)
            groups = [
                {"params": self.linear.parameters()},
                {"params": self.theta.parameters(), "lr": self.params.backbone_lr},
            ]
            yield from fit(everything, self.backbone, groups, loss, self.params, seed=self.seed, stage="joint")

    def features(self, images: UInt8[Tensor, "image 3 height width"]) -> Float[Tensor, "image feature"]:
        """f_theta(x) with the current weights."""
        with self.backbone.wearing(self.theta):
            return self.backbone(images)

    def logits(self, images: UInt8[Tensor, "image 3 height width"]) -> Float[Tensor, "image cls"]:
        """Unnormalised scores of the linear head."""
        if not self.seen:
            raise NotObservedError("Joint has seen no class yet: exhaust observe(task) first.")
        return self.linear(self.features(images))

    def head(self) -> Head:
        """W and b."""
        bias = self.linear.bias
        return Head(self.linear.weight.detach(), None if bias is None else bias.detach())

    def internals(self) -> Mapping[str, Tensor]:
        """Number of stored images of each class."""
        if not self.seen:
            return {}
        return {"stored": torch.stack([(self.images.labels == c).sum() for c in self.seen])}

    def parts(self) -> Mapping[str, Part]:
        """The weights, the head, every image."""
        return {"theta": self.theta, "head": self.linear, "images": self.images}
