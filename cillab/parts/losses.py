"""Losses that methods share: which classes compete in the softmax is the question of every class-incremental loss."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from cillab.core.arrays import sent
from cillab.parts.heads import columns_of

Competitors = Literal["seen", "local"]


def cross_entropy(
    logits: Float[Tensor, "image cls"],
    labels: Int64[Tensor, " image"],
    classes: tuple[int, ...],
    task_classes: tuple[int, ...],
    competitors: Competitors = "seen",
) -> Float[Tensor, ""]:
    """Softmax cross-entropy over all classes seen ("seen") or over those of the current task alone ("local").

    Without stored images "seen" pushes old classes down with every image (recency bias); "local" leaves their rows
    alone, at the price of never comparing old with new; weight decay would not leave them alone (`undecayed`).
    """
    if competitors == "local":
        kept = sent([classes.index(c) for c in task_classes], logits.device, torch.int64)
        return F.cross_entropy(logits[:, kept], columns_of(labels, tuple(task_classes)))
    return F.cross_entropy(logits, columns_of(labels, classes))


def distillation(
    logits: Float[Tensor, "image cls"], teacher: Float[Tensor, "image cls"], temperature: float = 2.0
) -> Float[Tensor, ""]:
    """Cross-entropy of softened answers: KD_T(z, z') = - mean over images of sum_c softmax(z'/T)_c log softmax(z/T)_c.

    Its gradient is zero exactly where both say the same. Without the factor T^2 of Hinton et al., arXiv:1503.02531, as
    in LwF's usual code (PyCIL, PILOT); least value: the teacher's entropy.
    """
    return F.cross_entropy(logits / temperature, (teacher / temperature).softmax(dim=1))


def contrast(logits: Float[Tensor, "image cls"], columns: Int64[Tensor, " image"]) -> Float[Tensor, ""]:
    """CLIP's loss where several images have one name: the mean of CE over names, and over images with even shares.

    No image is a negative of another of its class, as it would be if every pair of a batch were its own class.
    """
    own = F.one_hot(columns, logits.shape[1]).to(logits)
    here = own.sum(dim=0) > 0
    shares = (own / own.sum(dim=0).clamp(min=1)).T  # all zero for a name without images, which costs nothing
    over_images = F.cross_entropy(logits.T, shares, reduction="sum") / here.sum()
    return (F.cross_entropy(logits, columns) + over_images) / 2


def pull_push(
    features: Float[Tensor, "image feature"], vertices: Float[Tensor, "cls feature"], columns: Int64[Tensor, " image"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Pull a unit feature to its own vertex of a simplex ETF, push it from the others until the ETF's angle is reached.

        pull = 1/2 (<m_y, z> - 1)^2
        push = 1/(K - 1) sum over k != y of 1/2 max(0, <m_k, z> + 1/(K - 1))^2

    Means over images. Both are 0 with zero gradient exactly at z = m_y: there every other cosine is -1/(K - 1), so no
    hinge is open and the push does not fight the pull. Ranges [0, 2] and [0, ~1/2]. The pull is the dot-regression loss
    of NC-FSCIL (Yang et al., ICLR 2023, arXiv:2302.03004); the hinge is our reading of "pull-and-push" (NCPTM-CIL,
    arXiv:2504.18437, whose equations we could not read).
    """
    cosines, others = features @ vertices.T, len(vertices) - 1
    own = F.one_hot(columns, len(vertices)).bool()
    pull = 0.5 * (cosines.gather(1, columns[:, None]) - 1).square().mean()
    open_hinge = F.relu(cosines + 1 / others).masked_fill(own, 0)
    return pull, 0.5 * open_hinge.square().sum(dim=1).mean() / others


def opposed(
    logits: Float[Tensor, "image cls"],
    columns: Int64[Tensor, " image"],
    h: Float[Tensor, "image feature"],
    factors: Float[Tensor, "image cls"] | float = 1.0,
) -> Float[Tensor, " image"]:
    """How far an image pulls the row of its class another way than its batch does, in [0, 2]; without gradient.

        a = 1 - cos(g_x, G_y),   g_x the gradient of the image's own cross-entropy for the row w_y, G_y of the mean

    of logits z_c = factor_c (w_c h + b_c). In closed form g_x = -(1 - p_y) factor_y h, so that its direction is -h, and
    G_c is the mean of (p_c - [y = c]) factor_c h. Source: gradient similarity-based focal loss of MVP, Moon et al.,
    ICCV 2023, arXiv:2308.09303.
    """
    with torch.no_grad():
        pulls = factors * (logits.softmax(dim=1) - F.one_hot(columns, logits.shape[1]))
        return 1 - F.cosine_similarity(-h, (pulls.T @ h)[columns], dim=1)


def with_margin(
    cosines: Float[Tensor, "image cls"], columns: Int64[Tensor, " image"], margin: float
) -> Float[Tensor, "image cls"]:
    """cos(theta + m) in the place of the own class's cos(theta): the additive angular margin of ArcFace.

    Source: Deng et al., ArcFace, CVPR 2019, arXiv:1801.07698, equation (3). Cosines are kept off +-1, where the angle
    has no gradient.
    """
    own = cosines.gather(1, columns[:, None]).clamp(-1 + 1e-6, 1 - 1e-6)
    return cosines.scatter(1, columns[:, None], (own.acos() + margin).cos())
