"""Heads that grow when classes arrive. Those in closed form over all pairs of features: `least_squares`."""

from typing import Any, Literal, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from cillab.core.arrays import double, sent
from cillab.core.contract import Head, Part, State
from cillab.core.devices import doubles_on
from cillab.core.errors import DataError, NotObservedError
from cillab.parts.module import Classifier, empty


def columns_of(labels: Int64[Tensor, " image"], classes: tuple[int, ...]) -> Int64[Tensor, " image"]:
    """Positions of label ids in `classes`: what cross-entropy and one-hot targets are written in.

    On a GPU a wrong label is an assertion of the device: asking here would stop its queue at every training step.

    Raises:
        DataError: a label that is not among `classes`.
    """
    ids = sent(classes, labels.device, torch.int64)
    order = ids.argsort()
    place = torch.searchsorted(ids[order], labels).clamp(max=max(len(classes) - 1, 0))
    wrong = DataError(f"A label is not among the {len(classes)} classes of this head.")
    if not len(labels):
        return order[place]
    if not len(classes):
        raise wrong
    if labels.device.type == "cuda":
        torch._assert_async((ids[order][place] == labels).all())  # pyright: ignore[reportPrivateImportUsage]
    elif not torch.equal(ids[order][place], labels):
        raise wrong
    return order[place]


def with_new(classes: tuple[int, ...], arriving: tuple[int, ...]) -> tuple[int, ...]:
    """`classes` followed by those of `arriving` that are not yet there, in order of first appearance."""
    return tuple(dict.fromkeys((*classes, *arriving)))


