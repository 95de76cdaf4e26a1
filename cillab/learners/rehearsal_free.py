"""EWC, L2, feature distillation and LwF: fine-tuning that is held back, in the four ways that "a closer look" compares.

All four are one method: task by task, cross-entropy over the classes of the task, plus `weight` times something that
holds weights, features or logits where they were before the task. They share a head, rates and what may move.
"""

from abc import abstractmethod
from typing import Any, TypeVar

from cillab.kit import (
    Competitors, F, Field, Fit, HyperParams, Importance, Iterator, Linear, Literal, Method, MovingAverage,
    NonNegativeFloat, Overlay, PositiveFloat, PositiveInt, Progress, Task, Tensor, cross_entropy, deepcopy,
    distillation, final, fisher, fit, frozen_copy, method, spring, torch, undecayed,
)  # fmt: skip

PAPER = "Smith et al., A Closer Look at Rehearsal-Free Continual Learning, CVPR-W 2023, arXiv:2203.17269"
ATTENTION = ("*attn*qkv*", "*attn*in_proj*")  # queries, keys and values, in timm and in open_clip


class HeldParams(HyperParams):
    """Hyper-parameters that the four share."""

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
    """What holds back, over the cross-entropy; 0 is fine-tuning."""


P = TypeVar("P", bound=HeldParams)


class Held(Method[P]):
    """theta, W <- SGD on CE(W f_theta(x) + b, y) + weight * hold, then what is needed to hold them next time."""

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
        for progress in fit(self, task, groups, loss, p.fit, stage="finetune", on_pixels=True):
            if p.ema:
                average.update()
            yield progress
        if p.ema:
            average.settle()
        yield from self.end(task)


class L2Params(HeldParams):
    """Hyper-parameters of the L2 anchor."""

    weight: NonNegativeFloat = 1.0
    """lambda of (1)."""


@method(
    "l2-anchor",
    paper=PAPER,
    evidence="reproduction",
    family="regularisation",
    when="The plainest way to hold a fine-tuned backbone back, and on pre-trained ViTs often the best of the four.",
    ours="lambda and rates, which nobody has searched for yet",
)
@final
class L2Anchor(Held[L2Params]):
    """Fine-tuning on a spring to the weights before the task.

        theta, W  <-  SGD on CE(W f_theta(x) + b, y) + lambda ||theta - theta'||^2,   theta' = theta before the task (1)

    Source: Smith et al., CVPR-W 2023, arXiv:2203.17269. Keeps all weights; one forward pass per image.
    """

    def hold(self, before: dict[str, Tensor], pixels: Tensor, h: Tensor) -> Tensor:
        """The spring of (1)."""
        return spring(self.worn.named_parameters(), before)


class EWCParams(HeldParams):
    """Hyper-parameters of EWC."""

    weight: NonNegativeFloat = 100.0
    """lambda of (1)."""
    images: PositiveInt = 200
    """Images of a task whose gradients make its F, one backward pass each."""
    keep: float = Field(default=1.0, ge=0, le=1)
    """Share of the F of earlier tasks that stays when a new one is added; 1 is their sum."""

    quick = {"images": 6}


