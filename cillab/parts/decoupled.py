"""What DMC and DMC-OT share: the images' side adapts to frozen text, then a soft prompt adapts to remembered images.

Equations are those of `cillab.learners.dmc`.
"""

from collections.abc import Generator, Iterator, Mapping
from copy import deepcopy
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from cillab.backbones.lora import LoRA
from cillab.backbones.overlay import Overlay
from cillab.backbones.text import TEMPLATES
from cillab.core.contract import Progress, Task
from cillab.parts.fitting import Fit, Labelled, attention_for, descend, shuffled
from cillab.parts.gaussian_memory import GaussianMemory
from cillab.parts.heads import Table
from cillab.parts.losses import Competitors, cross_entropy
from cillab.parts.method import Method, fit, gathered, viewed
from cillab.parts.prompting import PromptParams, balanced_cross_entropy, make_prompt
from cillab.parts.text_head import TextHead
from cillab.parts.watching import logit_bias


class DecoupledParams(PromptParams):
    """Hyper-parameters of both stages. No number of the paper could be read: all are choices of ours."""

    vision: Literal["lora", "last", "full", "none"] = "lora"
    """What trains on the images' side: low-rank factors on q and v of every block, all weights of the last blocks, all
    weights (then with an lr of about 1e-5), or nothing (ablation)."""
    rank: PositiveInt = 8
    """Rank of the low-rank factors."""
    alpha: PositiveFloat = 8.0
    """Scale of the low-rank factors is alpha / rank."""
    last_blocks: PositiveInt = 2
    """Blocks that train when `vision` is "last"."""
    fit: Fit = Fit(epochs=2, batch_size=64, lr=1e-4, optimiser="adamw", weight_decay=1e-4)
    """The images' side on a task's images. Whatever it moves leaves the stored Gaussians behind."""
    competitors: Competitors = "local"
    """Frozen anchors in the softmax of the images' side: those of the current task, or of all classes seen. Old anchors
    would only ever be negatives, since no old image is there."""
    distil: NonNegativeFloat = 0.0
    """Weight of ||v/|v| - v'/|v'|||^2 with v' of the encoder before the task: holds features where they were."""
    joint: bool = False
    """Ablation: in the images' stage the prompt trains along, in place of frozen anchors."""
    text_layers: PositiveInt = 3
    """Blocks of the text side with context tokens of their own, at most as many as there are."""
    covariance: Literal["full", "diagonal"] = "full"
    """What is remembered of a class's spread."""
    floor: NonNegativeFloat = 0.01
    """Added to every variance when features are drawn, as a share of the class's mean variance."""
    replay: NonNegativeInt = 20
    """Features drawn per old class and step of the prompt; 0 is no replay (ablation)."""
    current: Literal["real", "gaussian"] = "real"
    """The newest classes, too: their real features, or features drawn from their Gaussians (a batch in all)."""


D = TypeVar("D", bound=DecoupledParams)

SHOWN = ("text/prototypes", "text/frozen", "text/logit_bias", "gaussian/mean", "gaussian/factor")