@final
class Linear(Classifier):
    """logits = h W^T + b, with one row for each class seen so far. New rows start at zero or small and random.

    Zero rows give a new class the same logit for every image: the first step of training decides, and nothing random
    is needed. With a generator, rows are drawn with standard deviation 0.02.
    """

    def __init__(self, dim: int, *, bias: bool = True, device: torch.device | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(empty(0, dim, device=device), requires_grad=False)
        self.bias = nn.Parameter(empty(0, device=device), requires_grad=False) if bias else None

    def grow(self, arriving: tuple[int, ...], rng: torch.Generator | None = None) -> None:
        """A row for every class in `arriving` that has none."""
        classes = with_new(self.classes, arriving)
        fresh = torch.zeros(len(classes) - len(self.classes), self.weight.shape[1])
        if rng is not None:
            fresh.normal_(std=0.02, generator=rng)
        self.put("weight", torch.cat([self.weight.detach(), fresh.to(self.weight)]))
        if self.bias is not None:
            self.put("bias", torch.cat([self.bias.detach(), self.bias.new_zeros(len(fresh))]))
        self.classes = classes

    def forward(self, features: Float[Tensor, "image feature"]) -> Float[Tensor, "image cls"]:
        """One logit per class, in the order of `classes`."""
        return F.linear(features, self.weight, self.bias)

    def rows(self) -> Head:
        """W and b."""
        return Head(self.weight.detach(), None if self.bias is None else self.bias.detach())


def undecayed(head: Classifier) -> dict[str, Any]:
    """The parameters of a head as an optimiser group without weight decay.

    Where the classes of a task compete among themselves, rows of older classes have no gradient, but weight decay would
    shrink them in every task: the older a class, the smaller its logits.
    """
    return {"params": [*head.parameters()], "weight_decay": 0.0}


@final
class Cosine(Classifier):
    """logits = s cos(h, w_c), with a learnt scale s and one learnt direction per class.

    New rows are drawn uniformly in +-1/sqrt(dim), s starts at 1: as in the cosine heads of LUCIR (Hou et al., CVPR
    2019) and of APER (Zhou et al., IJCV 2024, arXiv:2303.07338).
    """

    def __init__(self, dim: int, *, scale: float = 1.0, device: torch.device | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(empty(0, dim, device=device), requires_grad=False)
        self.scale = nn.Parameter(torch.full((1,), scale, device=device), requires_grad=False)

    def grow(self, arriving: tuple[int, ...], rng: torch.Generator | None = None) -> None:
        """A row for every class in `arriving` that has none.

        Raises:
            ValueError: new rows and no generator to draw them from: a cosine with a row of zeros has no gradient.
        """
        classes = with_new(self.classes, arriving)
        missing, dim = len(classes) - len(self.classes), self.weight.shape[1]
        if missing and rng is None:
            raise ValueError("Rows of a cosine head are drawn: give a generator.")
        fresh = torch.empty(missing, dim).uniform_(-(dim**-0.5), dim**-0.5, generator=rng)
        self.put("weight", torch.cat([self.weight.detach(), fresh.to(self.weight)]))
        self.classes = classes

    def forward(self, features: Float[Tensor, "image feature"]) -> Float[Tensor, "image cls"]:
        """Scaled cosines, in [-s, s]."""
        return self.scale * F.normalize(features, dim=-1) @ F.normalize(self.weight, dim=-1).T

    def rows(self) -> Head:
        """The directions; features are compared with them by angle."""
        return Head(self.weight.detach(), None)


class Prototypes(Classifier):
    """Count and mean feature per class, over all images ever added: mergeable, float64, order-free.

        mu_c = (1 / n_c) sum of h over the images of class c,     logit_c = cos(h, mu_c)  or  -||h - mu_c||^2

    Source: Mensink et al., TPAMI 35(11) 2013. Keeps one float64 vector and a count per class.
    """

    counts: Tensor
    sums: Tensor

    def __init__(
        self,
        dim: int,
        device: torch.device | None = None,
        *,
        similarity: Literal["cosine", "euclidean"] = "cosine",
    ) -> None:
        super().__init__()
        self.similarity = similarity
        self.register_buffer("counts", empty(0, device=device, dtype=torch.int64))
        self.register_buffer("sums", empty(0, dim, device=device, dtype=torch.float64))

    def grow(self, arriving: tuple[int, ...]) -> None:
        """A mean of no images for every class in `arriving` that has none."""
        self.classes = with_new(self.classes, arriving)
        missing = len(self.classes) - len(self.counts)
        self.counts = F.pad(self.counts, (0, missing))
        self.sums = F.pad(self.sums, (0, 0, 0, missing))

    def add(self, features: Float[Tensor, "image feature"], labels: Int64[Tensor, " image"]) -> None:
        """Add images of any classes, new ones included."""
        self.grow(tuple(labels.tolist()))
        columns = columns_of(labels, self.classes)
        self.counts = self.counts.index_add(0, columns, torch.ones_like(columns))
        self.sums = self.sums.index_add(0, columns.to(self.sums.device), double(features).to(self.sums.device))

    def means(self, like: Float[Tensor, "..."] | None = None) -> Float[Tensor, "cls feature"]:
        """One mean per class in the order of `classes`, in the dtype and on the device of `like` if given.

        Raises:
            NotObservedError: no image was added yet.
        """
        if not self.classes:
            raise NotObservedError("No class has been seen yet: exhaust observe(task) first.")
        means = self.sums / self.counts.to(self.sums.device).unsqueeze(1)
        return means if like is None else means.to(like)

    def forward(self, features: Float[Tensor, "image feature"]) -> Float[Tensor, "image cls"]:
        """Cosines in [-1, 1], or negative squared distances: similarities, not calibrated log-probabilities."""
        mu = self.means(like=features)
        if self.similarity == "cosine":
            return F.normalize(features, dim=-1) @ F.normalize(mu, dim=-1).T
        # the matrix-product shortcut of cdist cancels badly for h close to mu
        return -torch.cdist(features, mu, compute_mode="donot_use_mm_for_euclid_dist").square()

    def rows(self) -> Head:
        """The means themselves."""
        return Head((self.means() if self.classes else self.sums).float().to(self.counts.device), None)


@final
class Averaged:
    """log of (softmax(z) + weight softmax(z')) / (1 + weight), z and z' the logits of two heads of the same classes.

    No part: the heads belong to the learner.
    """

    def __init__(self, first: Classifier, second: Classifier, weight: float) -> None:
        self.first, self.second, self.weight = first, second, weight

    def __call__(self, features: Float[Tensor, "image feature"]) -> Float[Tensor, "image cls"]:
        """Logarithms of the averaged posteriors."""
        p = self.first(features).softmax(dim=1)
        if self.weight:
            p = (p + self.weight * self.second(features).softmax(dim=1)) / (1 + self.weight)
        return p.clamp(min=torch.finfo(p.dtype).tiny).log()


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
        self.tensors = {
            name: tensor.clone().to(doubles_on(self.device) if tensor.dtype == torch.float64 else self.device)
            for name, tensor in state.tensors.items()
        }
        self.meta = dict(state.meta)
