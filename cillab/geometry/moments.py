"""Class moments: how many, where, how spread. One pass over the features, mergeable, in float64."""

from collections.abc import Iterable, Mapping
from typing import Literal, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

Scatter = Literal["trace", "diagonal", "pooled", "full"]
Weighting = Literal["classes", "samples"]

# Rows in work at a time: bounds the extra memory (2048 rows x 768 float64 = 13 MB per copy), not the result. Larger
# blocks are slower: above 32 MB every temporary is mapped and faulted in anew.
_BLOCK = 2048


@final
class Moments:
    """Counts, means and within-class scatter of features, for any number of classes that may still grow.

        n_c,    mu_c = (1/n_c) sum h_ic,    S_c = sum (h_ic - mu_c)(h_ic - mu_c)^T

    `scatter` says how much of S_c is kept beside its trace, which always is:
    "trace" nothing more; "diagonal" diag S_c [K, D]; "pooled" sum_c S_c [D, D]; "full" every S_c [K, D, D].
    Blocks are centred on their own class means, then merged by Chan, Golub & LeVeque, "Updating formulae and a
    pairwise algorithm for computing sample variances", COMPSTAT 1982, doi:10.1007/978-3-642-51461-6_3: no
    difference of large numbers ever occurs, a feature offset of 1e6 costs no digits of the scatter.
    All arithmetic is float64 whatever the dtype of the features, so results agree to about 1e-12 for any batch
    size, order and merge. State lives on the device of the first features and grows with classes, not images.
    """

    def __init__(self, dim: int, scatter: Scatter = "pooled") -> None:
        if dim < 1:
            raise ValueError(f"dim must be at least 1, got {dim}.")
        if scatter not in ("trace", "diagonal", "pooled", "full"):
            raise ValueError(f"Unknown scatter {scatter!r}. Valid: trace, diagonal, pooled, full.")
        self.dim = dim
        self.scatter: Scatter = scatter
        self._row: dict[int, int] = {}  # class id -> row, in order of first appearance
        self._counts = torch.zeros(0, dtype=torch.int64)
        self._means = torch.zeros(0, dim, dtype=torch.float64)
        self._traces = torch.zeros(0, dtype=torch.float64)
        self._diagonal = torch.zeros(0, dim, dtype=torch.float64)
        self._pooled = torch.zeros((dim, dim) if scatter == "pooled" else (0, 0), dtype=torch.float64)
        self._full: list[Tensor] = []  # a list: growing by a class copies nothing

    @classmethod
    def of(
        cls, features: Float[Tensor, "image feature"], labels: Int[Tensor, " image"], scatter: Scatter = "pooled"
    ) -> "Moments":
        """The moments of one set of features."""
        moments = cls(features.shape[-1], scatter)
        moments.add(features, labels)
        return moments

    @property
    def classes(self) -> tuple[int, ...]:
        """Class ids in order of first appearance; rows of every per-class tensor follow it."""
        return tuple(self._row)

    @property
    def counts(self) -> Int[Tensor, " cls"]:
        """Number of features per class; 0 for a class that was declared and never seen."""
        return self._counts.clone()

    def declare(self, class_ids: Iterable[int]) -> None:
        """Give classes their rows before (or without) any feature: an empty class stays visible as n = 0."""
        fresh = [c for c in dict.fromkeys(int(c) for c in class_ids) if c not in self._row]
        for class_id in fresh:
            self._row[class_id] = len(self._row)
        k, device = len(fresh), self._means.device
        self._counts = torch.cat([self._counts, torch.zeros(k, dtype=torch.int64, device=device)])
        self._means = torch.cat([self._means, torch.zeros(k, self.dim, dtype=torch.float64, device=device)])
        self._traces = torch.cat([self._traces, torch.zeros(k, dtype=torch.float64, device=device)])
        if self.scatter == "diagonal":
            self._diagonal = torch.cat([self._diagonal, torch.zeros(k, self.dim, dtype=torch.float64, device=device)])
        if self.scatter == "full":
            square = (self.dim, self.dim)
            self._full.extend(torch.zeros(square, dtype=torch.float64, device=device) for _ in fresh)

    def add(self, features: Float[Tensor, "image feature"], labels: Int[Tensor, " image"]) -> None:
        """Take in features with their class ids (any integers). Refused input leaves the moments as they were.

        Raises:
            ValueError: wrong shape, integer features, or NaN/Inf (the message names classes and counts).
        """
        if features.ndim != 2 or features.shape[1] != self.dim or labels.shape != features.shape[:1]:
            raise ValueError(
                f"Expected features [image, {self.dim}] and labels [image], got {list(features.shape)}"
                f" and {list(labels.shape)}."
            )
        if not features.is_floating_point() or labels.is_floating_point() or labels.dtype == torch.bool:
            raise ValueError(f"Expected real features and integer labels, got {features.dtype} and {labels.dtype}.")
        features, labels = features.detach(), labels.detach().to(features.device)
        _refuse_non_finite(features, labels)
        self._settle(features.device)
        for start in range(0, len(features), _BLOCK):
            self._add_block(features[start : start + _BLOCK], labels[start : start + _BLOCK])

    def merged(self, other: "Moments") -> "Moments":
        """The moments of both sets of features together; neither operand changes.

        Raises:
            ValueError: different dim or scatter.
        """
        if (self.dim, self.scatter) != (other.dim, other.scatter):
            raise ValueError(
                f"Cannot merge moments of dim {self.dim}, scatter {self.scatter!r} with dim {other.dim},"
                f" scatter {other.scatter!r}."
            )
        result = Moments.from_tensors(self.tensors())
        result._settle(other._means.device)
        theirs = {name: value.to(result._means.device) for name, value in other.tensors().items()}
        result.declare(other.classes)
        rows = torch.tensor([result._row[c] for c in other.classes], dtype=torch.int64, device=result._means.device)
        gap, weight = result._chan(rows, theirs["counts"], theirs["means"], theirs["traces"])
        if self.scatter == "diagonal":
            result._diagonal[rows] += theirs["diagonal"] + weight[:, None] * gap.square()
        elif self.scatter == "pooled":
            result._pooled += theirs["pooled"] + gap.T @ (weight[:, None] * gap)
        elif self.scatter == "full":
            for i, row in enumerate(rows.tolist()):
                result._full[row] += theirs["full"][i] + weight[i] * torch.outer(gap[i], gap[i])
        return result

    def means(self, like: Tensor | None = None) -> Float[Tensor, "cls feature"]:
        """Class means, rows as in `classes`; NaN for an empty class. float64, or dtype and device of `like`."""
        means = self._means.masked_fill(self._counts[:, None] == 0, torch.nan)
        return means if like is None else means.to(like)

    def variances(self) -> Float[Tensor, " cls"]:
        """v_c = mean squared distance to the class mean = trace of the class covariance; NaN for an empty class.

        Divides by n_c, so it is biased down by (n_c - 1)/n_c and is 0 for a class of one image.
        """
        return self._traces / self._counts  # 0/0 = NaN for an empty class

    def diagonals(self) -> Float[Tensor, "cls feature"]:
        """Variance of each feature in each class (divisor n_c); needs scatter "diagonal" or "full"."""
        self._need("diagonals()", "diagonal", "full")
        if self.scatter == "full":
            return torch.stack([s.diagonal() for s in self._full]) / self._counts[:, None]
        return self._diagonal / self._counts[:, None]

    def covariance(self, class_id: int, ddof: int = 0) -> Float[Tensor, "feature feature"]:
        """Covariance of one class, S_c / (n_c - ddof); needs scatter "full".

        ddof = 0 is the definition used by the collapse metrics, ddof = 1 the unbiased estimate. Rank at most
        n_c - 1: shrink it before it is inverted.

        Raises:
            KeyError: a class that is not here.
            ValueError: another scatter, or n_c <= ddof.
        """
        self._need("covariance()", "full")
        if class_id not in self._row:
            raise KeyError(f"Unknown class {class_id}. Valid: {list(self._row)}.")
        row = self._row[class_id]
        if int(self._counts[row]) <= ddof:
            raise ValueError(
                f"class {class_id} has {int(self._counts[row])} samples: a covariance with ddof {ddof}"
                f" needs at least {ddof + 1}."
            )
        return self._full[row] / (int(self._counts[row]) - ddof)

    def pooled_within(self) -> Float[Tensor, "feature feature"]:
        """Sigma_W = (1/N) sum_c S_c, the covariance around the class means; needs scatter "pooled" or "full".

        Every image counts the same. Biased down by (N - K)/N; NaN when there is no image.
        """
        self._need("pooled_within()", "pooled", "full")
        zero = torch.zeros(self.dim, self.dim, dtype=torch.float64, device=self._means.device)
        total = self._pooled if self.scatter == "pooled" else sum(self._full, start=zero)
        return total / self._counts.sum()

    def global_mean(self, weighting: Weighting = "classes") -> Float[Tensor, " feature"]:
        """mu_G: average of the class means ("classes", the default everywhere here) or of all features ("samples").

        The same thing on balanced data. Empty classes do not count; NaN when there is no image.
        """
        present = (self._counts > 0).double()
        weights = {"classes": present, "samples": self._counts.double()}[weighting]
        return (weights @ self._means) / weights.sum()

    def between(self, weighting: Weighting = "classes") -> Float[Tensor, "feature feature"]:
        """Sigma_B: covariance of the class means around `global_mean(weighting)`, with the same weights.

        (1/K) sum_c (mu_c - mu_G)(mu_c - mu_G)^T    or    (1/N) sum_c n_c (...)(...)^T
        """
        present = self._counts > 0
        centred = (self._means - self.global_mean(weighting))[present]
        weights = self._counts[present].double() if weighting == "samples" else torch.ones_like(centred[:, 0])
        return centred.T @ (weights[:, None] * centred) / weights.sum()

    def mapped(self, matrix: Float[Tensor, "feature feature"], offset: Float[Tensor, " feature"]) -> "Moments":
        """The moments that the same images would have after h -> A h + b; needs scatter "full".

        mu_c -> A mu_c + b,    S_c -> A S_c A^T
        """
        self._need("mapped()", "full")
        tensors, a = self.tensors(), matrix.to(self._means)
        tensors["means"] = torch.where(self._counts[:, None] > 0, self._means @ a.T + offset.to(self._means), 0.0)
        tensors["full"] = a @ tensors["full"] @ a.T
        tensors["traces"] = tensors["full"].diagonal(dim1=1, dim2=2).sum(dim=1)
        return Moments.from_tensors(tensors)

    def selected(self, class_ids: Iterable[int]) -> "Moments":
        """The moments of some classes only, in the order given; not with scatter "pooled", which cannot be undone.

        Raises:
            KeyError: a class that is not here.
            ValueError: scatter "pooled".
        """
        self._need("selected()", "trace", "diagonal", "full")
        wanted = [int(c) for c in class_ids]
        unknown = [c for c in wanted if c not in self._row]
        if unknown:
            raise KeyError(f"Unknown classes {unknown}. Valid: {list(self._row)}.")
        rows = [self._row[c] for c in wanted]
        return Moments.from_tensors({name: value[rows] for name, value in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        """The whole state as fresh tensors, for any serialiser; `from_tensors` restores it bit for bit."""
        ids = torch.tensor(list(self._row), dtype=torch.int64, device=self._means.device)
        state = {"class_ids": ids, "counts": self._counts, "means": self._means, "traces": self._traces}
        if self.scatter == "diagonal":
            state["diagonal"] = self._diagonal
        elif self.scatter == "pooled":
            state["pooled"] = self._pooled
        elif self.scatter == "full":
            empty = torch.zeros(0, self.dim, self.dim, dtype=torch.float64, device=self._means.device)
            state["full"] = torch.stack(self._full) if self._full else empty
        return {name: value.clone() for name, value in state.items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Moments":
        """Restore moments from `tensors()`; the kind of scatter follows from the names.

        Raises:
            ValueError: missing or unknown names, shapes that do not fit together, repeated class ids.
        """
        kinds: list[Scatter] = [kind for kind in ("diagonal", "pooled", "full") if kind in tensors]
        needed = {"class_ids", "counts", "means", "traces", *kinds}
        if set(tensors) != needed or len(kinds) > 1:
            raise ValueError(
                f"Not the state of Moments: got {sorted(tensors)}, expected class_ids, counts, means,"
                " traces and at most one of diagonal, pooled, full."
            )
        k, dim = tensors["means"].shape
        shapes = {
            "class_ids": (k,),
            "counts": (k,),
            "traces": (k,),
            "means": (k, dim),
            "diagonal": (k, dim),
            "pooled": (dim, dim),
            "full": (k, dim, dim),
        }
        for name, value in tensors.items():
            if tuple(value.shape) != shapes[name]:
                raise ValueError(
                    f"Moments tensor {name!r} has shape {list(value.shape)}, expected {list(shapes[name])}."
                )
        ids = [int(c) for c in tensors["class_ids"].tolist()]
        if len(set(ids)) != k:
            raise ValueError(f"Moments tensor 'class_ids' repeats a class: {ids}.")
        moments = cls(dim, kinds[0] if kinds else "trace")
        moments._row = {c: i for i, c in enumerate(ids)}
        moments._counts = tensors["counts"].to(torch.int64, copy=True)
        moments._means = tensors["means"].to(torch.float64, copy=True)
        moments._traces = tensors["traces"].to(torch.float64, copy=True)
        moments._diagonal = tensors.get("diagonal", moments._diagonal).to(torch.float64, copy=True)
        moments._pooled = tensors.get("pooled", moments._pooled).to(torch.float64, copy=True)
        moments._full = [s.to(torch.float64, copy=True) for s in tensors.get("full", ())]
        return moments

    def _add_block(self, features: Tensor, labels: Tensor) -> None:
        ids, inverse, counts = torch.unique(labels, return_inverse=True, return_counts=True)
        positions = torch.arange(len(labels), device=labels.device)
        first = torch.full_like(ids, len(labels)).scatter_reduce(0, inverse, positions, "amin")
        self.declare(ids[first.argsort()].tolist())
        rows = torch.tensor([self._row[c] for c in ids.tolist()], dtype=torch.int64, device=self._means.device)
        x = features.double()
        means = torch.zeros(len(ids), self.dim, dtype=x.dtype, device=x.device).index_add_(0, inverse, x)
        means /= counts[:, None]
        x = x - means[inverse]  # a new tensor: double() hands back the caller's own when it is float64 already
        squares = torch.zeros(len(ids), dtype=x.dtype, device=x.device)
        squares.index_add_(0, inverse, torch.einsum("nd,nd->n", x, x))
        gap, weight = self._chan(rows, counts, means, squares)
        if self.scatter == "diagonal":
            within = torch.zeros_like(means).index_add_(0, inverse, x.square())
            self._diagonal[rows] += within + weight[:, None] * gap.square()
        elif self.scatter == "pooled":
            self._pooled.addmm_(x.T, x)
            self._pooled.addmm_(gap.T, weight[:, None] * gap)
        elif self.scatter == "full":
            pieces = x[inverse.argsort(stable=True)].split(counts.tolist())
            for i, (row, piece) in enumerate(zip(rows.tolist(), pieces, strict=True)):
                self._full[row].addmm_(piece.T, piece).addr_(gap[i], gap[i], alpha=float(weight[i]))

    def _chan(self, rows: Tensor, counts: Tensor, means: Tensor, traces: Tensor) -> tuple[Tensor, Tensor]:
        """Merge counts, means and traces of another set; return what the second moments of `rows` still need."""
        before, added = self._counts[rows].double(), counts.double()
        total = (before + added).clamp(min=1)  # an empty class merged with an empty class stays empty
        gap, weight = means - self._means[rows], before * added / total
        self._means[rows] += gap * (added / total)[:, None]
        self._traces[rows] += traces + weight * gap.square().sum(dim=1)
        self._counts[rows] += counts
        return gap, weight

    def _settle(self, device: torch.device) -> None:
        """Move to the device of the first features; later ones are refused elsewhere by PyTorch itself."""
        if self._means.device == device or bool((self._counts > 0).any()):
            return
        self._counts, self._means, self._traces, self._diagonal, self._pooled, *self._full = (
            x.to(device) for x in (self._counts, self._means, self._traces, self._diagonal, self._pooled, *self._full)
        )

    def _need(self, what: str, *kinds: str) -> None:
        if self.scatter not in kinds:
            raise ValueError(f"{what} needs Moments(scatter={' or '.join(map(repr, kinds))}), got {self.scatter!r}.")


def _refuse_non_finite(features: Tensor, labels: Tensor) -> None:
    found: dict[int, int] = {}
    for start in range(0, len(features), _BLOCK):
        finite = torch.isfinite(features[start : start + _BLOCK])
        if not bool(finite.all()):
            bad = labels[start : start + _BLOCK][~finite.all(dim=1)]
            for class_id in bad.tolist():
                found[class_id] = found.get(class_id, 0) + 1
    if found:
        named = ", ".join(f"class {c}: {n}" for c, n in sorted(found.items()))
        raise ValueError(f"Features with NaN or Inf in {sum(found.values())} of {len(features)} images ({named}).")
