"""Two stages that never train together: images towards frozen text, then text towards remembered image features."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from cillab.backbones.lora import LoRA
from cillab.backbones.overlay import Overlay
from cillab.core import rng
from cillab.core.contract import Backbone, Progress, Task
from cillab.core.state import restore, snapshot
from cillab.parts.fitting import FitParams, attention_for, descend, fit
from cillab.parts.gaussian_memory import GaussianMemory
from cillab.parts.losses import Competitors, cross_entropy
from cillab.parts.prompting import PromptParams, Taken, balanced_cross_entropy, shuffled, text_schedule
from cillab.parts.text_head import TextHead

VisionDelta = LoRA | Overlay


class DecoupledParams(PromptParams, FitParams):
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
    epochs: PositiveInt = 2
    """Passes over a task's images while the images' side trains."""
    batch_size: PositiveInt = 64
    """Images per step of the images' side."""
    lr: PositiveFloat = 1e-4
    """Learning rate of the images' side. Whatever it moves leaves the stored Gaussians behind. On held-out training
    images of all tasks of shields, A_last: images' side frozen 70.2 % (dmc), 3e-5 70.0 (dmc), 1e-4 69.5 (dmc) and 70.2
    (dmc-ot), 3e-4 69.7 (dmc-ot)."""
    optimiser: Literal["sgd", "adamw"] = "adamw"
    """Optimiser of the images' side."""
    weight_decay: NonNegativeFloat = 1e-4
    """Weight decay of the images' side."""
    competitors: Competitors = "local"
    """Frozen anchors in the softmax of the images' side: those of the current task, or of all classes seen. Old anchors
    would only ever be negatives, since no old image is there."""
    distil: NonNegativeFloat = 0.0
    """Weight of ||v/|v| - v'/|v'|||^2 with v' of the encoder before the task: holds features where they were."""
    joint: bool = False
    """Ablation: in the images' stage the prompt trains along, in place of frozen anchors."""
    text_layers: PositiveInt = 3
    """Blocks of the text side with context tokens of their own, at most as many as there are. On held-out training
    images of all tasks of shields, images' side frozen: A_last 67.8 % with 1, 70.2 with 3 (66.5 where the deeper
    tokens start as the words' own states, which this rate hardly moves)."""
    covariance: Literal["full", "diagonal"] = "full"
    """What is remembered of a class's spread."""
    floor: NonNegativeFloat = 0.01
    """Added to every variance when features are drawn, as a share of the class's mean variance."""
    replay: NonNegativeInt = 20
    """Features drawn per old class and step of the prompt; 0 is no replay (ablation)."""
    current: Literal["real", "gaussian"] = "real"
    """The newest classes, too: their real features, or features drawn from their Gaussians (`text_batch` in all)."""


def vision_delta(backbone: Backbone, how: DecoupledParams, seed: int) -> VisionDelta:
    """What trains on the images' side; a fresh one changes nothing."""
    match how.vision:
        case "lora":
            return LoRA(backbone, how.rank, how.alpha, generator=rng.stream(seed, "low-rank"))
        case "last":
            return Overlay(backbone, *(f"{name}.*" for name in backbone.block_names[-how.last_blocks :]))
        case "full":
            return Overlay(backbone, "*")
        case "none":
            return Overlay(backbone)


def vision_stage(
    task: Task, backbone: Backbone, delta: VisionDelta, text: TextHead, how: DecoupledParams, seed: int
) -> Iterator[Progress]:
    """Images towards the frozen vectors of their names.

    L_1 = CE( s cos(v, u_c) over c in C_t, y ) + distil ||v/|v| - v'/|v'|||^2,    v' of the encoder before
    """
    if how.vision == "none":
        return
    before = vision_delta(backbone, how, seed) if how.distil else None
    if before is not None:
        restore({"delta": before}, snapshot({"delta": delta}))

    def loss(pixels: Tensor, labels: Tensor) -> Tensor:
        with backbone.wearing(delta):
            features = backbone.embed(pixels)
        rows = text.encode() if how.joint else text.frozen
        value = cross_entropy(text(features, rows), labels, text.classes, task.classes, how.competitors)
        if before is None:
            return value
        with torch.no_grad(), backbone.wearing(before):
            held = F.normalize(backbone.embed(pixels), dim=-1)
        return value + how.distil * (F.normalize(features, dim=-1) - held).square().sum(dim=1).mean()

    groups: list[dict] = [{"params": delta.parameters()}]
    if how.joint and text.prompt is not None:
        groups.append({"params": text.prompt.parameters(), "lr": how.text_lr})
    yield from fit(task, backbone, groups, loss, how, seed=seed, stage="images")


