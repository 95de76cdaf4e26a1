"""THE training loop: every method that takes gradient steps takes them here."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int64, Shaped, UInt8
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from cillab.core import processes, rng
from cillab.core.contract import Backbone, Progress, Task
from cillab.core.errors import InvalidRequestError
from cillab.core.params import HyperParams
from cillab.core.pixels import normalise
from cillab.streams.loading import Augment

Loss = Callable[[Float[Tensor, "image 3 size size"], Int64[Tensor, " image"]], Float[Tensor, ""]]


def no_step() -> None:
    """What happens before a step where a method has nothing to do there."""


LOSS_EVERY = 10  # steps between two readings of the loss: reading it makes a GPU wait
EXPLODED = 1e4  # times the first loss: cross-entropy over a million classes begins at 14


class Fit(HyperParams):
    """How gradient steps are taken in one stage of a method. A method's record holds one for each of its stages."""

    epochs: NonNegativeInt = 10
    """Passes over the images (or remembered features) of the stage; 0 leaves the stage out."""
    batch_size: PositiveInt = 48
    """Images per gradient step."""
    lr: PositiveFloat = 0.01
    """Learning rate at the start of the schedule, or after the warm-up."""
    optimiser: Literal["sgd", "adam", "adamw"] = "sgd"
    """SGD with momentum, Adam, or AdamW."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of SGD; the first beta of Adam and AdamW."""
    weight_decay: NonNegativeFloat = 5e-4
    """L2 (SGD, Adam) or decoupled (AdamW) weight decay."""
    schedule: Literal["cosine", "constant", "multistep"] = "cosine"
    """Learning rate over the stage's steps: to zero along a cosine, unchanged, or divided by ten at `milestones`."""
    milestones: tuple[float, ...] = ()
    """Where "multistep" divides the learning rate by ten, as shares of the stage's steps."""
    warmup: float = Field(default=0.0, ge=0, lt=1)
    """Share of the steps over which the learning rate rises from zero."""
    clip: PositiveFloat | None = None
    """Largest norm of the gradient; a longer one is shortened to it."""
    augment: Literal["rrc-flip", "flip", "none"] = "rrc-flip"
    """Random resized crop and mirroring, mirroring alone, or the evaluation transform, the same view every time."""
    crop_scale: PositiveFloat = 0.3
    """Smallest share of the image's area that a random crop keeps."""
    brightness: NonNegativeFloat = 0.0
    """Largest relative change of brightness in augmentation."""

    quick: ClassVar[Mapping[str, Any]] = {"epochs": 2, "batch_size": 16}


def augmentation(how: Fit) -> Augment:
    """The augmentation that a record asks for."""
    return Augment(kind=how.augment, scale=(min(how.crop_scale, 1.0), 1.0), brightness=how.brightness)


def augmented(
    task: Task, backbone: Backbone, augment: Augment, batch_size: int, seed: int, *names: str | int
) -> Iterator[tuple[Float[Tensor, "image 3 size size"], Int64[Tensor, " image"]]]:
    """One shuffled, augmented pass as normalised pixels. `names` tell this pass from every other one of the run."""
    order, draws = rng.stream(seed, "shuffle", task.index, *names), rng.stream(seed, "augment", task.index, *names)
    for images, labels in task.batches(batch_size, shuffle=order):
        yield _seen_anew(images, backbone, augment, draws), labels


def views(
    images: UInt8[Tensor, "image 3 height width"], backbone: Backbone, how: Fit, draws: torch.Generator
) -> Float[Tensor, "image 3 size size"]:
    """Stored images under the augmentation of `how`, as normalised pixels."""
    return _seen_anew(images, backbone, augmentation(how), draws)


def _seen_anew(images: Tensor, backbone: Backbone, augment: Augment, draws: torch.Generator) -> Tensor:
    if augment.constant:
        return backbone.pixels(images)
    pre = backbone.preprocessing
    drawn = augment.draw(draws, len(images), images.shape[2], images.shape[3], pre.crop_fraction)
    return normalise(augment.apply(images, drawn, pre.size, pre.interpolation), pre.mean, pre.std)


