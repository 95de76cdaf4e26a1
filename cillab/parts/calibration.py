"""Stored Gaussians of old classes follow the encoder: it moved, their images are gone, the new task's images are not.

The images of the current task pass through the encoder before and after its update. What happened to them is carried
over to the stored moments of the old classes. Each function takes the memory and the pairs and returns a new memory.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cillab.core.arrays import double, through_numpy
from cillab.geometry.transport import class_plan, gaussian_costs, gaussian_map, shrink
from cillab.parts.gaussian_memory import GaussianMemory

Calibration = Literal["gaussian", "plan", "shift", "paired", "none"]


class Pairs(NamedTuple):
    """The same images under the old and the new encoder, in the same order."""

    old: Float[Tensor, "image feature"]
    new: Float[Tensor, "image feature"]
    labels: Int64[Tensor, " image"]


class Affine(NamedTuple):
    """x -> A x + b, in float64."""

    a: Float[Tensor, "feature feature"]
    b: Float[Tensor, " feature"]


def moments(h: Float[Tensor, "image feature"]) -> tuple[Float[Tensor, " feature"], Float[Tensor, "feature feature"]]:
    """Mean and covariance (divided by n), float64."""
    x = double(h)
    mean = x.mean(dim=0)
    return mean, (x - mean).T @ (x - mean) / len(x)


def gaussian_transport(pairs: Pairs, shrinkage: float = 0.05) -> Affine:
    """The optimal map between the Gaussians of old and new features, pairing ignored.

        S <- (1 - a) S + a (tr S / d) I   for both,     A = S_o^{-1/2} (S_o^{1/2} S_n S_o^{1/2})^{1/2} S_o^{-1/2}

    Shrinkage makes A go to a multiple of the identity in directions that the task's images do not populate. It sees
    neither a rotation that leaves the two laws as they are, nor which image went where: `paired_transport` does.
    Images all alike (one image) have no covariance to transport: then only the mean moves, A = I.
    """
    (mean_o, cov_o), (mean_n, cov_n) = moments(pairs.old), moments(pairs.new)
    if min(float(cov_o.trace()), float(cov_n.trace())) <= 0:
        return Affine(torch.eye(len(mean_o), dtype=mean_o.dtype, device=mean_o.device), mean_n - mean_o)

    def shrunk(mean_s: np.ndarray, cov_s: np.ndarray, mean_t: np.ndarray, cov_t: np.ndarray) -> tuple:
        return gaussian_map(mean_s, shrink(cov_s, shrinkage), mean_t, shrink(cov_t, shrinkage))

    return Affine(*through_numpy(shrunk, mean_o, mean_o, cov_o, mean_n, cov_n))


def paired_transport(pairs: Pairs, shrinkage: float = 0.05) -> Affine:
    """The least-squares map from each image's old feature to its new one: a control that sees rotations.

        B = I + C (S_o + a (tr S_o / d) I)^{-1},   C = cov(v_n - v_o, v_o),   b = m_n - B m_o

    The ridge pulls towards the identity: directions without data do not move. B is not symmetric in general, and
    residuals of the fit are lost: B S B^T has less spread than the new features.
    """
    mean_o, cov_o = moments(pairs.old)
    mean_n = double(pairs.new).mean(dim=0)
    eye = torch.eye(len(mean_o), dtype=mean_o.dtype, device=mean_o.device)
    centred = double(pairs.old) - mean_o
    cross = (double(pairs.new) - double(pairs.old) - (mean_n - mean_o)).T @ centred / len(centred)
    ridge = cov_o + (shrinkage * cov_o.trace() / len(mean_o) + 1e-12) * eye
    b = eye + torch.linalg.solve(ridge, cross.T).T
    return Affine(b, mean_n - b @ mean_o)


def gaussian(memory: GaussianMemory, pairs: Pairs, shrinkage: float = 0.05, epsilon: float = 0.05) -> GaussianMemory:
    """One optimal map for all old classes: mu <- A mu + b, S <- A S A."""
    return memory.moved(*gaussian_transport(pairs, shrinkage))


def paired(memory: GaussianMemory, pairs: Pairs, shrinkage: float = 0.05, epsilon: float = 0.05) -> GaussianMemory:
    """One least-squares map for all old classes: mu <- B mu + b, S <- B S B^T."""
    return memory.moved(*paired_transport(pairs, shrinkage))


def shift(memory: GaussianMemory, pairs: Pairs, shrinkage: float = 0.05, epsilon: float = 0.05) -> GaussianMemory:
    """Means alone: each old class moves as the new classes near it moved on average.

        mu_c <- mu_c + sum_k w_ck (m_n,k - m_o,k)

    w is the transport plan from old classes to new ones on squared distances of means, rows normalised: SDC (Yu et
    al., CVPR 2020, arXiv:2004.00440) with a plan in place of its Gaussian window.
    """
    old, new = _by_class(memory, pairs)
    weights = _weights(memory, old, epsilon)
    moved = double(memory.means) + weights @ (double(new.means) - double(old.means))
    return memory.replaced(moved, memory.covariances)


def plan(memory: GaussianMemory, pairs: Pairs, shrinkage: float = 0.05, epsilon: float = 0.05) -> GaussianMemory:
    """Every new class has a map of its own; an old class moves by their average, weighted by the transport plan.

        mu_c <- sum_k w_ck (A_k mu_c + b_k),    S_c <- A_c S_c A_c with A_c = sum_k w_ck A_k

    w as in `shift`, with the W2 distance of Gaussians as its cost.
    """
    old, _ = _by_class(memory, pairs)
    weights = _weights(memory, old, epsilon, shapes=True)
    maps = [
        gaussian_transport(Pairs(*(h[pairs.labels == c] for h in pairs)), shrinkage) for c in old.classes
    ]  # in the order of the plan's columns
    a = torch.einsum("ck,kij->cij", weights, torch.stack([m.a for m in maps]))
    b = weights @ torch.stack([m.b for m in maps])
    return memory.moved(a, b)


def none(memory: GaussianMemory, pairs: Pairs, shrinkage: float = 0.05, epsilon: float = 0.05) -> GaussianMemory:
    """As it was."""
    return memory.replaced(memory.means.clone(), memory.covariances.clone())


CALIBRATIONS: dict[Calibration, Callable[[GaussianMemory, Pairs, float, float], GaussianMemory]] = {
    "gaussian": gaussian,
    "plan": plan,
    "shift": shift,
    "paired": paired,
    "none": none,
}


def _by_class(memory: GaussianMemory, pairs: Pairs) -> tuple[GaussianMemory, GaussianMemory]:
    """Moments of the new task's classes under the old and under the new encoder."""
    sides = []
    for h in (pairs.old, pairs.new):
        side = GaussianMemory(h.shape[1], memory.kind, memory.means.device)
        side.add(h, pairs.labels)
        sides.append(side)
    return sides[0], sides[1]


def _weights(
    memory: GaussianMemory, targets: GaussianMemory, epsilon: float, *, shapes: bool = False
) -> Float[Tensor, "cls target"]:
    """Rows of the Sinkhorn plan from old classes to those of the task, each summing to 1."""
    if shapes:
        cost = through_numpy(gaussian_costs, memory.means, memory.means, memory.dense(), targets.means, targets.dense())
    else:
        cost = torch.cdist(double(memory.means), double(targets.means)).square()
    found = through_numpy(class_plan, cost, cost, regularisation=epsilon)
    return found / found.sum(dim=1, keepdim=True)
