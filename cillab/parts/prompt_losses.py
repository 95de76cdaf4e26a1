"""Losses that keep the geometry of text prototypes while prompts are trained on few images.

All three are those of CPT (Guo et al., CVPR 2026, arXiv:2605.11939). Prototypes are compared by direction: every loss
normalises what it is given, except `rotation_stabilisation(..., normalised=False)`.
"""

import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from cillab.core.arrays import counted


def textual_etf(
    prototypes: Float[Tensor, "cls feature"], clusters: Int64[Tensor, " cls"], *, per_pair: bool = False
) -> Float[Tensor, ""]:
    """Spread the prototypes of each cluster like a simplex ETF; prototypes of different clusters do not meet.

        (1/M) sum_m sum_{i != j in cluster m} (cos(g_i, g_j) + 1/(k_m - 1))^2

    k_m = size of cluster m, M = number of clusters. The paper writes || C_m + (11^T - I)/(k_m - 1) ||_F^2: its diagonal
    adds the constant k_m per cluster, which has no gradient and is left out, so the minimum is 0. A cluster of one
    counts 0; two are pushed to opposite ends. `per_pair` divides each cluster's sum by k_m (k_m - 1): from about 100 to
    at most about 1, where the weight 0.25 no longer drowns the cross-entropy. One cluster is the global ETF.
    """
    unit = F.normalize(prototypes, dim=-1)
    sizes = counted(clusters, len(clusters))
    others = (sizes[clusters] - 1).clamp(min=1).to(unit)
    together = clusters[:, None] == clusters
    together = together & ~together.new_ones(len(clusters)).diag()
    squares = (unit @ unit.T + 1 / others[:, None]).square().masked_fill(~together, 0)
    if per_pair:
        squares = squares / (others * (others + 1))[:, None]
    return squares.sum() / (sizes > 0).sum().clamp(min=1)


def class_convergence(
    features: Float[Tensor, "image feature"],
    columns: Int64[Tensor, " image"],
    prototypes: Float[Tensor, "cls feature"],
    counts: Int64[Tensor, " cls"] | None = None,
) -> Float[Tensor, ""]:
    """Draw images to the prototype of their class; each class counts the same, however few images it has.

        mean over classes of  mean over its images of  || f/||f|| - g/||g|| ||^2  =  2 - 2 mean cos,    in [0, 4]

    `columns` are rows of `prototypes`. Without `counts` the mean is over what is given, in a batch over the classes in
    the batch; a class of one image is in few batches then, and counts less than one of many. With `counts`, the images
    of each class in the whole set, every image weighs N / (C N_c): a batch drawn at random has the equation over the
    whole set as its expectation. N = images, C = classes with images.
    """
    distance = 2 - 2 * (F.normalize(features, dim=-1) * F.normalize(prototypes, dim=-1)[columns]).sum(dim=-1)
    if counts is not None:
        weights = counts.sum() / ((counts > 0).sum() * counts.clamp(min=1))
        return (weights[columns] * distance).mean()
    here = counted(columns, len(prototypes)).to(distance)
    per_class = distance.new_zeros(len(prototypes)).index_add(0, columns, distance) / here.clamp(min=1)
    return per_class.sum() / (here > 0).sum().clamp(min=1)


def rotation_stabilisation(
    prototypes: Float[Tensor, "cls feature"], frozen: Float[Tensor, "cls feature"], *, normalised: bool = True
) -> Float[Tensor, ""]:
    """Hold the prototypes near the frozen ones: what the ETF loss leaves free is a common rotation, and this takes it.

        (1/K) sum_c || g_c - ghat_c ||_1,    summed over coordinates; 0 exactly at ghat

    Whether g is of unit length is not said in the paper. `normalised` makes both so, as PromptSRC does
    (Khattak et al., ICCV 2023, arXiv:2307.06948).
    """
    if normalised:
        prototypes, frozen = F.normalize(prototypes, dim=-1), F.normalize(frozen, dim=-1)
    return (prototypes - frozen).abs().sum(dim=-1).mean()
