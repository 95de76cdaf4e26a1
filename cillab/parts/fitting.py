"""THE training loop: every method that takes gradient steps takes them here."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from jaxtyping import Float, Int64
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from cillab.core import rng
from cillab.core.contract import Backbone, Progress, Task
from cillab.core.errors import InvalidRequestError
from cillab.core.params import HyperParams
from cillab.core.pixels import normalise
from cillab.streams.loading import Augment

Loss = Callable[[Float[Tensor, "image 3 size size"], Int64[Tensor, " image"]], Float[Tensor, ""]]
LOSS_EVERY = 10  # steps between two readings of the loss: reading it makes a GPU wait


class FitParams(HyperParams):
    """How to take gradient steps. A method's own record extends this one and may change the defaults."""

    epochs: PositiveInt = 10
    """Passes over the task's images."""
    batch_size: PositiveInt = 48
    """Images per gradient step."""
    lr: PositiveFloat = 0.01
    """Learning rate at the start of the schedule."""
    optimiser: Literal["sgd", "adamw"] = "sgd"
    """SGD with momentum, or AdamW."""
    momentum: float = 0.9
    """Momentum of SGD; the first beta of AdamW."""
    weight_decay: NonNegativeFloat = 5e-4
    """L2 (SGD) or decoupled (AdamW) weight decay."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Learning rate over the task's steps: to zero along a cosine, or unchanged."""
    augment: Literal["rrc-flip", "flip", "none"] = "rrc-flip"
    """Random resized crop and mirroring, mirroring alone, or the evaluation crop."""
    crop_scale: PositiveFloat = 0.3
    """Smallest share of the image's area that a random crop keeps."""
    brightness: NonNegativeFloat = 0.0
    """Largest relative change of brightness in augmentation; MiN's code uses 63/255."""


def augmentation(how: FitParams) -> Augment:
    """The augmentation that a record asks for."""
    return Augment(kind=how.augment, scale=(min(how.crop_scale, 1.0), 1.0), brightness=how.brightness)


def augmented(
    task: Task, backbone: Backbone, augment: Augment, batch_size: int, seed: int, *names: str | int
) -> Iterator[tuple[Float[Tensor, "image 3 size size"], Int64[Tensor, " image"]]]:
    """One shuffled, augmented pass as normalised pixels. `names` tell this pass from every other one of the run."""
    order, draws = rng.stream(seed, "shuffle", task.index, *names), rng.stream(seed, "augment", task.index, *names)
    pre = backbone.preprocessing
    for images, labels in task.batches(batch_size, shuffle=order):
        drawn = augment.draw(draws, len(images), images.shape[2], images.shape[3], pre.crop_fraction)
        views = augment.apply(images, drawn, pre.size, pre.interpolation)
        yield normalise(views, pre.mean, pre.std), labels


def fit(
    task: Task,
    backbone: Backbone,
    parameters: Iterable[nn.Parameter] | Iterable[dict],
    loss: Loss,
    how: FitParams,
    *,
    seed: int,
    stage: str,
) -> Iterator[Progress]:
    """Minimise `loss(pixels, labels)` over augmented batches of `task`, one step per yield.

    `parameters` are tensors or optimiser groups ({"params": [...], "lr": ...}). They require grad only inside.

    Raises:
        InvalidRequestError: the loss is not finite any more.
    """
    augment = augmentation(how)

    def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        return augmented(task, backbone, augment, how.batch_size, seed, stage, epoch)

    steps = math.ceil(len(task) / how.batch_size)
    return descend(
        batches,
        steps,
        parameters,
        loss,
        how,
        stage=stage,
        total=how.epochs * len(task),
        under=lambda: attention_for(backbone),
    )


def descend(
    batches: Callable[[int], Iterable[tuple[Tensor, Tensor]]],
    steps_per_epoch: int,
    parameters: Iterable[nn.Parameter] | Iterable[dict],
    loss: Callable[[Tensor, Tensor], Float[Tensor, ""]],
    how: FitParams,
    *,
    stage: str,
    total: int,
    epochs: int | None = None,
    under: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Iterator[Progress]:
    """Gradient descent on `loss(x, labels)` over `batches(epoch)`: images, or features that were computed before.

    `epochs` replaces `how.epochs` where a stage has its own number. Parameters require grad only inside.

    Raises:
        InvalidRequestError: the loss is not finite any more.
    """
    groups = [g if isinstance(g, dict) else {"params": [g]} for g in parameters]
    groups = [{**g, "params": list(g["params"])} for g in groups]
    trained = [p for g in groups for p in g["params"]]
    optimiser = _optimiser(groups, how)
    rates = [g["lr"] for g in optimiser.param_groups]
    epochs = how.epochs if epochs is None else epochs
    steps = epochs * steps_per_epoch
    done, step, started, value = 0, 0, time.perf_counter(), None
    _require_grad(trained, True)
    try:
        for epoch in range(epochs):
            for x, labels in batches(epoch):
                factor = 0.5 * (1 + math.cos(math.pi * step / steps)) if how.schedule == "cosine" else 1.0
                for group, rate in zip(optimiser.param_groups, rates, strict=True):
                    group["lr"] = rate * factor
                with torch.enable_grad(), under():
                    current = loss(x, labels)
                    optimiser.zero_grad(set_to_none=True)
                    current.backward()
                optimiser.step()
                step, done = step + 1, done + len(labels)
                if step % LOSS_EVERY == 1 or step == steps:
                    value = _finite(float(current.detach()), stage, epoch, max(rates))
                speed = done / (time.perf_counter() - started)
                yield Progress(stage, done, total, epoch, epochs, step, value, speed)
    finally:
        _require_grad(trained, False)


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


def _optimiser(groups: list[dict], how: FitParams) -> torch.optim.Optimizer:
    """The optimiser that `how` names."""
    if how.optimiser == "adamw":
        return torch.optim.AdamW(groups, how.lr, betas=(how.momentum, 0.999), weight_decay=how.weight_decay)
    return torch.optim.SGD(groups, how.lr, momentum=how.momentum, weight_decay=how.weight_decay)


def _require_grad(parameters: list[nn.Parameter], wanted: bool) -> None:
    for parameter in parameters:
        parameter.requires_grad_(wanted)
        parameter.grad = None


def _finite(value: float, stage: str, epoch: int, lr: float) -> float:
    if not math.isfinite(value):
        raise InvalidRequestError(f"The loss of stage {stage!r} is {value} in epoch {epoch}: lower lr (now {lr}).")
    return value
