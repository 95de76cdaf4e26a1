"""One Gaussian per class in place of its images: features of old classes are drawn from it while new ones arrive."""

from collections.abc import Iterator
from typing import Literal, final

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cillab.core.contract import Part, State
from cillab.core.errors import NotObservedError
from cillab.parts.heads import columns_of, with_new

_BLOCK = 1 << 22  # numbers drawn at once: 16 MB


@final
class GaussianMemory(Part):
    """Count, mean and covariance of the features of every class seen.

        mu_c = mean of h,    S_c = (1/n_c) sum (h - mu_c)(h - mu_c)^T     (its diagonal, if `kind` is "diagonal")

    Batches of one class merge exactly, whatever their order (Chan, Golub & LeVeque, The American Statistician 37(3)
    1983). Sums are float64, what is kept is float32: d + d^2 numbers per class, or 2 d. Only learning needs it.
    """

    def __init__(
        self, dim: int, kind: Literal["full", "diagonal"] = "full", device: torch.device | None = None
    ) -> None:
        self.kind: Literal["full", "diagonal"] = kind
        self.classes: tuple[int, ...] = ()
        self.counts = torch.zeros(0, dtype=torch.int64, device=device)
        self.means = torch.zeros(0, dim, device=device)
        self.covariances = torch.zeros(0, dim, dim, device=device) if kind == "full" else self.means.clone()
        self._roots: dict[float, Tensor] = {}  # of the covariances, by floor, made when something is drawn

    def __len__(self) -> int:
        """Number of classes."""
        return len(self.classes)

    def add(self, features: Float[Tensor, "image feature"], labels: Int64[Tensor, " image"]) -> None:
        """Add images of any classes, new ones included."""
        self._grow(tuple(dict.fromkeys(labels.tolist())))
        columns = columns_of(labels, self.classes)
        for column in columns.unique().tolist():
            self._merge(column, features[columns == column].to(self.means.device).double())
        self._roots = {}

    def _grow(self, arriving: tuple[int, ...]) -> None:
        classes = with_new(self.classes, arriving)
        missing = len(classes) - len(self.classes)
        self.counts = torch.cat([self.counts, self.counts.new_zeros(missing)])
        self.means = torch.cat([self.means, self.means.new_zeros(missing, *self.means.shape[1:])])
        self.covariances = torch.cat(
            [self.covariances, self.covariances.new_zeros(missing, *self.covariances.shape[1:])]
        )
        self.classes = classes

    def _merge(self, column: int, h: Float[Tensor, "image feature"]) -> None:
        """The moments of two sets of images from the moments of each."""
        known, fresh = int(self.counts[column]), len(h)
        total, mean = known + fresh, h.mean(dim=0)
        gap = mean - self.means[column].double()
        centred = h - mean
        within, between = (
            self._outer(centred, centred) / total,
            self._outer(gap[None], gap[None]) * known * fresh / total**2,
        )
        self.covariances[column] = (self.covariances[column].double() * known / total + within + between).float()
        self.means[column] += (gap * fresh / total).float()
        self.counts[column] = total

    def _outer(self, x: Float[Tensor, "image feature"], y: Float[Tensor, "image feature"]) -> Tensor:
        return x.T @ y if self.kind == "full" else (x * y).sum(dim=0)

    def sample(
        self, per_class: int, rng: torch.Generator, classes: tuple[int, ...] | None = None, floor: float = 1e-4
    ) -> tuple[Float[Tensor, "image feature"], Int64[Tensor, " image"]]:
        """`per_class` features of each of `classes` (all, if not given), and their labels.

        h = mu_c + L_c eps with eps ~ N(0, I) drawn from `rng` on the CPU, L_c L_c^T = S_c + floor (tr S_c / d) I.

        Raises:
            NotObservedError: no image was added yet.
        """
        if not self.classes:
            raise NotObservedError("The memory holds no class yet.")
        wanted = self.classes if classes is None else classes
        ids = torch.tensor(wanted, dtype=torch.int64)
        rows = self._rows(wanted)
        eps = torch.randn(len(wanted), per_class, self.means.shape[1], generator=rng).to(self.means.device)
        roots = self._factorised(floor)[rows]
        spread = eps @ roots.mT if self.kind == "full" else eps * roots[:, None]
        drawn = self.means[rows, None] + spread
        return drawn.flatten(0, 1), ids.to(self.means.device).repeat_interleave(per_class)

    def batches(
        self, steps: int, per_class: int, rng: torch.Generator, classes: tuple[int, ...], floor: float = 1e-4
    ) -> Iterator[tuple[Float[Tensor, "image feature"], Int64[Tensor, " image"]]]:
        """As many times `sample`, several drawn at once: a product of few rows costs little less than one of many."""
        numbers = per_class * len(classes) * self.means.shape[1]
        block = max(1, _BLOCK // max(numbers, 1))
        for begun in range(0, steps, block):
            count = min(block, steps - begun)
            features, labels = self.sample(count * per_class, rng, classes, floor)
            by_step = features.unflatten(0, (len(classes), count, per_class)).unbind(1)
            labels = labels[::count]
            yield from ((part.flatten(0, 1), labels) for part in by_step)

    def _rows(self, classes: tuple[int, ...]) -> slice | Int64[Tensor, " cls"]:
        """Where `classes` are. The first ones in order, as old classes are, need no copy of d x d numbers each."""
        if classes == self.classes[: len(classes)]:
            return slice(len(classes))
        return columns_of(torch.tensor(classes, dtype=torch.int64), self.classes).to(self.means.device)

    def _factorised(self, floor: float) -> Tensor:
        """Square roots of the covariances: triangular, or by coordinate. Made once per change."""
        if floor not in self._roots:
            self._roots = {floor: self._root(floor)}
        return self._roots[floor]

    def _root(self, floor: float) -> Tensor:
        if self.kind == "diagonal":
            return (self.covariances + floor * self.covariances.mean(dim=1, keepdim=True)).sqrt()
        scale = self.covariances.diagonal(dim1=1, dim2=2).mean(dim=1)
        # at least 1e-6 of the mean variance: with fewer images than dimensions S_c has no Cholesky factor
        lift = scale.double() * max(floor, 1e-6) + 1e-12
        lifted = self.covariances.double() + torch.diag_embed(lift[:, None].expand(self.means.shape))
        return torch.linalg.cholesky(lifted).float()

    def moved(self, a: Float[Tensor, "feature feature"], b: Float[Tensor, " feature"]) -> "GaussianMemory":
        """The memory of A h + b: means A mu + b, covariances A S A^T (their diagonal, if that is all that is kept)."""
        a64 = a.to(self.means.device).double()
        covariances = self.covariances.double() if self.kind == "full" else torch.diag_embed(self.covariances.double())
        pushed = a64 @ covariances @ a64.mT
        pushed = (pushed + pushed.mT) / 2
        return self.replaced(
            self.means.double() @ a64.mT + b.to(a64),
            pushed if self.kind == "full" else pushed.diagonal(dim1=1, dim2=2),
        )

    def replaced(self, means: Float[Tensor, "cls feature"], covariances: Float[Tensor, "cls ..."]) -> "GaussianMemory":
        """The same classes and counts with other moments."""
        other = GaussianMemory(means.shape[1], self.kind, self.means.device)
        other.classes, other.counts = self.classes, self.counts.clone()
        kept = (moments.to(torch.float32, copy=True).contiguous() for moments in (means, covariances))
        other.means, other.covariances = kept
        return other

    def only(self, classes: tuple[int, ...]) -> "GaussianMemory":
        """The memory of some of its classes, in the order given."""
        rows = self._rows(classes)
        other = self.replaced(self.means[rows], self.covariances[rows])
        other.classes, other.counts = classes, self.counts[rows].clone()
        return other

    def factor(self, rank: int = 8) -> Float[Tensor, "cls rank feature"]:
        """Top eigenvectors times the roots of their eigenvalues, F^T F ~ S_c: what an ellipse in any plane needs."""
        full = self.covariances if self.kind == "full" else torch.diag_embed(self.covariances)
        rank = min(rank, full.shape[-1])
        if not len(full):
            return full.new_zeros(0, rank, full.shape[-1])
        values, vectors = torch.linalg.eigh(full.double())
        top = vectors[..., -rank:] * values[..., None, -rank:].clamp(min=0).sqrt()
        return top.mT.flip(1).float()

    def state(self) -> State:
        """Counts, means, covariances and class ids."""
        tensors = {"counts": self.counts, "means": self.means, "covariances": self.covariances}
        return State(tensors, {"classes": list(self.classes), "kind": self.kind}, frozenset(tensors))

    def load(self, state: State) -> None:
        """Take over the moments; a slim state has none, and then the memory is empty."""
        device, dim = self.means.device, self.means.shape[1]
        fresh = GaussianMemory(dim, state.meta["kind"], device)
        self.kind, self.classes, self._roots = fresh.kind, (), {}
        self.counts, self.means, self.covariances = fresh.counts, fresh.means, fresh.covariances
        if "means" in state.tensors:
            self.classes = tuple(state.meta["classes"])
            self.counts = state.tensors["counts"].clone().to(device)
            self.means = state.tensors["means"].clone().to(device)
            self.covariances = state.tensors["covariances"].clone().to(device)