@method(
    "ewc",
    paper="Kirkpatrick et al., EWC, PNAS 2017, arXiv:1612.00796; compared in arXiv:2203.17269",
    evidence="reproduction",
    family="regularisation",
    when="To see whether it pays to know which weights mattered: the spring of `l2-anchor`, stiffer there.",
    ours="lambda and rates, which nobody has searched for yet; F by single images",
)
@final
class EWC(Held[EWCParams]):
    """Fine-tuning on springs as stiff as the weights mattered to earlier tasks.

        theta, W  <-  SGD on CE(W f_theta(x) + b, y) + lambda sum_i F_i (theta_i - theta'_i)^2                      (1)
        F_i       <-  keep F_i + mean over images of the task of (d CE / d theta_i)^2,   after the task             (2)

    Source: Kirkpatrick et al., PNAS 2017, arXiv:1612.00796, with one anchor and summed F as in its online form. Keeps
    all weights, and F, as many again, for learning; one forward pass per image.
    """

    def setup(self) -> None:
        """As all four, with an F of nothing."""
        super().setup()
        self.importance = Importance(self.backbone.device)

    def hold(self, before: dict[str, Tensor], pixels: Tensor, h: Tensor) -> Tensor:
        """The springs of (1)."""
        return spring(self.worn.named_parameters(), before, self.importance.values)

    def end(self, task: Task) -> Iterator[Progress]:
        """Equation (2)."""
        p, named = self.params, dict(self.worn.named_parameters())
        fresh = yield from fisher(self, task, named, lambda h, y: self.likelihood(h, y, task), p.images)
        self.importance.add(fresh, p.keep)


class FeatureKDParams(HeldParams):
    """Hyper-parameters of feature distillation."""

    weight: NonNegativeFloat = 1.0
    """lambda of (1)."""


@method(
    "feature-kd",
    paper=PAPER,
    evidence="reproduction",
    family="regularisation",
    when="Features themselves must stay, whatever the weights do: the old network is asked about today's images.",
    ours="lambda and rates, which nobody has searched for yet",
)
@final
class FeatureKD(Held[FeatureKDParams]):
    """Fine-tuning whose features of today's images stay near those of the network before the task.

        theta, W  <-  SGD on CE(W f_theta(x) + b, y) + lambda mean over images of ||f_theta(x) - f_theta'(x)||^2 / d (1)

    Source: Smith et al., CVPR-W 2023, arXiv:2203.17269. Keeps all weights, twice while it learns; two forward passes
    per image and step, one per image at test.
    """

    def before(self) -> Overlay:
        """The weights of the backbone, to be worn."""
        return deepcopy(self.worn)

    def hold(self, before: Overlay, pixels: Tensor, h: Tensor) -> Tensor:
        """The distance of (1)."""
        with torch.no_grad():
            theirs = self.on_pixels(pixels)(before)
        return (h - theirs).square().mean()


class LwFParams(HeldParams):
    """Hyper-parameters of LwF."""

    weight: NonNegativeFloat = 1.0
    """lambda of (1)."""
    temperature: PositiveFloat = 2.0
    """T of (1)."""


@method(
    "lwf",
    paper="Li & Hoiem, Learning without Forgetting, ECCV 2016, arXiv:1606.09282; compared in arXiv:2203.17269",
    evidence="reproduction",
    family="regularisation",
    when="The classical answer without images: the old classifier's opinion of today's images must not change.",
    ours="lambda and rates, which nobody has searched for yet",
)
@final
class LwF(Held[LwFParams]):
    """Fine-tuning whose logits of old classes stay what they were on today's images.

        z = W f_theta(x) + b,    z' = the same before the task, of old classes                                      (1)
        theta, W  <-  SGD on CE(z, y) + lambda KD_T(z of old classes, z')                                           (2)

    Source: Li & Hoiem, ECCV 2016, arXiv:1606.09282. KD_T is `distillation`, without T^2. Keeps all weights, twice while
    it learns; two forward passes per image and step, one per image at test.
    """

    def before(self) -> tuple[Overlay, Tensor, Tensor | None]:
        """The weights of the backbone, to be worn, and W and b of old classes."""
        weight, bias = (x if x is None else x[: len(self.old)].clone() for x in self.classifier.rows())
        return deepcopy(self.worn), weight, bias  # type: ignore[return-value]

    def hold(self, before: tuple[Overlay, Tensor, Tensor | None], pixels: Tensor, h: Tensor) -> Tensor:
        """KD of (2)."""
        theta, weight, bias = before
        with torch.no_grad():
            theirs = F.linear(self.on_pixels(pixels)(theta), weight, bias)
        return distillation(self.classifier(h)[:, : len(self.old)], theirs, self.params.temperature)