def fit(
    task: Task,
    backbone: Backbone,
    parameters: Iterable[nn.Parameter] | Iterable[dict],
    loss: Loss,
    how: Fit,
    *,
    seed: int,
    stage: str,
    before_step: Callable[[], None] = no_step,
    divided: bool = True,
) -> Iterator[Progress]:
    """Minimise `loss(pixels, labels)` over augmented batches of `task`, one step per yield.

    `parameters` are tensors or optimiser groups ({"params": [...], "lr": ...}). They require grad only inside.
    `divided` as for `descend`.

    Raises:
        InvalidRequestError: the loss is not finite any more, or has exploded.
    """
    augment = augmentation(how)

    def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        return augmented(task, backbone, augment, how.batch_size, seed, stage, epoch)

    return descend(
        batches,
        math.ceil(len(task) / how.batch_size),
        parameters,
        loss,
        how,
        stage=stage,
        total=how.epochs * len(task),
        under=lambda: attention_for(backbone),
        before_step=before_step,
        divided=divided,
    )


def descend(
    batches: Callable[[int], Iterable[tuple[Tensor, Tensor]]],
    steps_per_epoch: int,
    parameters: Iterable[nn.Parameter] | Iterable[dict],
    loss: Callable[[Tensor, Tensor], Float[Tensor, ""]],
    how: Fit,
    *,
    stage: str,
    total: int,
    under: Callable[[], AbstractContextManager[object]] = nullcontext,
    before_step: Callable[[], None] = no_step,
    divided: bool = True,
) -> Iterator[Progress]:
    """Gradient descent on `loss(x, labels)` over `batches(epoch)`: images, or features that were computed before.

    `before_step` sees the gradients of a step before the optimiser does: gradient projection (InfLoRA, CoSO, GPM)
    changes them there. Parameters require grad only inside.

    Where the run has several processes, each takes its share of a batch and gradients are averaged: what one process
    would do if the loss is a mean over images. A loss that keeps something of the images it sees says `divided=False`,
    and every process takes the whole batch.

    Raises:
        InvalidRequestError: the loss is not finite any more, or has exploded.
    """
    groups = [g if isinstance(g, dict) else {"params": [g]} for g in parameters]
    groups = [{**g, "params": list(g["params"])} for g in groups]
    trained = [p for g in groups for p in g["params"]]
    steps = how.epochs * steps_per_epoch
    if not steps:
        return
    optimiser = _optimiser(groups, how)
    schedule = _schedule(optimiser, how, steps)
    highest = max(g["lr"] for g in optimiser.param_groups)
    done, step, started = 0, 0, time.perf_counter()
    value: float | None = None
    first: float | None = None
    _require_grad(trained, True)
    try:
        for epoch in range(how.epochs):
            for x, labels in batches(epoch):
                if schedule is not None:
                    schedule.step_update(step)
                own = processes.mine(len(labels)) if divided else slice(None)
                with torch.enable_grad(), under():
                    current = loss(x[own], labels[own])
                    optimiser.zero_grad(set_to_none=True)
                    current.backward()
                if divided:
                    processes.average_gradients(trained, processes.share(len(labels)))
                if how.clip is not None:
                    nn.utils.clip_grad_norm_(trained, how.clip)
                before_step()
                optimiser.step()
                step, done = step + 1, done + len(labels)
                if step % LOSS_EVERY == 1 or step == steps:
                    whole = processes.mean(current.detach(), processes.share(len(labels))) if divided else current
                    value = _tame(float(whole.detach()), first, stage, epoch, highest)
                    first = value if first is None else first
                speed = done / (time.perf_counter() - started)
                yield Progress(stage, done, total, epoch, how.epochs, step, value, speed)
    finally:
        _require_grad(trained, False)


