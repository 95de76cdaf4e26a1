"""Stages that many methods have: a first session, the alignment of a head, the choice of images to keep."""

import math
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from cillab.core.contract import Delta, Progress, Task
from cillab.parts.exemplars import Exemplars, herded
from cillab.parts.fitting import Fit, Listed, attention_for, descend, shuffled
from cillab.parts.gaussian_memory import GaussianMemory
from cillab.parts.heads import Cosine, Linear, columns_of
from cillab.parts.losses import cross_entropy
from cillab.parts.method import Loss, Method, fit, gathered

_POOL = 1 << 25  # numbers of drawn features that are held at once: 128 MB


def first_session(
    learner: Method[Any],
    task: Task,
    trained: Iterable[nn.Parameter],
    how: Fit,
    *,
    head: Literal["cosine", "linear"] = "cosine",
    under: Delta | None = None,
    stage: str = "first session",
) -> Iterator[Progress]:
    """Adapt `trained` to the classes of `task` under a head of its own, which is thrown away.

    The cosine head has a scale that is learnt from 1, so its training accuracy says little: what is wanted are the
    features. Source: APER, Zhou et al., IJCV 2024, arXiv:2303.07338 (cosine); FSA, Panos et al., ICCV 2023,
    arXiv:2303.13199 (linear).
    """
    dim, device = learner.backbone.feature_dim, learner.backbone.device
    own = Cosine(dim, device=device) if head == "cosine" else Linear(dim, device=device)
    own.grow(task.classes, learner.draws("head of the first session", task.index))

    def loss(h: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(own(h), labels, own.classes, own.classes)

    yield from fit(learner, task, [*trained, *own.parameters()], loss, how, stage=stage, under=under)


def fit_features(
    learner: Method[Any],
    task: Task,
    taken: Listed,
    trained: Iterable[nn.Parameter],
    loss: Loss,
    how: Fit,
    *,
    stage: str,
    order: str = "order",
    replay: tuple[GaussianMemory, int, tuple[int, ...]] | None = None,
    divided: bool = True,
) -> Iterator[Progress]:
    """Minimise `loss(h, labels)` over features that were made before, or rows of them, shuffled anew in every epoch.

    `order` names the draws of the learner for an epoch. With `replay`, so many features of each of these classes are
    drawn first, anew in every epoch, and shuffled in among the others. `divided` as for `fitting.descend`.
    """
    memory, each, old = replay or (None, 0, ())
    total = len(taken[1]) + each * len(old)

    def batches(epoch: int) -> Iterator[Listed]:
        draws = learner.draws(order, task.index, epoch)
        sides = [taken, *([memory.sample(each, draws, old)] if memory is not None and old else [])]
        h, labels = (torch.cat(some) for some in zip(*sides, strict=True))
        return shuffled((h, labels), how.batch_size, draws)

    yield from descend(
        batches, math.ceil(total / how.batch_size), trained, loss, how, stage=stage, total=how.epochs * total,
        under=lambda: attention_for(learner.backbone), divided=divided,
    )  # fmt: skip


AlignLoss = Callable[[Float[Tensor, "drawn feature"], Int64[Tensor, " drawn"]], Float[Tensor, ""]]


def align(
    trained: Iterable[nn.Parameter],
    classes: tuple[int, ...],
    memory: GaussianMemory,
    loss: AlignLoss,
    how: Fit,
    each: int,
    draws: torch.Generator,
    *,
    floor: float = 1e-4,
    stage: str = "align",
) -> Iterator[Progress]:
    """Train a head on features drawn from remembered Gaussians, as many of every class, fresh ones in every epoch.

    `loss(h, columns)` gets drawn features and the positions of their classes in `classes`. `each` features a class and
    epoch come shuffled; where that many do not fit into 128 MB, in rounds of fewer, every class in each. Source:
    classifier alignment of SLCA, Zhang et al., ICCV 2023, arXiv:2303.05118.
    """
    numbers = each * len(classes) * memory.means.shape[1]
    rounds = min(each, math.ceil(numbers / _POOL))
    sizes = [each // rounds + (i < each % rounds) for i in range(rounds)]

    def batches(_epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        for size in sizes:
            h, labels = memory.sample(size, draws, classes, floor)
            columns = columns_of(labels, classes)
            for chosen in torch.randperm(len(h), generator=draws).to(h.device, non_blocking=True).split(how.batch_size):
                yield h[chosen], columns[chosen]

    steps = sum(math.ceil(size * len(classes) / how.batch_size) for size in sizes)
    total = how.epochs * each * len(classes)
    yield from descend(batches, steps, trained, loss, how, stage=stage, total=total)


def align_head(
    learner: Method[Any], task: Task, head: Linear | Cosine, memory: GaussianMemory, how: Fit, each: int
) -> Generator[Progress, None, dict[str, Tensor]]:
    """`align` a head by cross-entropy over all classes seen; returns its rows before and after it, for `internals`."""
    before = head.weight.detach().clone()

    def loss(h: Tensor, columns: Tensor) -> Tensor:
        return F.cross_entropy(head(h), columns)

    trained = [p for name, p in head.named_parameters() if name != "scale"]
    yield from align(trained, learner.seen, memory, loss, how, each, learner.draws("align", task.index))
    return {"align/before": before, "align/after": head.weight.detach().clone()}


def keep_exemplars(learner: Method[Any], stored: Exemplars, task: Task, each: int) -> Iterator[Progress]:
    """Herd `each` images of every class of `task` on unit features, and cut the lists of all classes to that length.

    A class that returns is chosen anew, from what is stored of it and what came. Source: iCaRL, Rebuffi et al., CVPR
    2017, arXiv:1611.07725, algorithm 4.
    """
    device = learner.backbone.device
    for label in task.classes:
        old = stored.without(label)
        new = torch.cat([x[y == label] for x, y in task.batches(256)])
        images = torch.cat([old, new]) if len(old) else new
        pool = Exemplars(device)
        pool.add(images, torch.full((len(images),), label, device=images.device))
        h, _ = yield from gathered(learner, pool.task(task.index, task.class_names), stage="herding")
        chosen = herded(F.normalize(h, dim=-1), each)
        stored.add(pool.images[chosen], pool.labels[chosen])
    stored.cut(each)
