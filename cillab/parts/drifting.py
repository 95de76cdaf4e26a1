"""One adapter learns all tasks, and remembered means move along with the features: SSIAT and what is built on it."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from cillab.core.contract import Progress, Task
from cillab.core.params import HyperParams
from cillab.parts.adapting import adapters
from cillab.parts.fitting import Fit
from cillab.parts.gaussian_memory import GaussianMemory
from cillab.parts.heads import Cosine, Table, columns_of
from cillab.parts.losses import cross_entropy
from cillab.parts.method import Method, gathered
from cillab.parts.stages import align_head


class DriftingParams(HyperParams):
    """An adapter that goes on learning, Gaussians that follow it, and a head that is aligned with them."""

    bottleneck: PositiveInt = 64
    """Width of the adapter."""
    scale: PositiveFloat = 20.0
    """s, factor on the cosines of the head."""
    margin: NonNegativeFloat = 0.0
    """m, taken off the cosine of the right class in training; 0.3 for ImageNet-A."""
    first: Fit = Fit(epochs=20, batch_size=48, lr=0.01)
    """Adapter and head on the first task."""
    fit: Fit = Fit(epochs=10, batch_size=48, lr=0.01)
    """Adapter and head on a later task."""
    sigma: PositiveFloat = 4.0
    """Width, in the units of raw features, within which images say how an old mean has moved."""
    shift: bool = True
    """Move the means of old classes after every task."""
    memory: Literal["full", "diagonal", "low-rank", "pooled"] = "full"
    """What is kept of a class's covariance."""
    align: Fit = Fit(epochs=5, batch_size=256, lr=0.01)
    """The head on features drawn from remembered Gaussians, after every task but the first."""
    each: PositiveInt = 256
    """Features drawn per class and epoch."""
    shrink: NonNegativeFloat = 0.1
    """How much shorter the means of the oldest classes are for that."""

    quick = {"bottleneck": 4, "each": 16}


P = TypeVar("P", bound=DriftingParams)


class Drifting(Method[P]):
    """A shared adapter, a cosine head, and Gaussians of old classes whose means follow the drift of the features.

        mu_c  <-  mu_c + sum_i a_ci (f_new(x_i) - f_old(x_i)),  a_ci ~ exp(-||f_old(x_i) - mu_c||^2 / 2 sigma^2)    (1)
        W     <-  SGD on CE(s cos(h, w)) over all classes,  h ~ N(mu_c (1 - b + b (t_c + 1)/(t + 1)), S_c)  [align] (2)

    How adapter and head learn a task is what a method adds. Source: SSIAT, Tan et al., CVPR 2024, arXiv:2403.19979.
    """

    def setup(self) -> None:
        """A silent adapter, no class."""
        p, dim, device = self.params, self.backbone.feature_dim, self.backbone.device
        self.worn = adapters(self, p.bottleneck, 0)
        self.classifier = Cosine(dim, scale=p.scale, device=device)
        self.memory = GaussianMemory(dim, p.memory, device)
        self.record = Table(device)  # the head before and after it was aligned

    def arrive(self, task: Task) -> None:
        """New rows are drawn."""
        self.classifier.grow(task.classes, self.draws("rows", task.index))

    @abstractmethod
    def adapt(self, task: Task) -> Iterator[Progress]:
        """Adapter and head on the images of `task`."""

    def learn(self, task: Task) -> Iterator[Progress]:
        """`adapt`, then the Gaussians, then the head on what is drawn from them."""
        p = self.params
        before = None
        if self.old and p.shift:
            before, _ = yield from gathered(self, task, stage="features before")
        yield from self.adapt(task)
        h, labels = yield from gathered(self, task, stage="statistics")
        if before is not None:
            self.memory.means = moved(self.memory.means, before, h, p.sigma)
        self.memory.add(h, labels)
        if self.old:
            home = dict(zip(self.roster.classes, self.roster.tasks, strict=True))
            age = torch.tensor([(home[c] + 1) / (task.index + 1) for c in self.memory.classes])
            drawn = self.memory.scaled(1 - p.shrink + p.shrink * age)
            self.record.tensors = yield from align_head(self, task, self.classifier, drawn, p.align, p.each)

    def likelihood(self, h: Tensor, labels: Tensor, task: Task) -> Tensor:
        """CE(s (cos(h, w) - m onehot)) over the classes of the task."""
        p = self.params
        own = F.one_hot(columns_of(labels, self.seen), len(self.seen))
        return cross_entropy(self.classifier(h) - p.scale * p.margin * own, labels, self.seen, task.classes, "local")

    @property
    def trained(self) -> list[nn.Parameter]:
        """Adapter and rows."""
        return [*self.worn.parameters(), self.classifier.weight]

    @property
    def how(self) -> Fit:
        """How steps are taken in this session."""
        return self.params.fit if self.old else self.params.first

    def internals(self):
        """The head before and after it was aligned."""
        return self.record.tensors


def moved(
    means: Float[Tensor, "cls feature"],
    before: Float[Tensor, "image feature"],
    after: Float[Tensor, "image feature"],
    sigma: float,
) -> Float[Tensor, "cls feature"]:
    """Equation (1): `before` and `after` are features of the same images, row by row."""
    distances = torch.cdist(means, before, compute_mode="donot_use_mm_for_euclid_dist")
    weights = (-distances.square() / (2 * sigma**2)).exp() + 1e-5
    return means + weights / weights.sum(dim=1, keepdim=True) @ (after - before)