def text_stage(
    task: Task,
    taken: Taken,
    text: TextHead,
    memory: GaussianMemory,
    how: DecoupledParams,
    seed: int,
    *,
    trained: Iterable[nn.Parameter],
    extra: Callable[[Float[Tensor, "cls feature"]], Float[Tensor, ""]] | None = None,
) -> Iterator[Progress]:
    """The prompt towards real features of new classes and drawn features of old ones; all classes weigh the same.

        L_2 = balanced CE( s cos(v, g_c) over c in C_1..t, y ),    v of the task, or v ~ N(mu_c, S_c)

    `taken` are the features of the task's images, `extra` a further loss on the prototypes.
    """
    old = tuple(c for c in memory.classes if c not in task.classes) if how.replay else ()
    count = len(taken[1])

    steps = -(-count // how.text_batch)

    def batches(epoch: int) -> Iterator[Taken]:
        draws = rng.stream(seed, "text", task.index, epoch)
        sides = [shuffled(taken, how.text_batch, draws)]
        if how.current == "gaussian":
            each = -(-how.text_batch // len(task.classes))
            sides = [memory.batches(steps, each, draws, task.classes, how.floor)]
        if old:
            sides.append(memory.batches(steps, how.replay, draws, old, how.floor))
        for parts in zip(*sides, strict=True):
            yield torch.cat([v for v, _ in parts]), torch.cat([y for _, y in parts])

    def loss(features: Tensor, labels: Tensor) -> Tensor:
        rows = text.encode()
        value = balanced_cross_entropy(text(features, rows), labels, text.classes)
        return value if extra is None else value + extra(rows)

    per_epoch = count + steps * how.replay * len(old)
    yield from descend(
        batches, steps, trained, loss, text_schedule(how), stage="text", total=how.text_epochs * per_epoch,
        epochs=how.text_epochs, under=lambda: attention_for(text.backbone),
    )  # fmt: skip
    text.refresh()


def logit_bias(
    task: Task, text: TextHead, memory: GaussianMemory, draws: torch.Generator, each: int = 64
) -> Float[Tensor, "2 2"]:
    """Mean of the largest logit among old (column 0) and new classes (1), for features of old (row 0) and new (1).

    Features are drawn from the Gaussians. Row 0 with its larger number in column 1 is the bias towards new classes.
    """
    old = tuple(c for c in memory.classes if c not in task.classes)
    sides = [text.columns(old), text.columns([c for c in text.classes if c in task.classes])]
    rows = []
    for classes in (old, tuple(c for c in memory.classes if c in task.classes)):
        logits = text(memory.sample(each, draws, classes)[0])
        rows.append(torch.stack([logits[:, columns].amax(dim=1).mean() for columns in sides]))
    return torch.stack(rows)


def shown(text: TextHead, memory: GaussianMemory) -> Mapping[str, Tensor]:
    """Prototypes, frozen anchors and stored Gaussians, in the order of the head; empty without a memory."""
    if not text.classes:
        return {}
    found = {"text/prototypes": text.prototypes, "text/frozen": text.frozen}
    return {**found, **(gaussians(memory.only(text.classes)) if set(memory.classes) >= set(text.classes) else {})}


def gaussians(memory: GaussianMemory, suffix: str = "") -> Mapping[str, Tensor]:
    """Means and the eight leading directions of every class."""
    return {f"gaussian/mean{suffix}": memory.means, f"gaussian/factor{suffix}": memory.factor(8).half()}
