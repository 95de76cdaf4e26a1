"""The Gaussian classifier: a class is a mean and a covariance, an image goes to the least Mahalanobis distance."""

from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from cillab.core.arrays import double
from cillab.core.contract import Head, State
from cillab.core.errors import DataError, InvalidRequestError
from cillab.parts.gaussian_memory import Covariance, GaussianMemory
from cillab.parts.module import Classifier

_CLASSES = 16  # systems that are solved at once


@final
class Gaussian(Classifier):
    """Mahalanobis distances to class means, each class with its covariance, or all with one.

        S'_c = S_c + a mean(diag S_c) I + b mean(offdiag S_c) (11^T - I)                               (1)
        R_c = S'_c, ij / sqrt(S'_c, ii S'_c, jj)     if `correlate`, else S'_c                         (2)
        logit_c = -(h - mu_c)^T R_c^{-1} (h - mu_c)   [- log det R_c, with `likelihood`]               (3)

    h and mu_c have length 1 in (3) if `unit`. With `likelihood` (3) is twice the log density, up to a constant. Source
    of (1) to (3): FeCAM, Goswami et al., NeurIPS 2023, arXiv:2309.14062. What is kept of S_c says `kind` (see
    GaussianMemory): with "full" K d^2 numbers, and as many again for their roots while it classifies; with "pooled",
    "diagonal" or "low-rank" 1,000 classes of 768 features need less than 200 MB in all. S_c is kept as float32, roots
    are taken in float64.
    """

    plain = ("classes", "images")

    def __init__(
        self,
        dim: int,
        kind: Covariance = "full",
        device: torch.device | None = None,
        *,
        rank: int = 16,
        shrink: tuple[float, float] = (1.0, 0.0),
        correlate: bool = False,
        unit: bool = False,
        likelihood: bool = False,
    ) -> None:
        super().__init__()
        if shrink[1] and kind in ("diagonal", "low-rank"):
            raise InvalidRequestError(f"A covariance kept as {kind!r} has no mean off-diagonal to shrink towards.")
        self.moments = GaussianMemory(dim, kind, device, rank=rank)
        self.shrink, self.correlate, self.unit, self.likelihood = shrink, correlate, unit, likelihood
        self._ready: _Metric | None = None  # roots, made when the first image comes after a change

    def grow(self, arriving: tuple[int, ...]) -> None:
        """A point at zero for every class in `arriving` that has none."""
        self.moments.grow(arriving)
        self.classes, self._ready = self.moments.classes, None

    def add(self, features: Float[Tensor, "image feature"], labels: Int64[Tensor, " image"]) -> None:
        """Add images of any classes, new ones included."""
        self.moments.add(features, labels)
        self.classes, self._ready = self.moments.classes, None

    def forward(self, features: Float[Tensor, "image feature"]) -> Float[Tensor, "image cls"]:
        """Equation (3)."""
        if self._ready is None:
            with torch.no_grad():
                self._ready = self._metric()
        h = F.normalize(features, dim=-1) if self.unit else features
        return self._ready.scores(h, self.centres())

    @property
    def images(self) -> int:
        """How many were added: the weight of what is pooled."""
        return self.moments.images

    @images.setter
    def images(self, count: int) -> None:
        self.moments.images = count

    def centres(self) -> Float[Tensor, "cls feature"]:
        """mu_c as (3) has it."""
        return F.normalize(self.moments.means, dim=-1) if self.unit else self.moments.means

    def _metric(self) -> "_Metric":
        m, (own, off) = self.moments, self.shrink
        variances = double(m.variances())
        lift = own * variances.mean(dim=1, keepdim=True) + 1e-12
        if m.kind in ("diagonal", "low-rank"):
            scale = variances + lift if self.correlate else torch.ones_like(variances)
            factors = double(m.factors) / scale[:, None].sqrt() if m.kind == "low-rank" else None
            return _Thin((double(m.covariances) + lift) / scale, factors, self.likelihood)
        roots = [self._dense_root(part, off, lift) for part, lift in zip(
            m.covariances.split(_CLASSES), lift[: len(m.covariances)].split(_CLASSES), strict=True)]  # fmt: skip
        return _Dense(torch.cat(roots), self.likelihood)

    def _dense_root(self, s: Tensor, off: float, lift: Tensor) -> Tensor:
        """Cholesky factors of R."""
        device, s = s.device, double(s)
        if off:
            dim = s.shape[1]
            diagonal = s.diagonal(dim1=1, dim2=2)
            mean = (s.sum(dim=(1, 2)) - diagonal.sum(dim=1)) / (dim * (dim - 1))
            s = s + off * mean[:, None, None] * (1 - torch.eye(dim, device=s.device, dtype=s.dtype))
        s.diagonal(dim1=1, dim2=2).add_(lift)
        if self.correlate:
            sd = s.diagonal(dim1=1, dim2=2).sqrt()
            s = s / sd[:, :, None] / sd[:, None, :]
        factor, failed = torch.linalg.cholesky_ex(s)
        if int(failed.max()):
            raise DataError("A class covariance has no Cholesky factor: features are not finite, or shrink more.")
        return factor.float().to(device)

    def rows(self) -> Head:
        """The means."""
        return Head(self.centres(), None)

    def load(self, state: State) -> None:
        """Take over the moments."""
        super().load(state)
        self.moments.classes, self._ready = self.classes, None


