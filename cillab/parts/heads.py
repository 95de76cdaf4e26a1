"""Heads that grow when classes arrive, and the fixed random features that some of them read."""

from typing import Any, Literal, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from cillab.core.contract import Part, State
from cillab.core.errors import DataError, NotObservedError


def columns_of(labels: Int64[Tensor, " image"], classes: tuple[int, ...]) -> Int64[Tensor, " image"]:
    """Positions of label ids in `classes`: what cross-entropy and one-hot targets are written in.

    Raises:
        DataError: a label that is not among `classes`.
    """
    ids = torch.tensor(classes, device=labels.device, dtype=torch.int64)
    order = ids.argsort()
    place = torch.searchsorted(ids[order], labels).clamp(max=max(len(classes) - 1, 0))
    if len(labels) and (not len(classes) or not torch.equal(ids[order][place], labels)):
        raise DataError(f"A label is not among the {len(classes)} classes of this head.")
    return order[place]


def with_new(classes: tuple[int, ...], arriving: tuple[int, ...]) -> tuple[int, ...]:
    """`classes` followed by those of `arriving` that are not yet there, in order of first appearance."""
    return tuple(dict.fromkeys((*classes, *arriving)))


@final
class LinearHead(nn.Module, Part):
    """logits = h W^T + b, with one row for each class seen so far. New rows start at zero or small and random.

    Zero rows give a new class the same logit for every image: the first step of training decides, and nothing random
    is needed. `init="normal"` draws rows with standard deviation 0.02 from the generator that the caller gives.
    """

    def __init__(self, dim: int, *, bias: bool = True) -> None:
        super().__init__()
        self.classes: tuple[int, ...] = ()
        self.weight = nn.Parameter(torch.zeros(0, dim), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(0), requires_grad=False) if bias else None

    def grow(self, arriving: tuple[int, ...], rng: torch.Generator | None = None) -> None:
        """Add a row for every class in `arriving` that has none."""
        classes = with_new(self.classes, arriving)
        fresh = torch.zeros(len(classes) - len(self.classes), self.weight.shape[1])
        if rng is not None:
            fresh.normal_(std=0.02, generator=rng)
        self.weight = nn.Parameter(torch.cat([self.weight.detach(), fresh.to(self.weight)]), requires_grad=False)
        if self.bias is not None:
            grown = torch.cat([self.bias.detach(), self.bias.new_zeros(len(fresh))])
            self.bias = nn.Parameter(grown, requires_grad=False)
        self.classes = classes

    def forward(self, features: Float[Tensor, "image feature"]) -> Float[Tensor, "image cls"]:
        """One logit per class, in the order of `classes`."""
        return F.linear(features, self.weight, self.bias)

    def state(self) -> State:
        """Rows, biases and the class ids they belong to."""
        tensors = {"weight": self.weight} | ({"bias": self.bias} if self.bias is not None else {})
        return State(tensors, {"classes": list(self.classes)})

    def load(self, state: State) -> None:
        """Take over rows and classes."""
        self.classes = tuple(state.meta["classes"])
        self.weight = nn.Parameter(state.tensors["weight"].clone().to(self.weight.device), requires_grad=False)
        if self.bias is not None:
            self.bias = nn.Parameter(state.tensors["bias"].clone().to(self.weight.device), requires_grad=False)


@final
class RidgeHead(Part):
    """The least-squares classifier with a ridge, in closed form.

        G = Phi^T Phi,    Q = Phi^T Y,    W = (G + gamma I)^{-1} Q                                     (1)

    over all images ever added, Y one-hot. G and Q are sums over images, so the result is the joint solution whatever
    the order, the batches and the tasks: the recursive form of ACIL (Zhuang et al., NeurIPS 2022, arXiv:2205.14922)
    without its inverse per batch. Adding the same images p times equals one joint ridge with gamma / p. Sums and the
    one Cholesky factorisation are float64. Keeps D^2 + D K numbers for learning and D K for classifying.
    """

    def __init__(self, dim: int, gamma: float, device: torch.device | None = None) -> None:
        self.gamma = gamma
        self.classes: tuple[int, ...] = ()
        self.gram = torch.zeros(dim, dim, dtype=torch.float64, device=device)
        self.cross = torch.zeros(dim, 0, dtype=torch.float64, device=device)
        self.weight = torch.zeros(dim, 0, device=device)

    def grow(self, arriving: tuple[int, ...]) -> None:
        """Zero columns for classes that have none: until the next `solve` they get the logit 0."""
        classes = with_new(self.classes, arriving)
        missing = len(classes) - len(self.classes)
        self.cross = F.pad(self.cross, (0, missing))
        self.weight = F.pad(self.weight, (0, missing))
        self.classes = classes

    def add(self, features: Float[Tensor, "image feature"], labels: Int64[Tensor, " image"]) -> None:
        """Add images to the sums of (1); call `solve` when all are in."""
        columns = columns_of(labels, self.classes)
        phi = features.to(self.gram)
        self.gram = torch.addmm(self.gram, phi.T, phi)
        self.cross = self.cross.index_add(1, columns, phi.T.contiguous())

    def solve(self) -> None:
        """W of equation (1).

        Raises:
            DataError: the features were not finite, so that G has no factorisation.
        """
        ridge = self.gram + self.gamma * torch.eye(len(self.gram), dtype=torch.float64, device=self.gram.device)
        factor, failed = torch.linalg.cholesky_ex(ridge)
        if int(failed):
            raise DataError("The ridge system has no Cholesky factor: features are not finite, or gamma is too small.")
        self.weight = torch.cholesky_solve(self.cross, factor).to(self.weight.dtype)

    def __call__(self, features: Float[Tensor, "image feature"]) -> Float[Tensor, "image cls"]:
        """Phi W, one column per class."""
        return features @ self.weight

    def state(self) -> State:
        """W for classifying; G and Q for learning on."""
        tensors = {"weight": self.weight, "gram": self.gram, "cross": self.cross}
        meta = {"classes": list(self.classes), "gamma": self.gamma}
        return State(tensors, meta, frozenset({"gram", "cross"}))

    def load(self, state: State) -> None:
        """Take over the solution and, where the state has them, the sums."""
        device = self.weight.device
        self.classes, self.gamma = tuple(state.meta["classes"]), state.meta["gamma"]
        self.weight = state.tensors["weight"].clone().to(device)
        if "gram" in state.tensors:
            self.gram = state.tensors["gram"].clone().to(device)
            self.cross = state.tensors["cross"].clone().to(device)


