"""One Gaussian per class in place of its images: features of old classes are drawn from it while new ones arrive."""

from collections.abc import Iterator
from typing import Literal, final

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cillab.core.arrays import double
from cillab.core.contract import State
from cillab.core.errors import NotObservedError
from cillab.parts.heads import columns_of, with_new
from cillab.parts.module import ModulePart, empty

Covariance = Literal["full", "diagonal", "pooled", "low-rank"]

_BLOCK = 1 << 22  # numbers drawn at once: 16 MB
_CLASSES = 16  # covariances that are factorised or multiplied at once, in float64


@final
class GaussianMemory(ModulePart):
    """Count, mean and covariance of the features of every class seen.

        mu_c = mean of h,    S_c = (1/n_c) sum (h - mu_c)(h - mu_c)^T

    and of S_c is kept, by `kind`,

        full        all of it: d^2 numbers per class
        diagonal    its diagonal: d numbers per class
        pooled      S = sum_c n_c S_c / sum_c n_c, one for all classes: d^2 numbers in all
        low-rank    F_c^T F_c + diag(v_c): the `rank` leading directions of S_c, and the variance that they leave over
                    in each coordinate, so that the diagonal is exact: (rank + 1) d numbers per class

    Batches of one class merge exactly, whatever their order (Chan, Golub & LeVeque, The American Statistician 37(3)
    1983); those of "low-rank" up to what truncation drops. Sums are float64, what is kept is float32. Only learning
    needs it. At 1,000 classes of 768 features: full 2.4 GB, low-rank of rank 16 55 MB, pooled and diagonal 6 MB.
    """

    plain = ("classes", "kind", "images")
    learning_only = frozenset({"counts", "means", "covariances", "factors"})
    counts: Tensor
    means: Tensor
    covariances: Tensor  # S_c, its diagonal, S (a stack of one), or v_c
    factors: Tensor  # F_c, where there are any

    def __init__(
        self, dim: int, kind: Covariance = "full", device: torch.device | None = None, *, rank: int = 16
    ) -> None:
        super().__init__()
        self.kind: Covariance = kind
        self.classes: tuple[int, ...] = ()
        self.images = 0  # behind the pooled covariance
        self.register_buffer("counts", empty(0, device=device, dtype=torch.int64))
        self.register_buffer("means", empty(0, dim, device=device))
        shape = {"full": (0, dim, dim), "pooled": (1, dim, dim)}.get(kind, (0, dim))
        self.register_buffer("covariances", empty(*shape, device=device))
        self.register_buffer("factors", empty(0, rank if kind == "low-rank" else 0, dim, device=device))
        self._roots: dict[float, Tensor] = {}  # of the covariances, by floor, made when something is drawn

    def __len__(self) -> int:
        """Number of classes."""
        return len(self.classes)

    def grow(self, arriving: tuple[int, ...]) -> None:
        """Room for every class in `arriving` that has none: a point at zero, until images are added."""
        classes = with_new(self.classes, arriving)
        missing = len(classes) - len(self.classes)

        def longer(kept: Tensor) -> Tensor:  # a copy in any case: what was there before is never written
            return torch.cat([kept, kept.new_zeros(missing, *kept.shape[1:])])

        self.counts, self.means, self.factors = longer(self.counts), longer(self.means), longer(self.factors)
        self.covariances = self.covariances.clone() if self.kind == "pooled" else longer(self.covariances)
        self.classes, self._roots = classes, {}

    def add(self, features: Float[Tensor, "image feature"], labels: Int64[Tensor, " image"]) -> None:
        """Add images of any classes, new ones included."""
        self.grow(tuple(dict.fromkeys(labels.tolist())))
        columns = columns_of(labels, self.classes)
        for column in columns.unique().tolist():
            self._merge(column, double(features[columns == column].to(self.means.device)))

    def _merge(self, column: int, h: Float[Tensor, "image feature"]) -> None:
        """The moments of two sets of images from the moments of each."""
        known, fresh = int(self.counts[column]), len(h)
        total, mean = known + fresh, h.mean(dim=0)
        gap = mean - double(self.means[column])
        rows = torch.cat([h - mean, gap[None] * (known * fresh / total) ** 0.5])  # rows^T rows joins n S
        match self.kind:
            case "low-rank":
                self._compress(column, rows / total**0.5, known / total)
            case "pooled":
                sums = double(self.covariances[0]) * self.images + rows.T @ rows
                self.covariances[0] = (sums / (self.images + fresh)).float()
            case kind:
                outer = rows.T @ rows if kind == "full" else rows.square().sum(dim=0)
                self.covariances[column] = ((double(self.covariances[column]) * known + outer) / total).float()
        self.means[column] += (gap * fresh / total).to(self.means)
        self.counts[column] = total
        self.images += fresh

    def _compress(self, column: int, rows: Float[Tensor, "row feature"], share: float) -> None:
        """F and v of share S + rows^T rows."""
        rows = torch.cat([double(self.factors[column]) * share**0.5, rows])
        variances = rows.square().sum(dim=0) + share * double(self.covariances[column])
        leading = leading_directions(rows, self.factors.shape[1])
        self.factors[column] = leading.float()
        self.covariances[column] = (variances - leading.square().sum(dim=0)).clamp(min=0).float()

    def sample(
        self, per_class: int, rng: torch.Generator, classes: tuple[int, ...] | None = None, floor: float = 1e-4
    ) -> tuple[Float[Tensor, "image feature"], Int64[Tensor, " image"]]:
        """`per_class` features of each of `classes` (all, if not given), and their labels.

        h ~ N(mu_c, S_c + floor (tr S_c / d) I), with normal numbers drawn from `rng` on the CPU.

        Raises:
            NotObservedError: no image was added yet.
        """
        if not self.classes:
            raise NotObservedError("The memory holds no class yet.")
        wanted = self.classes if classes is None else classes
        ids = torch.tensor(wanted, dtype=torch.int64)
        rows, dim = self._rows(wanted), self.means.shape[1]
        eps = torch.randn(len(wanted), per_class, dim + self.factors.shape[1], generator=rng)
        eps, roots = eps.to(self.means.device, non_blocking=True), self._factorised(floor)
        match self.kind:
            case "full":
                spread = eps @ roots[rows].mT
            case "pooled":
                spread = eps @ roots.mT
            case "diagonal":
                spread = eps * roots[rows, None]
            case "low-rank":
                spread = eps[..., :dim] * roots[rows, None] + eps[..., dim:] @ self.factors[rows]
        drawn = self.means[rows, None] + spread
        return drawn.flatten(0, 1), ids.to(self.means.device, non_blocking=True).repeat_interleave(per_class)

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
        return columns_of(torch.tensor(classes, dtype=torch.int64), self.classes).to(
            self.means.device, non_blocking=True
        )

    def variances(self) -> Float[Tensor, "cls feature"]:
        """Diagonals of the covariances."""
        match self.kind:
            case "diagonal":
                return self.covariances
            case "low-rank":
                return self.covariances + self.factors.square().sum(dim=1)
            case "pooled":
                return self.covariances[0].diagonal().expand(len(self.classes), -1)
            case "full":
                return self.covariances.diagonal(dim1=1, dim2=2)

    def dense(self, classes: tuple[int, ...] | None = None) -> Float[Tensor, "cls feature feature"]:
        """Covariances of `classes` (all, if not given) as matrices, whatever is kept of them."""
        rows = self._rows(self.classes if classes is None else classes)
        match self.kind:
            case "diagonal":
                return torch.diag_embed(self.covariances[rows])
            case "low-rank":
                return self.factors[rows].mT @ self.factors[rows] + torch.diag_embed(self.covariances[rows])
            case "pooled":
                return self.covariances.expand(len(self.means[rows]), -1, -1)
            case "full":
                return self.covariances[rows]

    def _factorised(self, floor: float) -> Tensor:
        """Square roots of the covariances: triangular, or by coordinate. Made once per change."""
        if floor not in self._roots:
            self._roots = {floor: self._root(floor)}
        return self._roots[floor]

    def _root(self, floor: float) -> Tensor:
        if self.kind in ("diagonal", "low-rank"):
            return (self.covariances + floor * self.variances().mean(dim=1, keepdim=True)).sqrt()
        return torch.cat([_lifted_root(part, floor) for part in self.covariances.split(_CLASSES)])

    def moved(self, a: Float[Tensor, "*cls feature feature"], b: Float[Tensor, "*cls feature"]) -> "GaussianMemory":
        """The memory of A h + b: means A mu + b, covariances A S A^T, as far as `kind` keeps them.

        A and b are one map for all classes, or one per class.
        """
        mu = double(self.means)
        a64, b64 = (double(given).to(mu.device) for given in (a, b))
        means = (a64 @ mu[..., None])[..., 0] + b64
        s, factors = double(self.covariances), None
        if self.kind in ("full", "pooled"):
            s = a64 @ s @ a64.mT
            s = (s + s.mT) / 2
            if self.kind == "pooled" and len(s) > 1:
                s = (s * (self.counts / self.counts.sum()).to(s.device)[:, None, None]).sum(dim=0, keepdim=True)
        else:
            s = (a64.square() @ s[..., None])[..., 0]
            factors = double(self.factors) @ a64.mT
        return self.replaced(means, s, factors)

    def scaled(self, by: Float[Tensor, " cls"]) -> "GaussianMemory":
        """The same spread around means that are `by` times as long."""
        return self.replaced(self.means * by.to(self.means)[:, None], self.covariances)

    def replaced(
        self,
        means: Float[Tensor, "cls feature"],
        covariances: Float[Tensor, "kept ..."],
        factors: Float[Tensor, "cls rank feature"] | None = None,
    ) -> "GaussianMemory":
        """The same classes and counts with other moments; F stays where none is given."""
        other = GaussianMemory(means.shape[1], self.kind, self.means.device)
        other.classes, other.images, other.counts = self.classes, self.images, self.counts.clone()
        given = (means, covariances, self.factors if factors is None else factors)
        kept = (moments.to(torch.float32, copy=True).to(self.means.device).contiguous() for moments in given)
        other.means, other.covariances, other.factors = kept
        return other

    def only(self, classes: tuple[int, ...]) -> "GaussianMemory":
        """The memory of some of its classes, in the order given. What is pooled stays pooled over all of them."""
        rows = self._rows(classes)
        own = self.covariances if self.kind == "pooled" else self.covariances[rows]
        other = self.replaced(self.means[rows], own, self.factors[rows] if len(self.factors) else None)
        other.classes, other.counts = classes, self.counts[rows].clone()
        return other

    def factor(self, rank: int = 8) -> Float[Tensor, "cls rank feature"]:
        """Top eigenvectors times the roots of their eigenvalues, F^T F ~ S_c: what an ellipse in any plane needs."""
        rank = min(rank, self.means.shape[1])
        found = self.means.new_zeros(len(self), rank, self.means.shape[1])
        for row, c in enumerate(self.classes):
            values, vectors = torch.linalg.eigh(double(self.dense((c,))[0]))
            found[row] = (vectors[:, -rank:] * values[-rank:].clamp(min=0).sqrt()).T.flip(0)
        return found

    def shown(self, suffix: str = "") -> dict[str, Tensor]:
        """Means and leading directions under the names that figures read, followed by `suffix`."""
        return {f"gaussian/mean{suffix}": self.means, f"gaussian/factor{suffix}": self.factor().half()}

    def load(self, state: State) -> None:
        """Take over the moments; a slim state has none, and then the memory is empty."""
        dim, device = self.means.shape[1], self.means.device
        super().load(state)
        self._roots = {}
        if "means" not in state.tensors:
            self._buffers |= GaussianMemory(dim, self.kind, device)._buffers
            self.classes, self.images = (), 0


