"""Heads in closed form over sums of all images ever seen: ridge and LDA, and the fixed features that they may read."""

import logging
import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from cillab.core.arrays import double
from cillab.core.contract import Head, State
from cillab.core.errors import DataError
from cillab.core.memory import gigabytes, must_fit
from cillab.parts.heads import columns_of, with_new
from cillab.parts.module import Classifier, ModulePart, empty

ROWS = 1024  # images whose random features are held at once
NOTHING = 1e-12  # of the mean square of the features: a variance below it is rounding
POWERS = tuple(10.0**k for k in range(-8, 9))  # the penalties that RanPAC chooses from

Reads = Callable[[Float[Tensor, "image feature"]], Float[Tensor, "image expansion"]]

log = logging.getLogger(__name__)

_MATRICES = 3  # of D^2 in float64: the sums, those before the newest task, and a factor
WORTH_SAYING = 10**9  # bytes


def bytes_while_learning(dim: int) -> int:
    """The most that the sums and solutions of a least-squares head on `dim` features take; classes come on top of it.

    Three matrices of `dim` squared in float64. A class adds about 48 bytes a feature: its column in the sums before and
    after the task and in three steps of the solution.
    """
    return _MATRICES * 8 * dim**2


@final
class RandomFeatures(ModulePart):
    """phi(h) = relu(h R) with a fixed random R: more dimensions for a linear classifier to separate classes in.

    Random projection of RanPAC (McDonnell et al., NeurIPS 2023, arXiv:2307.02251) and of MiN. `init` draws R from
    N(0, 1) or from U(-1/sqrt(n), 1/sqrt(n)) with n = number of columns. R itself is saved, so that a checkpoint depends
    on no generator's version.
    """

    def __init__(
        self, dim: int, expansion: int, init: Literal["normal", "uniform"], rng: torch.Generator, device: torch.device
    ) -> None:
        super().__init__()
        must_fit(4 * dim * expansion, f"A random matrix of {dim} x {expansion}")
        drawn = torch.empty(dim, expansion)
        if init == "normal":
            drawn.normal_(generator=rng)
        else:
            drawn.uniform_(-(expansion**-0.5), expansion**-0.5, generator=rng)
        self.register_buffer("matrix", drawn.to(device))

    matrix: Tensor

    def forward(self, features: Float[Tensor, "image feature"]) -> Float[Tensor, "image expansion"]:
        """relu(h R)."""
        return F.relu(features @ self.matrix)


@final
class FourierFeatures(ModulePart):
    """phi(h) = sqrt(2/M) cos(h W + b): products of phi are, on average over draws, a Gaussian kernel.

        E phi(h) . phi(h') = exp(-gamma ||h - h'||^2),    W ~ N(0, 2 gamma),  b ~ U[0, 2 pi]

    Source: Rahimi & Recht, NeurIPS 2007. The error of one product is about 1/sqrt(M). W / sqrt(2 gamma), gamma and b
    are saved: gamma may be set to another tensor without a new draw.
    """

    matrix: Tensor
    phase: Tensor
    gamma: Tensor

    def __init__(self, dim: int, expansion: int, gamma: float, rng: torch.Generator, device: torch.device) -> None:
        super().__init__()
        must_fit(4 * dim * expansion, f"A random matrix of {dim} x {expansion}")
        self.register_buffer("matrix", torch.randn(dim, expansion, generator=rng).to(device))
        self.register_buffer("gamma", torch.tensor(float(gamma), device=device))
        self.register_buffer("phase", (2 * math.pi * torch.rand(expansion, generator=rng)).to(device))

    def forward(self, features: Float[Tensor, "image feature"]) -> Float[Tensor, "image expansion"]:
        """In +-sqrt(2/M)."""
        angles = (2 * self.gamma).sqrt() * (features @ self.matrix) + self.phase
        return math.sqrt(2 / len(self.phase)) * torch.cos(angles)


