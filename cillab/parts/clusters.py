"""Groups of directions: k-means on the unit sphere, for classes whose names mean similar things."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from cillab.core.errors import InvalidRequestError

RESTARTS, ROUNDS = 50, 100


def clusters_for(classes: int, per_cluster: int = 16) -> int:
    """M = ceil(K / per_cluster), the number of clusters whose average size is at most `per_cluster`; 0 for no class."""
    return math.ceil(classes / per_cluster)


def spherical_kmeans(
    points: Float[Tensor, "point dim"], clusters: int, generator: torch.Generator, restarts: int = RESTARTS
) -> Int64[Tensor, " point"]:
    """Cluster number of every point: the partition with the largest sum of cosines to the centroids.

        maximise sum_i <x_i, c_pi(i)>,    c_m = sum of its x_i, made of length 1,    ||x_i|| = 1

    Lloyd's steps from the best of `restarts` seedings in the manner of k-means++ (a next seed is drawn with probability
    proportional to 1 - the cosine to the nearest seed so far), in float64. A cluster that loses its last point takes
    the point that fits its own cluster worst, so none is empty. Numbers follow the first member of each cluster:
    equal partitions get equal numbers. Source: Dhillon & Modha, Machine Learning 42, 2001, doi:10.1023/A:1007612920971.

    Raises:
        InvalidRequestError: fewer points than clusters.
    """
    if not 0 < clusters <= len(points):
        raise InvalidRequestError(f"{clusters} clusters of {len(points)} classes: between 1 and the number of classes.")
    x = F.normalize(points.detach().cpu().double(), dim=-1)
    best, best_fit = torch.zeros(len(x), dtype=torch.int64), -math.inf
    for _ in range(restarts if clusters > 1 else 1):
        found = _lloyd(x, _seeds(x, clusters, generator))
        fit = float(_sums(x, found, clusters).norm(dim=-1).sum())  # sum of cosines to the own centroid
        if fit > best_fit + 1e-12:
            best, best_fit = found, fit
    return _by_first_member(best).to(points.device)


def _seeds(x: Float[Tensor, "point dim"], clusters: int, generator: torch.Generator) -> Float[Tensor, "cluster dim"]:
    """Points far apart, drawn one by one."""
    chosen = [int(torch.randint(len(x), (1,), generator=generator))]
    while len(chosen) < clusters:
        far = (1 - (x @ x[chosen].T).amax(dim=1)).clamp(min=0)
        far[chosen] = 0
        if not bool(far.any()):  # only copies of the chosen points are left
            far = torch.ones_like(far)
            far[chosen] = 0
        chosen.append(int(torch.multinomial(far, 1, generator=generator)))
    return x[chosen]


def _lloyd(x: Float[Tensor, "point dim"], centroids: Float[Tensor, "cluster dim"]) -> Int64[Tensor, " point"]:
    """Assign and average until nothing changes."""
    found = torch.full((len(x),), -1, dtype=torch.int64)
    for _ in range(ROUNDS):
        cosines = x @ centroids.T
        now = cosines.argmax(dim=1)
        for empty in (torch.bincount(now, minlength=len(centroids)) == 0).nonzero().flatten().tolist():
            sizes = torch.bincount(now, minlength=len(centroids))
            own = cosines[torch.arange(len(x)), now].masked_fill(sizes[now] == 1, torch.inf)
            now[own.argmin()] = empty
        if torch.equal(now, found):
            break
        found, centroids = now, F.normalize(_sums(x, now, len(centroids)), dim=-1)
    return found


def _sums(x: Float[Tensor, "point dim"], found: Int64[Tensor, " point"], clusters: int) -> Float[Tensor, "cluster dim"]:
    return x.new_zeros(clusters, x.shape[1]).index_add(0, found, x)


def _by_first_member(found: Int64[Tensor, " point"]) -> Int64[Tensor, " point"]:
    """The same partition with clusters numbered in order of appearance."""
    number = {old: new for new, old in enumerate(dict.fromkeys(found.tolist()))}
    return torch.tensor([number[old] for old in found.tolist()], dtype=torch.int64)
