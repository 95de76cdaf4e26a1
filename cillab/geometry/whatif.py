"""Live what-ifs on fixed features: change the head, leave classes out, and read accuracy and collapse at once.

Everything that does not depend on the question is worked out once: the nearest mean of each image, Gram matrices of the
class means, the scatter of each class seen from the means, one eigendecomposition for every ridge. A question then
costs one product [image, feature] x [feature, class] and some K x K algebra. Float64; equal to `collapse` on the same
features.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cillab.geometry import nc1, nc3
from cillab.geometry.etf import nearest_etf


@dataclass(frozen=True)
class Question:
    """What is changed; the defaults change nothing. `classes` are class ids."""

    weight: Float[Tensor, "cls feature"] | None = None  # another head, instead of the learner's
    bias: Float[Tensor, " cls"] | None = None  # goes with `weight`; None = no bias
    gamma: float | None = None  # a ridge head with this penalty, instead of any other
    blend: float = 0.0  # 0 = that head, 1 = the nearest simplex ETF, of the same norm
    temperature: float = 1.0  # divides the logits: confidence changes, decisions do not
    dropped: tuple[int, ...] = ()  # classes left out: neither asked for nor to choose from


@dataclass(frozen=True, eq=False)
class Answer:
    """Numbers of one question; rows of per-class detail follow `classes`. What is undefined is NaN."""

    classes: tuple[int, ...]
    accuracy: float
    old_accuracy: float
    new_accuracy: float
    confidence: float  # mean probability of the chosen class
    nc1: float
    nc1_quotient: float
    cdnv: float
    nc2_equinorm: float
    nc2_equiangularity: float
    nc2_maximal_angle: float
    nc3_distance: float
    nc3_cosine: float
    nc3_uniformity: float
    nc4: float
    cosines: Float[Tensor, " cls"]  # of head rows and centred means
    recall: Float[Tensor, " cls"]
    predictions: Int[Tensor, " kept"]  # class ids, for the images in `kept`
    kept: Bool[Tensor, " image"]  # images of classes that were not dropped


@final
class WhatIf:
    """One snapshot, prepared to be asked.

    Class means, scatter and the ridge come from `fit` (features and labels of training images); without it they come
    from the images themselves, and accuracy of the ridge is then that of a head on its own training images.
    """

    def __init__(
        self,
        features: Float[Tensor, "image feature"],
        labels: Int[Tensor, " image"],
        classes: Sequence[int],
        weight: Float[Tensor, "cls feature"],
        bias: Float[Tensor, " cls"] | None = None,
        *,
        fit: tuple[Float[Tensor, "train feature"], Int[Tensor, " train"]] | None = None,
        new_classes: Iterable[int] = (),
    ) -> None:
        """Prepare once; `classes` name the rows of `weight`, `new_classes` those of the newest task.

        Raises:
            ValueError: shapes that do not fit, a label without a row, a class without an image to fit on.
        """
        self.classes = tuple(int(c) for c in classes)
        self.features = features.double()
        self.weight, self.bias = weight.double(), None if bias is None else bias.double()
        if self.weight.shape != (len(self.classes), self.features.shape[1]):
            raise ValueError(
                f"A head for these features is [{len(self.classes)}, {self.features.shape[1]}], got "
                f"{list(self.weight.shape)}."
            )
        self._row = {c: i for i, c in enumerate(self.classes)}
        self.rows = self._rows_of(labels)
        self.new = torch.tensor([c in set(new_classes) for c in self.classes], device=self.features.device)
        self._x, self._y = (self.features, self.rows) if fit is None else (fit[0].double(), self._rows_of(fit[1]))
        self.counts = torch.bincount(self._y, minlength=len(self.classes))
        if bool((self.counts == 0).any()):
            empty = [c for c, n in zip(self.classes, self.counts.tolist(), strict=True) if not n]
            raise ValueError(f"Classes without an image to fit on: {empty}.")
        zero = torch.zeros(len(self.classes), self._x.shape[1], dtype=torch.float64, device=self._x.device)
        self.means = zero.index_add_(0, self._y, self._x) / self.counts[:, None]
        origin = self.means.mean(dim=0)  # a shift: no digits are lost to a large common mean
        mu, residual = self.means - origin, self._x - self.means[self._y]
        self._variances = torch.zeros_like(mu[:, 0]).index_add_(0, self._y, residual.square().sum(dim=1)) / self.counts
        self._gram = mu @ mu.T
        self._affinity = (self.features - origin) @ mu.T - mu.square().sum(dim=1) / 2  # largest = nearest mean
        seen = residual @ mu.T  # each class's scatter, seen along the means: all that NC1 needs of it
        self._scatter = torch.stack([s.T @ s for s in (seen[self._y == i] for i in range(len(self.classes)))])
        self._whole = self._scatter.sum(dim=0)
        self._last: tuple[tuple[int, ...], dict[str, float]] | None = None

    def ask(self, question: Question | None = None, **changed: object) -> Answer:
        """Answer one question, given whole or by its fields.

        Raises:
            ValueError: an unknown class, fewer than 2 classes left, gamma or temperature not positive, blend outside
                [0, 1], a head that does not fit.
        """
        q = replace(question or Question(), **changed)  # type: ignore[arg-type]
        keep = self._kept_rows(q)
        weight, _, logits = self._head(q)
        logits = logits[:, keep] / q.temperature
        image = torch.isin(self.rows, keep)
        logits, truth = logits[image], torch.searchsorted(keep, self.rows[image])
        chosen = logits.argmax(dim=1)
        right, k = (chosen == truth).double(), len(keep)
        hits, totals = torch.bincount(truth, weights=right, minlength=k), torch.bincount(truth, minlength=k)
        new = self.new[keep][truth]
        duality = nc3.nc3(weight[keep], self.means[keep])
        return Answer(
            classes=tuple(self.classes[i] for i in keep.tolist()),
            accuracy=_mean(right),
            old_accuracy=_mean(right[~new]),
            new_accuracy=_mean(right[new]),
            confidence=_mean(1 / (logits - logits.amax(dim=1, keepdim=True)).exp().sum(dim=1)),
            **self._means_only(tuple(keep.tolist())),
            nc3_distance=duality.distance,
            nc3_cosine=duality.mean_cosine,
            nc3_uniformity=duality.uniformity,
            nc4=_mean((chosen == self._affinity[image][:, keep].argmax(dim=1)).double()),
            cosines=duality.cosines,
            recall=hits / totals,
            predictions=torch.tensor(self.classes, device=chosen.device)[keep][chosen],
            kept=image,
        )

    @cached_property
    def etf(self) -> Float[Tensor, "cls feature"]:
        """The simplex ETF nearest to the class means, as long (Frobenius) as the learner's head."""
        etf = nearest_etf(self.means)
        return etf * (self.weight.norm() / etf.norm())

    def ridge(self, gamma: float) -> tuple[Float[Tensor, "cls feature"], Float[Tensor, " cls"]]:
        """Ridge head on one-hot labels: weight and bias, from one eigendecomposition for every gamma.

        W = (X^T X + gamma I)^{-1} X^T Y,    X, Y centred (the bias is not penalised)
        """
        values, vectors, target, origin, prior = self._eigen
        weight = (target / (values + gamma)[:, None]).T @ vectors.T
        return weight, prior - weight @ origin

    @cached_property
    def _eigen(self) -> tuple[Tensor, ...]:
        origin = self._x.mean(dim=0)
        x, y = self._x - origin, torch.nn.functional.one_hot(self._y, len(self.classes)).double()
        prior = y.mean(dim=0)
        values, vectors = torch.linalg.eigh(x.T @ x)
        return values.clamp(min=0), vectors, vectors.T @ (x.T @ (y - prior)), origin, prior

    @cached_property
    def _logits(self) -> Float[Tensor, "image cls"]:
        scores = self.features @ self.weight.T
        return scores if self.bias is None else scores + self.bias

    def _head(self, q: Question) -> tuple[Tensor, Tensor | None, Tensor]:
        if q.gamma is not None:
            weight, bias = self.ridge(q.gamma)
        elif q.weight is not None:
            weight, bias = q.weight.double(), None if q.bias is None else q.bias.double()
            if weight.shape != self.weight.shape:
                raise ValueError(f"Expected a head {list(self.weight.shape)}, got {list(weight.shape)}.")
        elif q.blend == 0:
            return self.weight, self.bias, self._logits
        else:
            weight, bias = self.weight, self.bias
        if q.blend:
            etf = self.etf * (weight.norm() / self.etf.norm())
            # The ETF stands around the centre of the means: there its logits are zero.
            around = -etf @ self.means.mean(dim=0)
            bias = (1 - q.blend) * (torch.zeros_like(around) if bias is None else bias) + q.blend * around
            weight = (1 - q.blend) * weight + q.blend * etf
        scores = self.features @ weight.T
        return weight, bias, scores if bias is None else scores + bias

    def _means_only(self, kept: tuple[int, ...]) -> dict[str, float]:
        """NC1 and NC2, which no head can change: remembered for the classes asked for last."""
        if self._last is None or self._last[0] != kept:
            self._last = kept, self._collapse(torch.tensor(kept, device=self.features.device))
        return self._last[1]

    def _collapse(self, keep: Int[Tensor, " cls"]) -> dict[str, float]:
        """NC1 and NC2 of the classes kept, from K x K matrices: the same numbers as `collapse`."""
        k, counts, variances = len(keep), self.counts[keep], self._variances[keep]
        gram = _doubly_centred(self._gram[keep][:, keep])
        squared = self._gram.diagonal()[keep]
        distances = (squared[:, None] + squared - 2 * self._gram[keep][:, keep]).clamp(min=0)
        off = ~torch.eye(k, dtype=torch.bool, device=gram.device)
        # Fewer classes are dropped than kept: subtract their scatter from the sum of all.
        gone = torch.ones(len(self.classes), dtype=torch.bool, device=keep.device).index_fill_(0, keep, False)
        scatter = (
            self._whole - self._scatter[gone].sum(dim=0) if 2 * k > len(self.classes) else self._scatter[keep].sum(0)
        )
        within = _doubly_centred(scatter[keep][:, keep]) / counts.sum()
        values, vectors = torch.linalg.eigh(gram)
        values, vectors = values.flip(0)[: k - 1], vectors.flip(1)[:, : k - 1]
        found = values > nc1.CUTOFF * values[0]
        values, vectors = values[found], vectors[:, found]
        spread = ((vectors.T @ within) * vectors.T).sum(dim=1)
        norms = gram.diagonal().clamp(min=0).sqrt()
        pairs = (gram / norms[:, None] / norms)[off]
        return {
            "nc1": float((spread / values.square()).sum()),
            "nc1_quotient": float((counts * variances).sum() / counts.sum() / (gram.trace() / k)),
            "cdnv": float(((variances[:, None] + variances) / (2 * distances))[off].mean()),
            "nc2_equinorm": float(norms.std(correction=0) / norms.mean()),
            "nc2_equiangularity": float(pairs.std(correction=0)) if k > 2 else math.nan,
            "nc2_maximal_angle": float((pairs + 1 / (k - 1)).abs().mean()),
        }

    def _kept_rows(self, q: Question) -> Int[Tensor, " cls"]:
        unknown = sorted(set(q.dropped) - set(self.classes))
        if unknown:
            raise ValueError(f"Cannot drop classes {unknown}. Valid: {list(self.classes)}.")
        if not 0 <= q.blend <= 1 or q.temperature <= 0 or (q.gamma is not None and q.gamma <= 0):
            raise ValueError(
                f"Needs 0 <= blend <= 1, temperature > 0, gamma > 0, got {q.blend}, {q.temperature}, {q.gamma}."
            )
        keep = [i for i, c in enumerate(self.classes) if c not in set(q.dropped)]
        if len(keep) < 2:
            raise ValueError(f"At least 2 classes must stay, got {len(keep)}.")
        return torch.tensor(keep, device=self.features.device)

    def _rows_of(self, labels: Int[Tensor, " image"]) -> Int[Tensor, " image"]:
        ids, inverse = torch.unique(labels, return_inverse=True)
        unknown = [c for c in ids.tolist() if c not in self._row]
        if unknown:
            raise ValueError(f"labels {unknown} have no row in classes {list(self.classes)}.")
        rows = torch.tensor([self._row[c] for c in ids.tolist()], dtype=torch.int64, device=self.features.device)
        return rows[inverse.to(rows.device)]


def _doubly_centred(matrix: Float[Tensor, "cls cls"]) -> Float[Tensor, "cls cls"]:
    """J A J with J = I - 11^T/K: products of vectors become products of vectors minus their average."""
    return matrix - matrix.mean(dim=0) - matrix.mean(dim=1, keepdim=True) + matrix.mean()


def _mean(values: Tensor) -> float:
    return float(values.mean()) if len(values) else math.nan