class Sums(Classifier):
    """A linear head solved from two sums over all images ever added, Y one-hot.

        G = Phi^T Phi,    Q = Phi^T Y                                                                  (0)

    Sums know no order, no batches and no tasks, so neither does what is solved from them. They are float64. A leaf
    turns them into `weight` in `solve`. With `reads`, Phi are features of what is given.
    """

    plain = ("classes",)
    learning_only = frozenset({"gram", "cross"})
    gram: Tensor
    cross: Tensor
    weight: Tensor

    def __init__(self, dim: int, device: torch.device | None = None, *, reads: Reads | None = None) -> None:
        super().__init__()
        needed = bytes_while_learning(dim)
        must_fit(needed, f"A least-squares head on {dim} features")
        if needed >= WORTH_SAYING:
            log.warning("A least-squares head on %d features takes up to %s while it learns.", dim, gigabytes(needed))
        self._reads = (reads,)  # in a tuple: a part of the learner, not of this one
        self.register_buffer("gram", empty(dim, dim, device=device, dtype=torch.float64))
        self.register_buffer("cross", empty(dim, 0, device=device, dtype=torch.float64))
        self.register_buffer("weight", empty(dim, 0, device=device))
        self._arriving: Tensor | None = None  # Gram matrix of the images added since the last `solve`

    def phi(self, features: Float[Tensor, "image feature"]) -> Float[Tensor, "image expansion"]:
        """What the sums are over."""
        reads = self._reads[0]
        return features if reads is None else reads(features)

    def grow(self, arriving: tuple[int, ...]) -> None:
        """Zero columns for classes that have none: until the next `solve` they get the logit 0."""
        classes = with_new(self.classes, arriving)
        missing = len(classes) - len(self.classes)
        self.cross, self.weight = F.pad(self.cross, (0, missing)), F.pad(self.weight, (0, missing))
        self.classes = classes

    def add(self, features: Float[Tensor, "image feature"], labels: Int64[Tensor, " image"]) -> None:
        """Add images to the sums (0); call `solve` when all are in. Their classes may be new."""
        self.grow(tuple(dict.fromkeys(labels.tolist())))
        if self._arriving is None:
            self._arriving = torch.zeros_like(self.gram)
        self.cross = self._summed(self._arriving, self.cross, features, labels)

    def _summed(self, gram: Tensor, cross: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        """Add Phi^T Phi to `gram`, in place; returns `cross` + Phi^T Y. Random features of `ROWS` images at a time."""
        columns = columns_of(labels, self.classes).to(gram.device)
        for h, own in zip(features.split(ROWS), columns.split(ROWS), strict=True):
            phi = double(self.phi(h))
            gram.addmm_(phi.T, phi)
            cross = cross.index_add(1, own, phi.T.contiguous())
        return cross

    def _settle(self) -> None:
        """Add up what arrived; the matrix that was there before is replaced, never written."""
        if self._arriving is not None:
            self.gram, self._arriving = self._arriving.add_(self.gram), None

    @abstractmethod
    def solve(self) -> None:
        """`weight`, from the sums as they are now."""

    def forward(self, features: Float[Tensor, "image feature"]) -> Float[Tensor, "image cls"]:
        """Phi W, one column per class."""
        return self.phi(features) @ self.weight

    def load(self, state: State) -> None:
        """Take over the solution and, where the state has them, the sums."""
        super().load(state)
        self._arriving = None


@final
class Ridge(Sums):
    """The least-squares classifier with a ridge, in closed form.

        W = (G + gamma I)^{-1} Q                                                                       (1)

    over all images ever added, so the result is the joint solution whatever the order, the batches and the tasks: the
    recursive form of ACIL (Zhuang et al., NeurIPS 2022, arXiv:2205.14922) without its inverse per batch. Adding the
    same images p times equals one joint ridge with gamma / p. Keeps D^2 + D K numbers for learning and D K for
    classifying. While a task is learnt there are three matrices of D^2: the sums before it, which undoing needs, those
    with it, and a factor.
    """

    plain = ("classes", "gamma")

    def __init__(
        self, dim: int, gamma: float = 1.0, device: torch.device | None = None, *, reads: Reads | None = None
    ) -> None:
        super().__init__(dim, device, reads=reads)
        self.gamma = gamma

    def solve(self, gamma: float | None = None) -> None:
        """W of equation (1), with another ridge from now on if one is given.

        Raises:
            DataError: the features were not finite, so that G has no factorisation.
        """
        self._settle()
        self.gamma = self.gamma if gamma is None else gamma
        self.weight = solved(self.gram, self.cross, lift=self.gamma).to(self.weight)

    def best_gamma(
        self,
        features: Float[Tensor, "image feature"],
        labels: Int64[Tensor, " image"],
        held: float = 0.2,
        candidates: Sequence[float] = POWERS,
    ) -> float:
        """The candidate with the least squared error on the last `held` share of these images.

        W is fitted to what was added before them and to the others of them; one eigendecomposition of that Gram matrix
        gives all solutions: W(gamma) = V (S + gamma)^-1 V^T Q. Source: RanPAC, McDonnell et al., NeurIPS 2023,
        arXiv:2307.02251, section 4.2 (the released code solves once per candidate).
        """
        errors = self.held_errors(features, labels, held, candidates)
        return self.gamma if errors is None else candidates[int(errors.argmin())]

    def held_errors(
        self,
        features: Float[Tensor, "image feature"],
        labels: Int64[Tensor, " image"],
        held: float = 0.2,
        candidates: Sequence[float] = POWERS,
    ) -> Float[Tensor, " candidate"] | None:
        """Squared error per image for every candidate of `best_gamma`; None where no image is left to be held out."""
        self.grow(tuple(dict.fromkeys(labels.tolist())))
        self._settle()
        kept = max(1, round((1 - held) * len(features)))
        if kept == len(features):
            return None
        gram = self.gram.clone()
        cross = self._summed(gram, self.cross, features[:kept], labels[:kept])
        values, vectors = torch.linalg.eigh(gram)
        del gram
        rotated, values = vectors.T @ cross, values.clamp(min=0)
        errors = values.new_zeros(len(candidates))
        columns = columns_of(labels, self.classes).to(vectors.device)
        for h, own in zip(features[kept:].split(ROWS), columns[kept:].split(ROWS), strict=True):
            seen, y = double(self.phi(h)) @ vectors, F.one_hot(own, len(self.classes))
            errors += torch.stack([(seen / (values + g) @ rotated - y).square().sum() for g in candidates])
        return errors / (len(features) - kept)

    def rows(self) -> Head:
        """W; its rows live in the space of Phi."""
        return Head(self.weight.T.contiguous(), None)


@final
class LDA(Sums):
    """Linear discriminant analysis: one Gaussian per class, all with the same covariance.

        S = (1/n) sum (phi - mu_y)(phi - mu_y)^T = (G - sum_c n_c mu_c mu_c^T) / n                     (1)
        Sigma = (1 - a) S + a (tr S / d) I + r I                                                       (2)
        logit_c = phi . w_c - mu_c . w_c / 2 + [log n_c / n],    w_c = Sigma^{-1} mu_c                 (3)

    a is `shrinkage`, or what `oas` says where that is None; r is `ridge`; the last term is there with `prior`. The
    same whatever the order, the batches and the tasks, which the streaming form of Deep SLDA (Hayes & Kanan, CVPR-W
    2020, arXiv:1909.01520) is not: its weight n/(n+1) is that of the images and not of the class. Keeps D^2 + D K + K
    numbers for learning, D K + K for classifying.
    """

    plain = ("classes",)
    learning_only = frozenset({"gram", "cross", "counts"})
    counts: Tensor
    bias: Tensor

    def __init__(
        self,
        dim: int,
        device: torch.device | None = None,
        *,
        shrinkage: float | None = 0.0,
        ridge: float = 0.0,
        prior: bool = False,
        reads: Reads | None = None,
    ) -> None:
        super().__init__(dim, device, reads=reads)
        self.shrinkage, self.ridge, self.prior = shrinkage, ridge, prior
        self.register_buffer("counts", empty(0, device=device, dtype=torch.int64))
        self.register_buffer("bias", empty(0, device=device))

    def grow(self, arriving: tuple[int, ...]) -> None:
        """As every head of sums, with a count and a bias."""
        super().grow(arriving)
        missing = len(self.classes) - len(self.counts)
        self.counts, self.bias = F.pad(self.counts, (0, missing)), F.pad(self.bias, (0, missing))

    def add(self, features: Float[Tensor, "image feature"], labels: Int64[Tensor, " image"]) -> None:
        """Add images to sums and counts; call `solve` when all are in. Their classes may be new."""
        super().add(features, labels)
        columns = columns_of(labels, self.classes)
        self.counts = self.counts.index_add(0, columns, torch.ones_like(columns))

    def covariance(self) -> Float[Tensor, "feature feature"]:
        """S of equation (1), float64."""
        self._settle()
        counts = self.counts.to(self.gram.device)
        return torch.addmm(self.gram, self.cross / counts.clamp(min=1), self.cross.T, alpha=-1).div_(counts.sum())

    def solve(self) -> None:
        """W and b of equation (3).

        Where no class has two different images S says nothing, and Sigma is I: the nearest mean.

        Raises:
            DataError: Sigma has no factorisation: the features were not finite, or too few for no shrinkage.
        """
        s = self.covariance()
        a = oas(s, int(self.counts.sum())) if self.shrinkage is None else self.shrinkage
        counts = self.counts.to(s.device)
        means = self.cross / counts.clamp(min=1)
        spread = float(s.diagonal().mean())
        if spread <= NOTHING * float(self.gram.diagonal().mean()):  # one image a class: S is 0 but for rounding
            a, spread = 1.0, 0.0 if self.ridge else 1.0
        weight = solved(s, means, scale=1 - a, lift=a * spread + self.ridge)
        bias = -(means * weight).sum(dim=0) / 2
        if self.prior:
            bias = bias + (counts.clamp(min=1) / counts.sum()).log()
        self.weight, self.bias = weight.to(self.weight), bias.to(self.bias)

    def forward(self, features: Float[Tensor, "image feature"]) -> Float[Tensor, "image cls"]:
        """Log posteriors up to a term that all classes share."""
        return super().forward(features) + self.bias

    def rows(self) -> Head:
        """w_c and b."""
        return Head(self.weight.T.contiguous(), self.bias)


def oas(s: Float[Tensor, "feature feature"], images: int) -> float:
    """How much of the covariance `s` of so many images to give to a multiple of the identity, in [0, 1].

    Oracle approximating shrinkage, Chen, Wiesel, Eldar & Hero, IEEE TSP 58(10) 2010, as scikit-learn has it.
    """
    dim = len(s)
    mean_square, square_mean = float(s.square().mean()), float(s.diagonal().mean()) ** 2
    most = (images + 1) * (mean_square - square_mean / dim)
    return 1.0 if most <= 0 else min((mean_square + square_mean) / most, 1.0)


def solved(
    matrix: Float[Tensor, "feature feature"],
    right: Float[Tensor, "feature cls"],
    *,
    scale: float = 1.0,
    lift: float = 0.0,
) -> Float[Tensor, "feature cls"]:
    """(scale * matrix + lift * I)^-1 right, for a symmetric positive definite system, by its Cholesky factor.

    The factor is the one matrix of that size that is made beside `matrix`: `torch.cholesky_solve` would copy it.
    The result lies row by row, as files keep it: products with it then round the same after a checkpoint.

    Raises:
        DataError: there is no factor.
    """
    system = matrix * scale
    system.diagonal().add_(lift)
    lower, failed = system.mT, torch.zeros((), dtype=torch.int32, device=matrix.device)
    torch.linalg.cholesky_ex(lower, out=(lower, failed))  # in the order of LAPACK: written in place
    if int(failed):
        few = bool(right.isfinite().all())
        why = "too few images for so little ridge or shrinkage" if few else "features are not finite"
        raise DataError(f"The system has no Cholesky factor: {why}.")
    half = torch.linalg.solve_triangular(lower, right, upper=False)
    return torch.linalg.solve_triangular(lower.mT, half, upper=True).contiguous()
