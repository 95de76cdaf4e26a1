"""How far a picture of features can be trusted: neighbourhoods kept, and points shown moving that did not."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from cillab.core.errors import InvalidRequestError
from cillab.geometry.rows import squared_distances


@dataclass(frozen=True)
class Quality:
    """How far a picture can be trusted, each in [0, 1]; higher is better."""

    trustworthiness: float  # 1 - penalty for neighbours in the picture that are far apart in feature space
    neighbour_overlap: float  # share of the k nearest neighbours in feature space that are so in the picture


def quality(
    features: Float[ndarray, "point feature"], picture: Float[ndarray, "point axis"], neighbours: int = 10
) -> Quality:
    """Trustworthiness and the overlap of neighbourhoods, from all pairs: for at most some thousands of points.

        T = 1 - 2 / (n k (2n - 3k - 1)) * sum over i, and j among the k nearest of i in the picture, of max(0, r_ij - k)
        overlap = mean over i of |k nearest of i in feature space and in the picture| / k

    r_ij = rank of j by distance from i in feature space. Range [0, 1], higher is better; k/n is what chance gives for
    the overlap. Source: Venna & Kaski, ICANN 2001 (trustworthiness, with ranks as in scikit-learn).

    Raises:
        InvalidRequestError: not 1 <= neighbours < points / 2.
    """
    count = len(features)
    if not 1 <= neighbours < count / 2:
        raise InvalidRequestError(f"neighbours = {neighbours}: valid are 1 to {(count - 1) // 2} for {count} points.")
    order, shown = _by_distance(features), _by_distance(picture)[:, :neighbours]
    rank = np.empty((count, count), dtype=np.int32)
    np.put_along_axis(rank, order, np.arange(1, count + 1, dtype=np.int32)[None].repeat(count, axis=0), axis=1)
    shown_rank = np.take_along_axis(rank, shown, axis=1)
    penalty = (shown_rank - neighbours).clip(min=0).sum()
    worst = count * neighbours * (2 * count - 3 * neighbours - 1) / 2
    return Quality(float(1 - penalty / worst), float((shown_rank <= neighbours).mean()))


def displacement_of_unmoved(
    before: Float[ndarray, "point feature"],
    after: Float[ndarray, "point feature"],
    picture_before: Float[ndarray, "point axis"],
    picture_after: Float[ndarray, "point axis"],
    share: float = 0.1,
) -> float:
    """How far the picture moves points whose features hardly moved, in units of the picture's spread; 0 is honest.

        mean ||y' - y|| over the points that moved least / sqrt(mean ||y - centre||^2)

    Range [0, inf), lower is better. Source: defined here. Mean displacement in the picture of the `share` of points
    that moved least in feature space, over the root mean square distance of the points of both pictures from their
    centre.
    """
    still = np.argsort(np.linalg.norm(after.astype(np.float64) - before, axis=1))[: max(1, round(share * len(before)))]
    moved = np.linalg.norm((picture_after - picture_before)[still].astype(np.float64), axis=1).mean()
    both = np.concatenate([picture_before, picture_after]).astype(np.float64)
    return float(moved / np.sqrt(((both - both.mean(axis=0)) ** 2).sum(axis=1).mean()))


def _by_distance(x: Float[ndarray, "point axis"]) -> Int[ndarray, "point neighbour"]:
    """For each point all others by distance, nearest first, itself last."""
    distance = squared_distances(x, x)
    np.fill_diagonal(distance, np.inf)
    return np.argsort(distance, axis=1, kind="stable")