Labelled = tuple[Float[Tensor, "image feature"], Int64[Tensor, " image"]]
Listed = tuple[Shaped[Tensor, "image ..."], Int64[Tensor, " image"]]  # features, or what a loss looks them up by


def shuffled(taken: Listed, batch: int, draws: torch.Generator) -> Iterator[Listed]:
    """Features in batches, each once, in an order drawn from `draws`."""
    features, labels = taken
    for chosen in torch.randperm(len(labels), generator=draws).to(features.device, non_blocking=True).split(batch):
        yield features[chosen], labels[chosen]


def attention_for(backbone: Backbone) -> AbstractContextManager[object]:
    """The attention kernel that trains fastest.

    On CPUs in bf16 the fused kernel's backward pass is nearly half of a step of a small ViT: there plain matrix
    products are faster (benchmarks/fitting.py --compare-attention).
    """
    if backbone.device.type == "cpu" and backbone.precision == "bf16":
        return sdpa_kernel(SDPBackend.MATH)
    return nullcontext()


def sweep(
    batches: Iterable[tuple[Tensor, Int64[Tensor, " image"]]],
    visit: Callable[[Tensor, Int64[Tensor, " image"]], None],
    total: int,
    stage: str,
) -> Iterator[Progress]:
    """Visit batches without gradient, one per yield: statistics, closed forms, measurements."""
    done, started = 0, time.perf_counter()
    for step, (images, labels) in enumerate(batches, start=1):
        with torch.no_grad():
            visit(images, labels)
        done += len(labels)
        yield Progress(stage, done, total, step=step, images_per_second=done / (time.perf_counter() - started))


def _optimiser(groups: list[dict], how: Fit) -> torch.optim.Optimizer:
    """The optimiser that `how` names. timm calls SGD without Nesterov's step "momentum"."""
    from timm.optim import create_optimizer_v2  # noqa: PLC0415  # type: ignore[attr-defined] - loads torch's compiler

    if how.optimiser == "sgd":
        return create_optimizer_v2(groups, "momentum", how.lr, how.weight_decay, how.momentum)
    betas = (how.momentum, 0.999)
    return create_optimizer_v2(groups, how.optimiser, how.lr, how.weight_decay, betas=betas)


def _schedule(optimiser: torch.optim.Optimizer, how: Fit, steps: int) -> Any:  # a Scheduler of timm, or None
    """The schedule that `how` names, counted in steps."""
    if how.schedule == "constant" and not how.warmup:
        return None
    far = steps if how.schedule == "cosine" else 10**9
    from timm.scheduler import create_scheduler_v2  # noqa: PLC0415  # type: ignore[attr-defined]

    names = {"cosine": "cosine", "multistep": "multistep", "constant": "step"}
    schedule, _ = create_scheduler_v2(
        optimiser,
        names[how.schedule],
        num_epochs=steps,
        decay_epochs=far,
        decay_milestones=[round(share * steps) + 1 for share in how.milestones],
        decay_rate=0.1,
        warmup_lr=0.0,
        warmup_epochs=round(how.warmup * steps),
        step_on_epochs=False,
        updates_per_epoch=1,
    )
    return schedule


def _require_grad(parameters: list[nn.Parameter], wanted: bool) -> None:
    for parameter in parameters:
        parameter.requires_grad_(wanted)
        parameter.grad = None


def _tame(value: float, first: float | None, stage: str, epoch: int, lr: float) -> float:
    """Refuse to go on from a loss that is not finite, or that has exploded since `first`."""
    if not math.isfinite(value):
        raise InvalidRequestError(f"The loss of stage {stage!r} is {value} in epoch {epoch}: lower lr (now {lr:g}).")
    if first is not None and abs(value) > EXPLODED * max(abs(first), 1.0):
        raise InvalidRequestError(
            f"The loss of stage {stage!r} went from {first:.3g} to {value:.3g} by epoch {epoch}: lower lr (now {lr:g})."
        )
    return value
