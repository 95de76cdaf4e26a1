"""How far the Gaussians that a learner stored are from its features of today. An oracle: no learner could know it."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cillab.core.contract import Part
from cillab.parts.gaussian_memory import GaussianMemory

Taken = tuple[Tensor, Tensor, Tensor]  # features, logits, labels of one task's images
Found = tuple[dict[str, np.ndarray], dict[str, float]]


def w2_to_images(
    mean: Float[Tensor, " feature"], covariance: Float[Tensor, "..."], h: Float[Tensor, "image feature"]
) -> float:
    """W2 from N(mean, covariance) to the Gaussian with the moments m, S' of the images `h`.

        W2^2 = ||mean - m||^2 + tr S + tr S' - 2 sum_i sqrt(lambda_i),    lambda = eigenvalues of X S X^T / n

    X are the n centred images: S' = X^T X / n, so the eigenvalues are those of S S' and no d x d root is needed. With
    n < d the second law is flat in most directions, so W2 stays above 0 also for the right Gaussian: compare two stored
    Gaussians with each other, do not read one alone. `covariance` may be a diagonal.
    """
    x, s = h.double(), covariance.double()
    centre = x.mean(dim=0)
    x = x - centre
    mapped = x @ s if s.ndim == 2 else x * s
    overlap = torch.linalg.eigvalsh((mapped @ x.T + x @ mapped.T) / (2 * len(x))).clamp(min=0).sqrt().sum()
    spread = (s.trace() if s.ndim == 2 else s.sum()) + x.square().sum() / len(x)
    return float(((mean.double() - centre).square().sum() + spread - 2 * overlap).clamp(min=0).sqrt())


def stored_gaussians(
    parts: Mapping[str, Part], seen: Sequence[int], trains: Sequence[Taken], tasks: Mapping[int, int], newest: int
) -> Found:
    """W2 of every stored Gaussian to the probe's training images of its class, by part that holds some.

    The Gaussians must live in the space of `features`. Scalars are means over old classes. Where `<part>_before` holds
    what `<part>` held before calibration, `transport/improved` is the share of old classes that calibration brought
    nearer.
    """
    features, labels = torch.cat([f for f, _, _ in trains]), torch.cat([y for _, _, y in trains])
    labels, arrays, scalars = labels.to(features.device), {}, {}
    old = np.array([tasks[c] < newest for c in seen])
    for name, part in parts.items():
        if not isinstance(part, GaussianMemory) or not len(part):
            continue
        found = np.full(len(seen), np.nan)
        for column, c in enumerate(seen):
            mine = features[labels == c]
            if c in part.classes and len(mine):
                row = part.classes.index(c)
                found[column] = w2_to_images(part.means[row], part.dense((c,))[0], mine.to(part.means.device))
        arrays[f"gaussian/w2/{name}"] = found
        if np.isfinite(found[old]).any():
            scalars[f"transport/w2/{name}"] = float(np.nanmean(found[old]))
    for name in [name for name in arrays if f"transport/w2/{name.rpartition('/')[2]}_before" in scalars]:
        now, before = arrays[name][old], arrays[f"{name}_before"][old]
        both = np.isfinite(now) & np.isfinite(before)
        scalars["transport/improved"] = float((now[both] < before[both]).mean())
    return arrays, scalars
