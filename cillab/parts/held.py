"""Fine-tuning that is held back: what the methods of "a closer look at rehearsal-free continual learning" share.

Task by task, cross-entropy over the classes of the task, plus `weight` times something that holds weights, features or
logits where they were before the task. A head, rates and what may move are common to all. Source: Smith et al., CVPR-W
2023, arXiv:2203.17269.
"""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor

from cillab.backbones.overlay import Overlay
from cillab.core.contract import Progress, Task
from cillab.core.params import HyperParams
from cillab.parts.anchors import MovingAverage, frozen_copy
from cillab.parts.fitting import Fit
from cillab.parts.heads import Linear, undecayed
from cillab.parts.losses import Competitors, cross_entropy
from cillab.parts.method import Method, fit

ATTENTION = ("*attn*qkv*", "*attn*in_proj*")  # queries, keys and values, in timm and in open_clip


class HeldParams(HyperParams):
    """Hyper-parameters that all of them share."""

    fit: Fit = Fit(lr=0.01)
    """Head and backbone on the task's images."""
    backbone_lr: PositiveFloat = 0.001
    """Learning rate of the backbone."""
    moves: Literal["all", "attention"] = "all"
    """Which weights of the backbone move: all, or queries, keys and values of a ViT alone (the paper's best)."""
    competitors: Competitors = "local"
    """Classes in the softmax: those of the current task, or all seen ones."""
    ema: float = Field(default=0.0, ge=0, lt=1)
    """Momentum of the average over a task's steps that becomes the result of the task; 0 is the last step."""
    weight: NonNegativeFloat = 1.0
    """lambda: what holds back, over the cross-entropy; 0 is fine-tuning."""


P = TypeVar("P", bound=HeldParams)


class Held(Method[P]):
    """theta, W <- SGD on CE(W f_theta(x) + b, y) + weight * hold, then what is needed to hold them next time."""

    stage: ClassVar[str]
    """Name of the stage, which decides its draws: a method that is held by nothing is the one whose name it gives."""

    def setup(self) -> None:
        """The pre-trained weights and a head without rows."""
        backbone = self.backbone
        here = [n for n, _ in backbone.module.named_parameters() if "attn" in n and ("qkv" in n or "in_proj" in n)]
        self.worn = Overlay(backbone, *("*",) if self.params.moves == "all" else here or ATTENTION[:1])
        self.classifier = Linear(backbone.feature_dim, device=backbone.device)

    def before(self) -> Any:
        """What is there before a later task moves it: the weights, by name."""
        return frozen_copy(self.worn.named_parameters())

    @abstractmethod
    def hold(self, before: Any, pixels: Tensor, h: Tensor) -> Tensor:
        """What grows as weights, features or logits leave `before`."""

    def end(self, task: Task) -> Iterator[Progress]:
        """What has to be learnt of a task for the next ones; mostly nothing."""
        return iter(())

    def likelihood(self, h: Tensor, labels: Tensor, task: Task) -> Tensor:
        """Cross-entropy over the classes that compete."""
        return cross_entropy(self.classifier(h), labels, self.seen, task.classes, self.params.competitors)

    def learn(self, task: Task) -> Iterator[Progress]:
        """Plain in the first session, held in all others."""
        p, held = self.params, bool(self.old) and self.params.weight > 0
        before = self.before() if held else None

        def loss(pixels: Tensor, labels: Tensor) -> Tensor:
            h = self.embed(self.on_pixels(pixels))
            value = self.likelihood(h, labels, task)
            return value + p.weight * self.hold(before, pixels, h) if held else value

        groups = [undecayed(self.classifier), {"params": self.worn.parameters(), "lr": p.backbone_lr}]
        average = MovingAverage([*self.classifier.parameters(), *self.worn.parameters()], p.ema)
        for progress in fit(self, task, groups, loss, p.fit, stage=self.stage, on_pixels=True):
            if p.ema:
                average.update()
            yield progress
        if p.ema:
            average.settle()
        yield from self.end(task)