def leading_directions(rows: Float[Tensor, "row feature"], rank: int) -> Float[Tensor, "rank feature"]:
    """F with `rank` rows, F^T F being the best approximation of rows^T rows of that rank; zero rows where it is less.

    By the eigenvectors of the smaller of the two Gram matrices; float64 in, float64 out.
    """
    count, dim = rows.shape
    if count <= dim:
        _, vectors = torch.linalg.eigh(rows @ rows.T)
        found = vectors[:, -rank:].T.flip(0) @ rows
    else:
        values, vectors = torch.linalg.eigh(rows.T @ rows)
        found = (vectors[:, -rank:] * values[-rank:].clamp(min=0).sqrt()).T.flip(0)
    return torch.nn.functional.pad(found, (0, 0, 0, rank - len(found)))


def _lifted_root(covariances: Float[Tensor, "cls feature feature"], floor: float) -> Tensor:
    """Cholesky factors of S + floor (tr S / d) I."""
    s = double(covariances)
    scale = s.diagonal(dim1=1, dim2=2).mean(dim=1, keepdim=True)
    # at least 1e-6 of the mean variance: with fewer images than dimensions S_c has no Cholesky factor
    s.diagonal(dim1=1, dim2=2).add_(scale * max(floor, 1e-6) + 1e-12)
    return torch.linalg.cholesky(s).to(covariances)
