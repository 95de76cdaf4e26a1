"""Spherical k-means against scikit-learn and against what a partition must satisfy."""

import pytest
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from cillab.core.errors import InvalidRequestError
from cillab.parts.clusters import clusters_for, spherical_kmeans


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs(clusters: int, each: int, spread: float, dim: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    centres = F.normalize(torch.randn(clusters, dim, generator=rng(1)), dim=-1)
    labels = torch.arange(clusters).repeat(each)
    return F.normalize(centres[labels] + spread * torch.randn(len(labels), dim, generator=rng(2)), dim=-1), labels


def test_finds_well_separated_clusters_as_scikit_learn_does() -> None:
    points, planted = blobs(clusters=7, each=12, spread=0.08)
    found = spherical_kmeans(points, 7, rng())
    theirs = KMeans(7, n_init=20, random_state=0).fit_predict(points.numpy())
    assert adjusted_rand_score(planted, found) == adjusted_rand_score(theirs, found) == 1


def test_objective_is_as_good_as_that_of_scikit_learn_where_nothing_is_separated() -> None:
    points, _ = blobs(clusters=5, each=20, spread=0.4)

    def objective(labels: torch.Tensor) -> float:
        return sum(float(points[labels == m].double().sum(dim=0).norm()) for m in range(5))

    theirs = KMeans(5, n_init=20, random_state=0).fit_predict(points.numpy())
    assert objective(spherical_kmeans(points, 5, rng())) >= objective(torch.as_tensor(theirs)) * (1 - 5e-3)


def test_length_of_the_points_does_not_matter() -> None:
    points, _ = blobs(clusters=4, each=9, spread=0.3)
    scaled = points * torch.rand(len(points), 1, generator=rng(3)).add(0.1)
    assert torch.equal(spherical_kmeans(points, 4, rng()), spherical_kmeans(scaled, 4, rng()))


def test_every_point_is_nearest_to_its_own_centroid() -> None:
    points, _ = blobs(clusters=6, each=10, spread=0.4)
    found = spherical_kmeans(points, 6, rng())
    centroids = F.normalize(torch.stack([points[found == m].sum(dim=0) for m in range(6)]), dim=-1)
    assert torch.equal((points @ centroids.T).argmax(dim=1), found)


def test_numbers_follow_first_members_and_no_cluster_is_empty() -> None:
    points = F.normalize(torch.ones(6, 4), dim=-1)  # six times the same point
    found = spherical_kmeans(points, 3, rng())
    assert set(found.tolist()) == {0, 1, 2} and found[0] == 0
    assert list(dict.fromkeys(found.tolist())) == [0, 1, 2]


def test_one_cluster_and_one_cluster_per_point() -> None:
    points, _ = blobs(clusters=3, each=2, spread=0.2)
    assert spherical_kmeans(points, 1, rng()).tolist() == [0] * 6
    assert spherical_kmeans(points, 6, rng()).tolist() == list(range(6))


def test_number_of_clusters() -> None:
    assert [clusters_for(k) for k in (0, 1, 16, 17, 50, 100)] == [0, 1, 1, 2, 4, 7]
    assert clusters_for(10, per_cluster=3) == 4
    with pytest.raises(InvalidRequestError, match="4 clusters of 3"):
        spherical_kmeans(torch.eye(3), 4, rng())
