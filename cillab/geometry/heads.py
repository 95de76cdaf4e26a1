"""Heads from what a probe keeps of training images: class means, and the scatter within classes. NumPy only.

No image is needed: a nearest-mean rule, a ridge and a discriminant are functions of these moments. None depends on the
order in which classes came. With d features, K classes and the within-class covariance modelled as

    Sigma_W = V^T diag(l) V + r (I - V^T V)

(V its leading directions, l their eigenvalues, r the average of the others), every inverse is one of size K + rank, so
that an answer takes milliseconds at any d. Without V, Sigma_W = r I with r = average variance of a feature.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float, Int

from cillab.geometry.etf import nearest_etf
from cillab.geometry.moments import Moments
from cillab.geometry.rows import centre, unit

Kind: TypeAlias = Literal["cosine", "euclidean", "ridge", "lda", "etf"]
Features: TypeAlias = Float[np.ndarray, "image feature"]
Rows: TypeAlias = Float[np.ndarray, "cls feature"]


@dataclass(frozen=True, eq=False)
class Head:
    """scores = h W^T + b, with h of length 1 if `unit`."""

    weight: Rows
    bias: Float[np.ndarray, " cls"]
    unit: bool = False

    def scores(self, features: Features) -> Float[np.ndarray, "image cls"]:
        """One score per class, in single precision: with 1,000 classes they are millions to move."""
        h = (unit(features) if self.unit else np.asarray(features)).astype(np.float32)
        scores = h @ self.weight.astype(np.float32).T
        scores += self.bias.astype(np.float32)
        return scores


@dataclass(frozen=True, eq=False)
class Statistics:
    """Moments of training images, rows in one order of classes."""

    means: Rows
    within: Float[np.ndarray, " cls"]  # mean squared distance to the class mean
    axes: Float[np.ndarray, "rank feature"] | None = None  # leading directions of Sigma_W, orthonormal
    spectrum: Float[np.ndarray, " value"] | None = None  # all its eigenvalues, descending

    @classmethod
    def measured(cls, moments: Moments) -> "Statistics":
        """Those of features: every direction of Sigma_W. Needs scatter "pooled" or "full", and no empty class.

        Raises:
            ValueError: another scatter, or a class without an image.
        """
        empty = [c for c, n in zip(moments.classes, moments.counts.tolist(), strict=True) if not n]
        if empty:
            raise ValueError(f"Classes without an image to fit on: {empty}.")
        values, vectors = np.linalg.eigh(moments.pooled_within())
        return cls(moments.means(), moments.variances(), vectors.T[::-1].copy(), values[::-1].copy())

    def of(self, rows: Sequence[int] | Int[np.ndarray, " kept"]) -> "Statistics":
        """Those of some classes; the directions of Sigma_W stay those of all."""
        index = np.asarray(rows, dtype=np.int64)
        return replace(self, means=self.means[index], within=self.within[index])

    @property
    def directions(self) -> bool:
        """Is the shape of the scatter known, not only its size?"""
        return self.axes is not None and self.spectrum is not None

    @cached_property
    def scatter(self) -> tuple[Float[np.ndarray, "rank feature"], Float[np.ndarray, " rank"], float]:
        """V, l and r of Sigma_W; no V where only the size of the scatter is known."""
        dim = self.means.shape[1]
        if self.axes is None or self.spectrum is None:
            return np.zeros((0, dim)), np.zeros(0), float(self.within.mean()) / dim
        rank, values = len(self.axes), np.asarray(self.spectrum, dtype=np.float64).clip(min=0)
        rest = float(values[rank:].mean()) if rank < dim else float(values[-1])
        return np.asarray(self.axes, dtype=np.float64), values[:rank], rest

    @property
    def scale(self) -> float:
        """Average variance of a feature over all images: what `gamma` is measured in."""
        spread = np.square(centre(self.means)).sum(axis=1).mean()
        return float(spread + self.within.mean()) / self.means.shape[1]

    def head(self, kind: Kind, gamma: float = 1e-2) -> Head:
        """A head of one kind; `gamma`, for ridge and lda, is relative to the average variance of a feature.

            cosine       cos(h, mu_c)
            euclidean    -||h - mu_c||^2, up to what all classes share
            ridge        W = (Sigma_T + gamma s I)^{-1} (M - m)^T (I - 11^T/K) / K,  b = 1/K - W m, on one-hot labels,
                         classes of equal size, Sigma_T = Sigma_W + (1/K) sum_c (mu_c - m)(mu_c - m)^T
            lda          mu_c^T S h - mu_c^T S mu_c / 2,  S = (Sigma_W + gamma s I)^{-1}
            etf          the simplex ETF nearest to the means, around their average

        Raises:
            ValueError: fewer than 2 classes, gamma not positive, or no room for an ETF.
        """
        means = np.asarray(self.means, dtype=np.float64)
        if len(means) < 2 or not gamma > 0:
            raise ValueError(f"A head needs at least 2 classes and gamma > 0, got {len(means)} and {gamma}.")
        match kind:
            case "cosine":
                return Head(unit(means), np.zeros(len(means)), unit=True)
            case "euclidean":
                return Head(means, -np.square(means).sum(axis=1) / 2)
            case "ridge":
                return self._ridge(means, gamma)
            case "lda":
                weight = self._whitened(means, gamma * self.scale)
                return Head(weight, -(weight * means).sum(axis=1) / 2)
            case "etf":
                return etf_head(means)

    def _whitened(self, rows: Rows, ridge: float) -> Rows:
        """Rows times (Sigma_W + ridge I)^{-1}: V diagonalises it."""
        axes, values, rest = self.scatter
        keep = 1 - (rest + ridge) / (values + ridge)
        return (rows - (rows @ axes.T * keep) @ axes) / (rest + ridge)

    def _ridge(self, means: Rows, gamma: float) -> Head:
        """As it is defined, or with fewer classes than features by push-through: a system of size K instead of d."""
        m, (count, dim) = means.mean(axis=0), means.shape
        centred = means - m
        if count > dim:
            axes, values, rest = self.scatter
            within = (axes.T * (values - rest)) @ axes + (rest + gamma * self.scale) * np.eye(dim)
            weight = np.linalg.solve(within + centred.T @ centred / count, centred.T).T / count
            return Head(weight, 1 / count - weight @ m)
        half = self._whitened(centred, gamma * self.scale)  # (M - m) A, A = (Sigma_W + gamma s I)^{-1}
        core = np.eye(count) + centred @ half.T / count
        weight = np.linalg.solve(core, half) / count
        weight -= weight.mean(axis=0)
        return Head(weight, 1 / count - weight @ m)


def etf_head(means: Rows) -> Head:
    """The simplex ETF nearest to class means; its logits are zero at their average."""
    etf = nearest_etf(means)
    return Head(etf, -etf @ np.asarray(means, dtype=np.float64).mean(axis=0))


def blended(head: Head, means: Rows, share: float) -> Head:
    """(1 - share) of a head and share of the nearest simplex ETF of the same size.

    Raises:
        ValueError: share outside [0, 1], or no room for an ETF.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie in [0, 1], got {share}.")
    if share == 0:
        return head
    etf = etf_head(unit(means) if head.unit else means)
    size = float(np.linalg.norm(head.weight) / np.linalg.norm(etf.weight))
    return Head(
        (1 - share) * head.weight + share * size * etf.weight, (1 - share) * head.bias + share * size * etf.bias,
        head.unit,
    )  # fmt: skip


def confidence(scores: Float[np.ndarray, "image cls"], temperature: float = 1.0) -> float:
    """Mean softmax probability of the chosen class at a temperature: accuracy does not depend on it.

    Raises:
        ValueError: a temperature that is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}.")
    if not scores.size:
        return math.nan
    spread = scores - scores.max(axis=1, keepdims=True)
    spread /= temperature
    return float((1 / np.exp(spread, out=spread).sum(axis=1)).mean())
