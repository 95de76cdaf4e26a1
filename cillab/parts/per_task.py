"""Classifiers over one feature per task: every class has a home, the task whose feature was made for it."""

from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from cillab.core.arrays import double
from cillab.core.contract import Head, State
from cillab.parts.heads import Linear, Prototypes, with_new
from cillab.parts.module import Classifier, empty

_ETA = 0.1  # temperature of the products with anchors


@final
class Subspaces(Classifier):
    """Prototypes of a class in the features of every task, measured or put together; reads [h_1, ..., h_T].

        P_c^j = mean of h_j over class c                        for j <= t_c                                    (1)
        P_c^j = sum_n softmax_n(cos(P_c^i, P_n^i)) P_n^j        for j >  t_c,  i = t_c,  n of tasks >= j        (2)
        logit_c = cos(h_i, P_c^i) + alpha / (T - 1) sum over j != i of cos(h_j, P_c^j)                          (3)

    Source: EASE, Zhou et al., CVPR 2024, arXiv:2403.12030.
    """

    plain = ("classes", "home")
    sums: Tensor
    counts: Tensor

    def __init__(self, dim: int, alpha: float, device: torch.device | None = None) -> None:
        super().__init__()
        self.dim, self.alpha = dim, alpha
        self.home: tuple[int, ...] = ()  # t_c, the first task that brought the class
        self.register_buffer("sums", empty(0, 0, dim, device=device, dtype=torch.float64))
        self.register_buffer("counts", empty(0, 0, device=device, dtype=torch.int64))
        self._of = self._table = empty(0)

    def grow(self, arriving: tuple[int, ...]) -> None:
        """A row for every new class; its home is the task whose adapter comes next."""
        before = len(self.classes)
        self.classes = with_new(self.classes, arriving)
        fresh = len(self.classes) - before
        self.home += (self.counts.shape[1],) * fresh
        self.sums, self.counts = F.pad(self.sums, (0, 0, 0, 0, 0, fresh)), F.pad(self.counts, (0, 0, 0, fresh))

    def take(self, h: Float[Tensor, "image wide"], labels: Int64[Tensor, " image"]) -> None:
        """Equation (1): images of the newest task under all adapters; the newest has no column yet."""
        self.sums, self.counts = F.pad(self.sums, (0, 0, 0, 1)), F.pad(self.counts, (0, 1))
        columns = torch.tensor([self.classes.index(int(y)) for y in labels], device=h.device)
        own = double(h.unflatten(1, (-1, self.dim)))
        self.sums = self.sums.index_add(0, columns.to(self.sums.device), own.to(self.sums.device))
        self.counts = self.counts.index_add(0, columns, torch.ones_like(self.counts[columns]))

    def prototypes(self) -> Float[Tensor, "cls task feature"]:
        """Measured means, and equation (2) where there are none."""
        if self._of is not self.sums:  # buffers are replaced, never written
            self._of, self._table = self.sums, self._put_together()
        return self._table

    def _put_together(self) -> Float[Tensor, "cls task feature"]:
        counts = self.counts.to(self.sums.device)
        table = self.sums / counts.clamp(min=1)[..., None]
        measured, home = counts > 0, torch.tensor(self.home, device=table.device)
        for j in range(table.shape[1]):
            for i in range(j):
                missing, known = (home == i) & ~measured[:, j], measured[:, j] & measured[:, i]
                alike = F.normalize(table[missing, i], dim=1) @ F.normalize(table[known, i], dim=1).T
                table[missing, j] = alike.softmax(dim=1) @ table[known, j]
        return table

    def forward(self, features: Float[Tensor, "image wide"]) -> Float[Tensor, "image cls"]:
        """Equation (3)."""
        unit = [F.normalize(x, dim=-1) for x in (features.unflatten(1, (-1, self.dim)), self.prototypes().to(features))]
        cosines = torch.einsum("ntd,ctd->nct", *unit)
        tasks = cosines.shape[2]
        own = F.one_hot(torch.tensor(self.home, device=features.device), tasks).to(features)
        return (cosines * (own + self.alpha / max(tasks - 1, 1) * (1 - own))).sum(dim=2)

    def rows(self) -> Head:
        """The prototypes of all tasks, side by side."""
        return Head(self.prototypes().flatten(1).float().to(self.counts.device), None)


