"""Projections against scikit-learn, closed forms and invariances."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.manifold import trustworthiness

from cillab.core.errors import InvalidRequestError
from cillab.plane import displacement_of_unmoved, joint_umap, lda, pca, quality, through
from cillab.plane.together import joint_neighbours


def cloud(seed: int = 0, count: int = 200, dim: int = 12) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return (generator.normal(size=(count, dim)) * np.linspace(3, 0.3, dim) + 5).astype(np.float32)


def test_pca_agrees_with_scikit_learn() -> None:
    x = cloud()
    theirs = PCA(3, svd_solver="full").fit(x.astype(np.float64))
    ours = pca(x, 3)
    np.testing.assert_allclose(np.abs(ours(x)), np.abs(theirs.transform(x.astype(np.float64))), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(ours.share, theirs.explained_variance_ratio_, rtol=1e-6)


def test_pca_is_fixed_when_points_are_shuffled_and_never_stretches() -> None:
    x = cloud()
    ours = pca(x)
    np.testing.assert_allclose(pca(x[::-1])(x), ours(x), rtol=1e-3, atol=1e-4)
    gaps = np.linalg.norm(ours(x)[:, None] - ours(x)[None], axis=2)
    assert (gaps <= np.linalg.norm(x[:, None] - x[None], axis=2) + 1e-3).all()


def test_vertices_of_an_etf_keep_their_angles_in_their_plane() -> None:
    etf = np.linalg.qr(np.random.default_rng(1).normal(size=(9, 4)))[0].T * 2  # 4 orthogonal rows in 9 dimensions
    shown = through(etf[:3], cloud(dim=9))(etf[:3])
    unit = shown / np.linalg.norm(shown, axis=1, keepdims=True)
    np.testing.assert_allclose((unit @ unit.T)[np.triu_indices(3, 1)], -0.5, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(shown[0] - shown[1]), 2 * np.sqrt(2), rtol=1e-5)
    assert shown[0, 0] > 0
    assert shown[0, 1] == pytest.approx(0, abs=1e-5)


def test_lda_spans_fishers_plane() -> None:
    generator = np.random.default_rng(2)
    labels = np.repeat([7, 401, 3, 5], 80)
    x = cloud(3, 320, 6) + generator.normal(size=(402, 6))[labels] * 2
    theirs = LinearDiscriminantAnalysis(solver="eigen").fit(x, labels).scalings_[:, :2]
    ours = lda(x, labels, ridge=0.0).axes
    angles = np.linalg.svd(np.linalg.qr(theirs)[0].T @ ours, compute_uv=False)
    np.testing.assert_allclose(angles, 1, atol=1e-6)
    np.testing.assert_allclose(ours.T @ ours, np.eye(2), atol=1e-9)


@pytest.mark.parametrize("classes", [1, 2])
def test_few_classes_have_a_plane_as_well(classes: int) -> None:
    labels = np.arange(200) % classes
    x = cloud(6, 200, 5) + 4 * labels[:, None] * np.eye(5)[0]
    ours = lda(x, labels, ridge=0.0).axes
    np.testing.assert_allclose(ours.T @ ours, np.eye(2), atol=1e-9)
    if classes == 2:  # the first axis is Fisher's, the second the direction that scatters most besides
        fisher = LinearDiscriminantAnalysis(solver="eigen").fit(x, labels).scalings_[:, 0]
        assert abs(ours[:, 0] @ fisher) / np.linalg.norm(fisher) == pytest.approx(1, abs=1e-4)
        rest = (x - x.mean(axis=0)) @ (np.eye(5) - np.outer(ours[:, 0], ours[:, 0]))
        assert abs(np.linalg.svd(rest)[2][0] @ ours[:, 1]) == pytest.approx(1, abs=1e-6)
    else:
        np.testing.assert_allclose(np.abs(ours.T @ pca(x).axes), np.eye(2), atol=1e-6)


@pytest.mark.parametrize("neighbours", [3, 10, 30])
def test_quality_agrees_with_scikit_learn_and_a_naive_count(neighbours: int) -> None:
    x = cloud(4, 120)
    picture = pca(x)(x)
    found = quality(x, picture, neighbours)
    assert found.trustworthiness == pytest.approx(trustworthiness(x, picture, n_neighbors=neighbours), abs=1e-9)

    def nearest(points: np.ndarray, i: int) -> set[int]:
        gaps = ((points.astype(float) - points[i]) ** 2).sum(axis=1)
        return set(np.argsort(gaps)[1 : neighbours + 1].tolist())

    overlap = np.mean([len(nearest(x, i) & nearest(picture, i)) / neighbours for i in range(len(x))])
    assert found.neighbour_overlap == pytest.approx(overlap, abs=1e-9)


def test_quality_of_the_same_points_is_perfect_and_of_noise_is_not() -> None:
    x = cloud(5, 100)
    assert quality(x, 3 * x + 1) == quality(x, x)
    assert quality(x, x).neighbour_overlap == 1
    assert quality(x, cloud(6, 100, 2)).neighbour_overlap < 0.3


def test_displacement_sees_motion_that_is_not_in_the_features() -> None:
    x = cloud(7, 100)
    picture = pca(x)(x)
    assert displacement_of_unmoved(x, x, picture, picture) == 0
    spread = np.sqrt(((picture - picture.mean(axis=0)) ** 2).sum(axis=1).mean())
    shifted = picture + np.array([spread, 0], dtype=np.float32)  # the centre of both moves by spread / 2
    assert displacement_of_unmoved(x, x, picture, shifted) == pytest.approx(1 / np.sqrt(1 + 0.25), rel=1e-5)


def test_errors_say_what_was_given() -> None:
    with pytest.raises(InvalidRequestError, match="20 axes from 200 points in 12 dimensions"):
        pca(cloud(), 20)
    with pytest.raises(InvalidRequestError, match="1 points have values not finite"):
        pca(np.array([[0.0, 1.0], [np.nan, 1.0]]))
    with pytest.raises(InvalidRequestError, match="at least 3 vertices, got 2"):
        through(cloud()[:2], cloud())
    with pytest.raises(InvalidRequestError, match="span fewer than 2 dimensions"):
        through(np.array([[0.0, 0, 0], [1, 1, 1], [2, 2, 2]]), cloud(dim=3))
    with pytest.raises(InvalidRequestError, match="neighbours = 100: valid are 1 to 99 for 200"):
        quality(cloud(), cloud(), 100)


def test_projecting_loads_no_torch() -> None:
    code = "import sys, cillab.plane.joint; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_joint_umap_keeps_clusters_and_order_of_steps() -> None:
    pytest.importorskip("umap", reason="the umap extra is not installed")
    labels = np.repeat([0, 1, 2], 30)
    centres = np.random.default_rng(9).normal(size=(3, 12)) * 12
    steps = [cloud(seed, 90) + centres[labels] for seed in (1, 2)]
    layouts = joint_umap(steps)
    assert [layout.shape for layout in layouts] == [(90, 2), (90, 2)]
    means = np.stack([[layout[labels == c].mean(axis=0) for c in range(3)] for layout in layouts])
    apart = np.linalg.norm(means[0][:, None] - means[0][None], axis=2)[np.triu_indices(3, 1)].min()
    assert np.linalg.norm(means[0] - means[1], axis=1).max() < apart / 2  # the same cluster stays where it is


def test_joint_neighbours_are_the_nearest_images_each_once_and_the_copies() -> None:
    points = np.random.default_rng(3).normal(size=(4, 9, 3))
    indices, distances = joint_neighbours(points, 6)
    flat, count = points.reshape(-1, 3), 9
    assert indices.shape == (36, 6)
    np.testing.assert_array_equal(indices[:, 0], np.arange(36))
    np.testing.assert_allclose(distances, np.linalg.norm(flat[indices] - flat[:, None], axis=2), atol=1e-5)
    assert (np.diff(distances[:, 1:], axis=1) >= 0).all()
    for row in range(count, 27):  # the steps in the middle have both copies, and all steps are 1 or 3 away or their own
        step, image = divmod(row, count)
        others = set(indices[row, 1:].tolist())
        assert {row - count, row + count} <= others
        rest = [at for at in others if at % count != image]
        allowed = [s for s in range(4) if abs(s - step) in (0, 1, 3)]
        best = {j: min(np.linalg.norm(points[s, j] - flat[row]) for s in allowed) for j in range(count) if j != image}
        assert {at % count for at in rest} == set(sorted(best, key=best.__getitem__)[:3])


def test_steps_that_hold_the_same_cloud_are_tied_to_each_other() -> None:
    cloud = np.random.default_rng(4).normal(size=(30, 5))
    points = np.stack([cloud + 1e-3 * np.random.default_rng(t).normal(size=cloud.shape) for t in range(5)])
    indices, _ = joint_neighbours(points, 10)
    elsewhere = (indices // 30 != indices[:, :1] // 30) & (indices % 30 != indices[:, :1] % 30)
    assert elsewhere.sum() > 0.4 * (indices % 30 != indices[:, :1] % 30).sum()
