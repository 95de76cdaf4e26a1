"""How far the Gaussians that a learner stored are from its features of today. An oracle: no learner could know it."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from cillab.core.arrays import array
from cillab.core.contract import Part
from cillab.lab.measures import Found, Seen
from cillab.parts.gaussian_memory import GaussianMemory


def w2_to_images(
    mean: Float[np.ndarray, " feature"], covariance: Float[np.ndarray, "..."], h: Float[np.ndarray, "image feature"]
) -> float:
    """W2 from N(mean, covariance) to the Gaussian with the moments m, S' of the images `h`.

        W2^2 = ||mean - m||^2 + tr S + tr S' - 2 sum_i sqrt(lambda_i),    lambda = eigenvalues of X S X^T / n

    X are the n centred images: S' = X^T X / n, so the eigenvalues are those of S S' and no d x d root is needed. With
    n < d the second law is flat in most directions, so W2 stays above 0 also for the right Gaussian: compare two stored
    Gaussians with each other, do not read one alone. `covariance` may be a diagonal.
    """
    x, s = np.asarray(h, dtype=np.float64), np.asarray(covariance, dtype=np.float64)
    centre = x.mean(axis=0)
    x = x - centre
    mapped = x @ s if s.ndim == 2 else x * s
    overlap = np.sqrt(np.linalg.eigvalsh((mapped @ x.T + x @ mapped.T) / (2 * len(x))).clip(min=0)).sum()
    spread = (np.trace(s) if s.ndim == 2 else s.sum()) + np.square(x).sum() / len(x)
    return math.sqrt(max(0.0, np.square(mean - centre).sum() + spread - 2 * overlap))


def stored_gaussians(
    parts: Mapping[str, Part], seen: Sequence[int], trains: Sequence[Seen], tasks: Mapping[int, int], newest: int
) -> Found:
    """W2 of every stored Gaussian to the probe's training images of its class, by part that holds some.

    The Gaussians must live in the space of `features`. Scalars are means over old classes. Where `<part>_before` holds
    what `<part>` held before calibration, `transport/improved` is the share of old classes that calibration brought
    nearer.
    """
    features, _, labels = Seen.together(trains)
    arrays, scalars = {}, {}
    old = np.array([tasks[c] < newest for c in seen])
    for name, part in parts.items():
        if not isinstance(part, GaussianMemory) or not len(part):
            continue
        found = np.full(len(seen), np.nan)
        for column, c in enumerate(seen):
            mine = features[labels == c]
            if c in part.classes and len(mine):
                row = part.classes.index(c)
                found[column] = w2_to_images(array(part.means[row]), array(part.dense((c,))[0]), mine)
        arrays[f"gaussian/w2/{name}"] = found
        if np.isfinite(found[old]).any():
            scalars[f"transport/w2/{name}"] = float(np.nanmean(found[old]))
    for name in [name for name in arrays if f"transport/w2/{name.rpartition('/')[2]}_before" in scalars]:
        now, before = arrays[name][old], arrays[f"{name}_before"][old]
        both = np.isfinite(now) & np.isfinite(before)
        scalars["transport/improved"] = float((now[both] < before[both]).mean())
    return arrays, scalars