class _Metric:
    """Quadratic forms of all classes."""

    def scores(self, h: Float[Tensor, "image feature"], centres: Float[Tensor, "cls feature"]) -> Tensor:
        """Minus squared distances, minus log determinants where they count."""
        raise NotImplementedError


@final
class _Dense(_Metric):
    """L of every class, R = L L^T; or one L for all."""

    def __init__(self, roots: Float[Tensor, "cls feature feature"], likelihood: bool) -> None:
        self.roots = roots
        self.log_det = 2 * roots.diagonal(dim1=1, dim2=2).log().sum(dim=1) if likelihood else None

    def scores(self, h: Float[Tensor, "image feature"], centres: Float[Tensor, "cls feature"]) -> Tensor:
        """By triangular systems, some classes at a time."""
        if len(self.roots) == 1:
            h, centres = (torch.linalg.solve_triangular(self.roots[0], x.T, upper=False).T for x in (h, centres))
            found = -torch.cdist(h, centres, compute_mode="donot_use_mm_for_euclid_dist").square()
        else:
            gaps = ((h[None] - c[:, None]).mT for c in centres.split(_CLASSES))  # [cls, feature, image]
            systems = zip(self.roots.split(_CLASSES), gaps, strict=True)
            white = [torch.linalg.solve_triangular(root, gap, upper=False).square().sum(dim=1) for root, gap in systems]
            found = -torch.cat(white).T
        return found if self.log_det is None else found - self.log_det


@final
class _Thin(_Metric):
    """R = F^T F + diag(v) of every class, or diag(v): products of d rank numbers by Woodbury's identity, in float64."""

    def __init__(
        self, v: Float[Tensor, "cls feature"], factors: Float[Tensor, "cls rank feature"] | None, likelihood: bool
    ) -> None:
        self.weights = 1 / v
        self.log_det = v.log().sum(dim=1) if likelihood else None
        self.pull: Tensor | None = None
        if factors is not None:
            weighted = factors * self.weights[:, None]
            inner = factors @ weighted.mT
            inner.diagonal(dim1=1, dim2=2).add_(1)
            root = torch.linalg.cholesky(inner)
            self.pull = torch.linalg.solve_triangular(root, weighted, upper=False)
            if self.log_det is not None:
                self.log_det = self.log_det + 2 * root.diagonal(dim1=1, dim2=2).log().sum(dim=1)

    def scores(self, h: Float[Tensor, "image feature"], centres: Float[Tensor, "cls feature"]) -> Tensor:
        """(h - mu)^T (diag(w) - P^T P) (h - mu), w = 1/v and P = `pull`."""
        x, mu, w = double(h), double(centres), self.weights
        found = x.square() @ w.T - 2 * x @ (mu * w).T + (mu.square() * w).sum(dim=1)
        if self.pull is not None:
            gap = torch.einsum("bd,krd->bkr", x, self.pull) - torch.einsum("kd,krd->kr", mu, self.pull)
            found = found - gap.square().sum(dim=2)
        found = -found if self.log_det is None else -found - self.log_det
        return found.to(h)