@final
class Circle(Classifier):
    """A linear head that reads the features of the task that it finds itself; reads [f, h_1, ..., h_T].

        c_0 = argmax of cos(f(x), mean of f over c);   c_{k+1} = argmax (W h_{t(c_k)} + b),  until it stays        (1)
        score = softmax(W h_{t(c)} + b) + softmax((t + 1) cos(f(x), means of f))                                   (2)

    Source: MOS, Sun et al., AAAI 2025, arXiv:2412.09441.
    """

    plain = ("classes", "home", "tasks")

    def __init__(self, dim: int, loops: int, ensemble: bool, device: torch.device) -> None:
        super().__init__()
        self.dim, self.loops, self.ensemble = dim, loops, ensemble
        self.linear, self.means = Linear(dim, device=device), Prototypes(dim, device)
        self.home: tuple[int, ...] = ()  # number of the adapter of each class
        self.tasks = 0

    def grow(self, arriving: tuple[int, ...]) -> None:
        """A row of the head for every new class, whose adapter comes next."""
        for head in (self.linear, self.means):
            head.grow(arriving)
        self.home += (self.tasks,) * (len(self.linear.classes) - len(self.classes))
        self.classes, self.tasks = self.linear.classes, self.tasks + 1

    def forward(self, features: Float[Tensor, "image wide"]) -> Float[Tensor, "image cls"]:
        """Equation (2)."""
        original, adapted = features[:, : self.dim], features[:, self.dim :].unflatten(1, (-1, self.dim))
        near = self.means(original)
        every = self.linear(adapted.flatten(0, 1)).unflatten(0, adapted.shape[:2])  # [image, task, cls]
        home, images = torch.tensor(self.home, device=features.device), torch.arange(len(features))
        task = home[near.argmax(dim=1)]
        for _ in range(self.loops):
            found = home[every[images, task].argmax(dim=1)]
            if torch.equal(found, task):
                break
            task = found
        score = every[images, task].softmax(dim=1)
        return score + (near * self.tasks).softmax(dim=1) if self.ensemble else score

    def load(self, state: State) -> None:
        """Both heads are of the same classes."""
        super().load(state)
        self.linear.classes = self.means.classes = self.classes

    def rows(self) -> Head:
        """Each row in the block of its adapter, zero elsewhere."""
        rows = self.linear.weight.new_zeros(len(self.classes), self.tasks + 1, self.dim)
        if self.classes:
            rows[torch.arange(len(self.classes)), torch.tensor(self.home) + 1] = self.linear.weight.detach()
        return Head(rows.flatten(1), self.linear.bias.detach() if self.linear.bias is not None else None)


@final
class Turned(Classifier):
    """A head per task that turns features onto anchors which all tasks share.

        logit_c = <z_t, e_c> / 0.1,   z_t = (A_t relu(R h) + b_t) / ||.||   with t the task that brought c

    Source: GOD, CVPR 2026.
    """

    plain = ("classes", "home")
    matrix: Tensor
    anchors: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, dim: int, expansion: int, draws: torch.Generator, device: torch.device) -> None:
        super().__init__()
        bound = (6 / (dim + expansion)) ** 0.5
        self.register_buffer("matrix", torch.empty(expansion, dim).uniform_(-bound, bound, generator=draws).to(device))
        self.register_buffer("anchors", empty(0, dim, device=device))
        self.register_buffer("weight", empty(0, dim, expansion, device=device))
        self.register_buffer("bias", empty(0, dim, device=device))
        self.home: tuple[int, ...] = ()

    def grow(self, arriving: tuple[int, ...], anchors: Tensor | None = None) -> None:
        """The anchors of classes that are new; they belong to the head that `take` will bring."""
        fresh = len(with_new(self.classes, arriving)) - len(self.classes)
        if fresh and anchors is not None:
            self.anchors = torch.cat([self.anchors, anchors[:fresh]])
            self.home += (len(self.weight),) * fresh
            self.classes = with_new(self.classes, arriving)

    def take(self, weight: Tensor, bias: Tensor) -> None:
        """One more head."""
        self.weight = torch.cat([self.weight, weight.detach()[None]])
        self.bias = torch.cat([self.bias, bias.detach()[None]])

    def turned(self, h: Tensor, weight: Tensor, bias: Tensor) -> Float[Tensor, "image feature"]:
        """Z of one head."""
        return F.normalize(F.linear(F.relu(h @ self.matrix.T), weight, bias), dim=-1)

    def products(self, h: Tensor, weight: Tensor, bias: Tensor, anchors: Tensor) -> Float[Tensor, "image anchor"]:
        """The logits of these anchors by this head."""
        return self.turned(h, weight, bias) @ anchors.T / _ETA

    def forward(self, features: Float[Tensor, "image feature"]) -> Float[Tensor, "image cls"]:
        """Every class by the head of its task."""
        z = torch.stack([self.turned(features, w, b) for w, b in zip(self.weight, self.bias, strict=True)])
        home = torch.tensor(self.home, device=features.device)
        return torch.einsum("cnd,cd->nc", z[home], self.anchors) / _ETA

    def rows(self) -> Head:
        """The anchors; each is compared with the features of its own task's head."""
        return Head(self.anchors, None)