@final
class RandomFeatures(Part):
    """phi(h) = relu(h R) with a fixed random R: more dimensions for a linear classifier to separate classes in.

    Random projection of RanPAC (McDonnell et al., NeurIPS 2023, arXiv:2307.02251) and of MiN. `init` draws R from
    N(0, 1) or from U(-1/sqrt(n), 1/sqrt(n)) with n = number of columns.
    """

    def __init__(
        self, dim: int, expansion: int, init: Literal["normal", "uniform"], rng: torch.Generator, device: torch.device
    ) -> None:
        drawn = torch.empty(dim, expansion)
        if init == "normal":
            drawn.normal_(generator=rng)
        else:
            drawn.uniform_(-(expansion**-0.5), expansion**-0.5, generator=rng)
        self.matrix = drawn.to(device)

    def __call__(self, features: Float[Tensor, "image feature"]) -> Float[Tensor, "image expansion"]:
        """relu(h R)."""
        return F.relu(features @ self.matrix)

    def state(self) -> State:
        """R itself, so that a checkpoint depends on no generator's version."""
        return State({"matrix": self.matrix})

    def load(self, state: State) -> None:
        """Take over R."""
        self.matrix = state.tensors["matrix"].clone().to(self.matrix.device)


@final
class ClassMeans(Part):
    """Count and mean feature per class, over all images ever added: mergeable, float64, order-free."""

    def __init__(self, dim: int, device: torch.device | None = None) -> None:
        self.classes: tuple[int, ...] = ()
        self.counts = torch.zeros(0, dtype=torch.int64, device=device)
        self.sums = torch.zeros(0, dim, dtype=torch.float64, device=device)

    def add(self, features: Float[Tensor, "image feature"], labels: Int64[Tensor, " image"]) -> None:
        """Add images of any classes, new ones included."""
        self.classes = with_new(self.classes, tuple(labels.tolist()))
        missing = len(self.classes) - len(self.counts)
        columns = columns_of(labels, self.classes)
        self.counts = F.pad(self.counts, (0, missing)).index_add(0, columns, torch.ones_like(columns))
        self.sums = F.pad(self.sums, (0, 0, 0, missing)).index_add(0, columns, features.to(self.sums))

    def means(self, like: Float[Tensor, "..."] | None = None) -> Float[Tensor, "cls feature"]:
        """One mean per class in the order of `classes`, in the dtype and on the device of `like` if given.

        Raises:
            NotObservedError: no image was added yet.
        """
        if not self.classes:
            raise NotObservedError("No class has been seen yet: exhaust observe(task) first.")
        means = self.sums / self.counts.unsqueeze(1)
        return means if like is None else means.to(like)

    def state(self) -> State:
        """Counts, sums and class ids."""
        return State({"counts": self.counts, "sums": self.sums}, {"classes": list(self.classes)})

    def load(self, state: State) -> None:
        """Take over counts and sums."""
        device, meta = self.sums.device, state.meta
        self.classes = tuple(meta["classes"])
        self.counts = state.tensors["counts"].clone().to(device)
        self.sums = state.tensors["sums"].clone().to(device)


@final
class Table(Part):
    """A growing list of tensors of one shape with plain JSON beside it: prototypes of tasks, measured ratios."""

    def __init__(self, device: torch.device | None = None) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.meta: dict[str, Any] = {}
        self.device = device

    def state(self) -> State:
        """Everything as it is."""
        return State(dict(self.tensors), dict(self.meta))

    def load(self, state: State) -> None:
        """Take over everything."""
        self.tensors = {name: tensor.clone().to(self.device) for name, tensor in state.tensors.items()}
        self.meta = dict(state.meta)
