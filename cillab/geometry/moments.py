"""Class moments: how many, where, how spread. One pass over the features, mergeable, in float64."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, final

import numpy as np
from jaxtyping import Float, Int

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
    size, order and merge. The state grows with classes, not with images.
    """

    def __init__(self, dim: int, scatter: Scatter = "pooled") -> None:
        if dim < 1:
            raise ValueError(f"dim must be at least 1, got {dim}.")
        if scatter not in ("trace", "diagonal", "pooled", "full"):
            raise ValueError(f"Unknown scatter {scatter!r}. Valid: trace, diagonal, pooled, full.")
        self.dim = dim
        self.scatter: Scatter = scatter
        self._row: dict[int, int] = {}  # class id -> row, in order of first appearance
        self._counts = np.zeros(0, dtype=np.int64)
        self._means = np.zeros((0, dim))
        self._traces = np.zeros(0)
        self._diagonal = np.zeros((0, dim))
        self._pooled = np.zeros((dim, dim) if scatter == "pooled" else (0, 0))
        self._full: list[np.ndarray] = []  # a list: growing by a class copies nothing

    @classmethod
    def of(
        cls,
        features: Float[np.ndarray, "image feature"],
        labels: Int[np.ndarray, " image"],
        scatter: Scatter = "pooled",
    ) -> "Moments":
        """The moments of one set of features."""
        moments = cls(features.shape[-1], scatter)
        moments.add(features, labels)
        return moments

    @property
    def classes(self) -> tuple[int, ...]:
        """Class ids in order of first appearance; rows of every per-class array follow it."""
        return tuple(self._row)

    @property
    def counts(self) -> Int[np.ndarray, " cls"]:
        """Number of features per class; 0 for a class that was declared and never seen."""
        return self._counts.copy()

    def declare(self, class_ids: Iterable[int]) -> None:
        """Give classes their rows before (or without) any feature: an empty class stays visible as n = 0."""
        fresh = [c for c in dict.fromkeys(int(c) for c in class_ids) if c not in self._row]
        for class_id in fresh:
            self._row[class_id] = len(self._row)
        k = len(fresh)
        self._counts = np.concatenate([self._counts, np.zeros(k, dtype=np.int64)])
        self._means = np.concatenate([self._means, np.zeros((k, self.dim))])
        self._traces = np.concatenate([self._traces, np.zeros(k)])
        if self.scatter == "diagonal":
            self._diagonal = np.concatenate([self._diagonal, np.zeros((k, self.dim))])
        if self.scatter == "full":
            self._full.extend(np.zeros((self.dim, self.dim)) for _ in fresh)

    def add(self, features: Float[np.ndarray, "image feature"], labels: Int[np.ndarray, " image"]) -> None:
        """Take in features with their class ids (any integers). Refused input leaves the moments as they were.

        Raises:
            ValueError: wrong shape, integer features, or NaN/Inf (the message names classes and counts).
        """
        features, labels = np.asarray(features), np.asarray(labels)
        if features.ndim != 2 or features.shape[1] != self.dim or labels.shape != features.shape[:1]:
            raise ValueError(
                f"Expected features [image, {self.dim}] and labels [image], got {list(features.shape)}"
                f" and {list(labels.shape)}."
            )
        if not np.issubdtype(features.dtype, np.floating) or not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(f"Expected real features and integer labels, got {features.dtype} and {labels.dtype}.")
        _refuse_non_finite(features, labels)
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
        result, theirs = Moments.from_arrays(self.arrays()), other.arrays()
        result.declare(other.classes)
        rows = np.array([result._row[c] for c in other.classes], dtype=np.int64)
        gap, weight = result._chan(rows, theirs["counts"], theirs["means"], theirs["traces"])
        if self.scatter == "diagonal":
            result._diagonal[rows] += theirs["diagonal"] + weight[:, None] * np.square(gap)
        elif self.scatter == "pooled":
            result._pooled += theirs["pooled"] + gap.T @ (weight[:, None] * gap)
        elif self.scatter == "full":
            for i, row in enumerate(rows.tolist()):
                result._full[row] += theirs["full"][i] + weight[i] * np.outer(gap[i], gap[i])
        return result

    def means(self) -> Float[np.ndarray, "cls feature"]:
        """Class means, rows as in `classes`; NaN for an empty class."""
        return np.where(self._counts[:, None] == 0, np.nan, self._means)

    def variances(self) -> Float[np.ndarray, " cls"]:
        """v_c = mean squared distance to the class mean = trace of the class covariance; NaN for an empty class.

        Divides by n_c, so it is biased down by (n_c - 1)/n_c and is 0 for a class of one image.
        """
        return self._per_image(self._traces, self._counts)

    def spread(self) -> float:
        """Root mean square distance of images to their class mean: the unit of lengths; NaN without an image."""
        return float(np.sqrt(self._per_image(self._traces.sum(), self._counts.sum())))

    def diagonals(self) -> Float[np.ndarray, "cls feature"]:
        """Variance of each feature in each class (divisor n_c); needs scatter "diagonal" or "full"."""
        self._need("diagonals()", "diagonal", "full")
        if self.scatter == "full":
            diagonals = np.array([s.diagonal() for s in self._full]).reshape(-1, self.dim)
            return self._per_image(diagonals, self._counts[:, None])
        return self._per_image(self._diagonal, self._counts[:, None])

    def covariance(self, class_id: int, ddof: int = 0) -> Float[np.ndarray, "feature feature"]:
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

    def pooled_within(self) -> Float[np.ndarray, "feature feature"]:
        """Sigma_W = (1/N) sum_c S_c, the covariance around the class means; needs scatter "pooled" or "full".

        Every image counts the same. Biased down by (N - K)/N; NaN when there is no image.
        """
        self._need("pooled_within()", "pooled", "full")
        total = self._pooled if self.scatter == "pooled" else sum(self._full, start=np.zeros((self.dim, self.dim)))
        return self._per_image(total, self._counts.sum())

    def global_mean(self, weighting: Weighting = "classes") -> Float[np.ndarray, " feature"]:
        """mu_G: average of the class means ("classes", the default everywhere here) or of all features ("samples").

        The same thing on balanced data. Empty classes do not count; NaN when there is no image.
        """
        weights = {"classes": self._counts > 0, "samples": self._counts}[weighting].astype(np.float64)
        return self._per_image(weights @ self._means, weights.sum())

    def between(self, weighting: Weighting = "classes") -> Float[np.ndarray, "feature feature"]:
        """Sigma_B: covariance of the class means around `global_mean(weighting)`, with the same weights.

        (1/K) sum_c (mu_c - mu_G)(mu_c - mu_G)^T    or    (1/N) sum_c n_c (...)(...)^T
        """
        present = self._counts > 0
        centred = (self._means - self.global_mean(weighting))[present]
        weights = self._counts[present].astype(np.float64) if weighting == "samples" else np.ones(len(centred))
        return centred.T @ (weights[:, None] * centred) / weights.sum()

    def mapped(self, matrix: Float[np.ndarray, "feature feature"], offset: Float[np.ndarray, " feature"]) -> "Moments":
        """The moments that the same images would have after h -> A h + b; needs scatter "full".

        mu_c -> A mu_c + b,    S_c -> A S_c A^T
        """
        self._need("mapped()", "full")
        arrays, a, b = self.arrays(), np.asarray(matrix, dtype=np.float64), np.asarray(offset, dtype=np.float64)
        arrays["means"] = np.where(self._counts[:, None] > 0, self._means @ a.T + b, 0.0)
        arrays["full"] = a @ arrays["full"] @ a.T
        arrays["traces"] = np.trace(arrays["full"], axis1=1, axis2=2)
        return Moments.from_arrays(arrays)

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
        return Moments.from_arrays({name: value[rows] for name, value in self.arrays().items()})

    def arrays(self) -> dict[str, np.ndarray]:
        """The whole state as fresh arrays, for any serialiser; `from_arrays` restores it bit for bit."""
        ids = np.array(list(self._row), dtype=np.int64)
        state = {"class_ids": ids, "counts": self._counts, "means": self._means, "traces": self._traces}
        if self.scatter == "diagonal":
            state["diagonal"] = self._diagonal
        elif self.scatter == "pooled":
            state["pooled"] = self._pooled
        elif self.scatter == "full":
            state["full"] = np.array(self._full).reshape(-1, self.dim, self.dim)
        return {name: value.copy() for name, value in state.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Moments":
        """Restore moments from `arrays()`; the kind of scatter follows from the names.

        Raises:
            ValueError: missing or unknown names, shapes that do not fit together, repeated class ids.
        """
        kinds: list[Scatter] = [kind for kind in ("diagonal", "pooled", "full") if kind in arrays]
        needed = {"class_ids", "counts", "means", "traces", *kinds}
        if set(arrays) != needed or len(kinds) > 1:
            raise ValueError(
                f"Not the state of Moments: got {sorted(arrays)}, expected class_ids, counts, means,"
                " traces and at most one of diagonal, pooled, full."
            )
        k, dim = arrays["means"].shape
        shapes = {
            "class_ids": (k,),
            "counts": (k,),
            "traces": (k,),
            "means": (k, dim),
            "diagonal": (k, dim),
            "pooled": (dim, dim),
            "full": (k, dim, dim),
        }
        for name, value in arrays.items():
            if tuple(value.shape) != shapes[name]:
                raise ValueError(
                    f"Moments array {name!r} has shape {list(value.shape)}, expected {list(shapes[name])}."
                )
        ids = [int(c) for c in arrays["class_ids"].tolist()]
        if len(set(ids)) != k:
            raise ValueError(f"Moments array 'class_ids' repeats a class: {ids}.")
        moments = cls(dim, kinds[0] if kinds else "trace")
        moments._row = {c: i for i, c in enumerate(ids)}
        moments._counts = np.array(arrays["counts"], dtype=np.int64)
        moments._means = np.array(arrays["means"], dtype=np.float64)
        moments._traces = np.array(arrays["traces"], dtype=np.float64)
        moments._diagonal = np.array(arrays.get("diagonal", moments._diagonal), dtype=np.float64)
        moments._pooled = np.array(arrays.get("pooled", moments._pooled), dtype=np.float64)
        moments._full = [np.array(s, dtype=np.float64) for s in arrays.get("full", ())]
        return moments

    def _add_block(self, features: np.ndarray, labels: np.ndarray) -> None:
        from scipy.sparse import csr_array  # noqa: PLC0415 (programs that only look at moments start without it)

        ids, first, inverse, counts = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
        self.declare(ids[first.argsort()].tolist())
        rows = np.array([self._row[c] for c in ids.tolist()], dtype=np.int64)
        x, order, ends = features.astype(np.float64), inverse.argsort(kind="stable"), counts.cumsum()
        # One-hot rows [class, image]: the fastest sum over the images of each class.
        members = csr_array((np.ones(len(x)), order, np.concatenate([[0], ends])), shape=(len(ids), len(x)))
        means = members @ x / counts[:, None]
        x -= means[inverse]
        squares = np.bincount(inverse, weights=np.einsum("nd,nd->n", x, x))
        gap, weight = self._chan(rows, counts, means, squares)
        if self.scatter == "diagonal":
            within = members @ np.square(x)
            self._diagonal[rows] += within + weight[:, None] * np.square(gap)
        elif self.scatter == "pooled":
            self._pooled += x.T @ x
            self._pooled += gap.T @ (weight[:, None] * gap)
        elif self.scatter == "full":
            for i, (row, piece) in enumerate(zip(rows.tolist(), np.split(x[order], ends[:-1]), strict=True)):
                self._full[row] += piece.T @ piece + weight[i] * np.outer(gap[i], gap[i])

    def _chan(
        self, rows: np.ndarray, counts: np.ndarray, means: np.ndarray, traces: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Merge counts, means and traces of another set; return what the second moments of `rows` still need."""
        before, added = self._counts[rows].astype(np.float64), counts.astype(np.float64)
        total = (before + added).clip(min=1)  # an empty class merged with an empty class stays empty
        gap, weight = means - self._means[rows], before * added / total
        self._means[rows] += gap * (added / total)[:, None]
        self._traces[rows] += traces + weight * np.square(gap).sum(axis=1)
        self._counts[rows] += counts
        return gap, weight

    @staticmethod
    def _per_image(sums: Any, counts: Any) -> Any:
        with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 = NaN for an empty class
            return sums / counts

    def _need(self, what: str, *kinds: str) -> None:
        if self.scatter not in kinds:
            raise ValueError(f"{what} needs Moments(scatter={' or '.join(map(repr, kinds))}), got {self.scatter!r}.")


def _refuse_non_finite(features: np.ndarray, labels: np.ndarray) -> None:
    found: dict[int, int] = {}
    for start in range(0, len(features), _BLOCK):
        finite = np.isfinite(features[start : start + _BLOCK])
        if not finite.all():
            bad = labels[start : start + _BLOCK][~finite.all(axis=1)]
            for class_id in bad.tolist():
                found[class_id] = found.get(class_id, 0) + 1
    if found:
        named = ", ".join(f"class {c}: {n}" for c, n in sorted(found.items()))
        raise ValueError(f"Features with NaN or Inf in {sum(found.values())} of {len(features)} images ({named}).")