class Decoupled(Method[D]):
    """The two stages that both have."""

    former_parts = {"vision": "worn", "text": "classifier"}

    def setup(self) -> None:
        """An untouched images' side, the prompt, no name, no Gaussian."""
        p, backbone = self.params, self.backbone
        last = [f"{name}.*" for name in backbone.block_names[-p.last_blocks :]]
        self.worn: LoRA | Overlay = (
            LoRA(backbone, p.rank, p.alpha, generator=self.draws("low-rank"))
            if p.vision == "lora"
            else Overlay(backbone, *{"last": last, "full": ["*"], "none": []}[p.vision])
        )
        self.prompt = make_prompt(backbone, p, self.seed, self.tokens())
        self.classifier = TextHead(backbone, TEMPLATES, self.prompt)
        self.memory = GaussianMemory(backbone.feature_dim, p.covariance, backbone.device)
        self.record = Table(backbone.device)

    def tokens(self) -> int:
        """Tokens of the prompt that belong to a task: none."""
        return 0

    def learn(self, task: Task) -> Iterator[Progress]:
        """(1), (2), (3)."""
        clean = yield from self.adapt(task)
        self.memory.add(*clean)
        taken = yield from viewed(self, task, clean, self.params.views, self.params.fit)
        yield from self._text(task, taken)
        if len(self.memory) > len(task.classes):
            draws = self.draws("bias", task.index)
            self.record.tensors["bias"] = logit_bias(self.classifier, self.memory, task.classes, draws)

    def adapt(self, task: Task) -> Generator[Progress, None, Labelled]:
        """Equation (1), with the distillation that `distil` weighs; then the features of the task."""
        p, text = self.params, self.classifier
        before = deepcopy(self.worn) if self.params.distil else None

        def loss(pixels: Tensor, labels: Tensor) -> Tensor:
            features = self.embed(self.on_pixels(pixels))
            logits = text(features, text.encode() if p.joint else text.frozen)
            value = cross_entropy(logits, labels, self.seen, task.classes, p.competitors)
            if before is None:
                return value
            with torch.no_grad():
                held = F.normalize(self.on_pixels(pixels)(before), dim=-1)
            return value + p.distil * (F.normalize(features, dim=-1) - held).square().sum(dim=1).mean()

        if p.vision != "none":
            groups = [{"params": self.worn.parameters()}]
            groups += [{"params": self.prompt.parameters(), "lr": p.text.lr}] if p.joint else []
            yield from fit(self, task, groups, loss, p.fit, stage="images", on_pixels=True)
        return (yield from gathered(self, task))

    def _text(self, task: Task, taken: Labelled) -> Iterator[Progress]:
        """Equation (3): all classes weigh the same, whether their features are real or drawn."""
        p, how, text, memory = self.params, self.params.text, self.classifier, self.memory
        old = tuple(c for c in memory.classes if c not in task.classes) if p.replay else ()
        count, steps = len(taken[1]), -(-len(taken[1]) // how.batch_size)

        def batches(epoch: int) -> Iterator[Labelled]:
            draws = self.draws("text", task.index, epoch)
            sides = [shuffled(taken, how.batch_size, draws)]
            if p.current == "gaussian":
                sides = [memory.batches(steps, -(-how.batch_size // len(task.classes)), draws, task.classes, p.floor)]
            if old:
                sides.append(memory.batches(steps, p.replay, draws, old, p.floor))
            for parts in zip(*sides, strict=True):
                yield torch.cat([v for v, _ in parts]), torch.cat([y for _, y in parts])

        def loss(features: Tensor, labels: Tensor) -> Tensor:
            rows = text.encode()
            return balanced_cross_entropy(text(features, rows), labels, self.seen) + self.separation(rows, task)

        if not (trained := self.trained()):
            return
        yield from descend(
            batches, steps, trained, loss, how, stage="text", under=lambda: attention_for(self.backbone),
            total=how.epochs * (count + steps * p.replay * len(old)),
        )  # fmt: skip
        text.refresh()

    def trained(self) -> list[nn.Parameter]:
        """P."""
        return [self.prompt.context, *self.prompt.deep]

    def separation(self, rows: Tensor, task: Task) -> Tensor | float:
        """What holds the prototypes of old and new classes apart: nothing."""
        return 0.0

    def internals(self) -> Mapping[str, Tensor]:
        """Prototypes beside frozen anchors, Gaussians, and which side the logits favour."""
        text, memory, kept = self.classifier, self.memory, self.record.tensors
        if not self.seen:
            return {}
        found = {"text/prototypes": text.prototypes, "text/frozen": text.frozen}
        if set(memory.classes) >= set(self.seen):
            found |= memory.only(self.seen).shown()
        return found | ({"text/logit_bias": kept["bias"]} if "bias" in kept else {})
