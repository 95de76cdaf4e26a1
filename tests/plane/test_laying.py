"""A run in one plane: against the closed form of each kind, and coordinates that come back from whole numbers."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from cillab.core.errors import InvalidRequestError, RunError, UnknownNameError
from cillab.geometry.etf import nearest_etf, simplex_etf
from cillab.plane import ABSENT, box, dequantise, lay, nearest_simplex, quantise, square
from cillab.runs import Run, RunInfo, RunWriter
from tests.runs.synthetic import write_synthetic_run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    path = tmp_path_factory.mktemp("runs") / "one"
    return Run(write_synthetic_run(path, tasks=4, classes_per_task=3, probe=60, dim=16))


def test_largest_variance_is_that_of_all_steps_pooled_and_one_map_for_all(run: Run) -> None:
    plane = lay(run, kind="variance")
    features = np.stack([run.snapshot(step)["features"].astype(float) for step in run.steps])
    pooled = features.reshape(-1, 16)
    _, singular, axes = np.linalg.svd(pooled - pooled.mean(axis=0), full_matrices=False)
    exact = (features - pooled.mean(axis=0)) @ axes[:2].T
    np.testing.assert_allclose(np.abs(plane.points), np.abs(exact), atol=1e-4)
    assert plane.share == pytest.approx((singular**2 / (singular**2).sum())[:2].sum(), rel=1e-6)
    assert plane.length == pytest.approx(np.sqrt((singular**2).sum() / len(pooled)), rel=1e-6)
    assert plane.steps == run.steps


def test_classes_stand_where_their_means_are_and_nowhere_before_they_are_seen(run: Run) -> None:
    plane, shot = lay(run), run.snapshot()
    assert plane.means is not None
    assert plane.head is not None
    assert np.isnan(plane.means[0, 3:]).all()
    assert np.isfinite(plane.means[-1]).all()
    # A linear map: the average of the means and of the head rows, which have their length, is one point.
    np.testing.assert_allclose(plane.head[-1].mean(axis=0), plane.means[-1].mean(axis=0), atol=0.5)
    assert shot["seen"].tolist() == list(run.order)  # so that the last row of each table has no gap


def test_the_plane_through_three_means_is_exact(run: Run) -> None:
    seen = run.snapshot()["seen"].tolist()
    corners = tuple(seen[4:7])
    plane = lay(run, kind="simplex", corners=corners)
    assert plane.means is not None
    assert plane.vertices is not None
    rows = [run.order.index(c) for c in corners]
    shown, means = plane.means[-1, rows], np.asarray(run.snapshot()["means/now"], float)[4:7]
    for a, b in ((0, 1), (1, 2), (2, 0)):
        np.testing.assert_allclose(np.linalg.norm(shown[a] - shown[b]), np.linalg.norm(means[a] - means[b]), rtol=1e-4)
    others = [i for i in range(len(run.order)) if i not in rows]
    assert np.isnan(plane.vertices[:, others]).all()
    assert np.isfinite(plane.vertices[-1, rows]).all()


def test_two_runs_of_one_space_have_one_plane_from_either_side(run: Run, tmp_path) -> None:
    other = Run(write_synthetic_run(tmp_path / "two", tasks=4, classes_per_task=3, probe=60, dim=16, seed=1))
    wide = Run(write_synthetic_run(tmp_path / "wide", tasks=2, classes_per_task=3, probe=60, dim=17))
    sides = {one: [one.snapshot(step) for step in one.steps] for one in (run, other, wide)}
    both = lay(run, beside=(other, sides[other])), lay(other, beside=(run, sides[run]))
    assert all(plane.shared for plane in both)
    assert both[0].share == both[1].share
    assert not lay(run, beside=(wide, sides[wide])).shared
    np.testing.assert_array_equal(lay(run, beside=(wide, sides[wide])).points, lay(run).points)


def test_what_has_no_plane_says_why(run: Run, tmp_path) -> None:
    with pytest.raises(UnknownNameError, match="plane 'tsne'"):
        lay(run, kind="tsne")
    with pytest.raises(InvalidRequestError, match="at least 3 vertices, got 2"):
        lay(run, kind="simplex", corners=run.order[:2])
    RunWriter.create(tmp_path / "fresh", RunInfo(tasks=[[1], [2]]))
    with pytest.raises(RunError, match="has no step yet"):
        lay(Run(tmp_path / "fresh"))


def test_the_nearest_simplex_is_the_one_of_the_library() -> None:
    rng = np.random.default_rng(0)
    means = rng.normal(size=(5, 9)) + 2
    ours = nearest_simplex(means)
    assert ours is not None
    centred = means - means.mean(axis=0)
    theirs = nearest_etf(means) * np.linalg.norm(centred, axis=1).mean()
    np.testing.assert_allclose(ours - means.mean(axis=0), theirs, atol=1e-9)
    etf = simplex_etf(4, 6, rng) * 3 + 1
    again = nearest_simplex(etf)
    assert again is not None
    np.testing.assert_allclose(again, etf, atol=1e-6)  # its own nearest one
    assert nearest_simplex(rng.normal(size=(5, 3))) is None  # none fits
    assert nearest_simplex(np.ones((3, 4))) is None


@given(seed=st.integers(0, 2**31), scale=st.floats(1e-3, 1e3))
def test_whole_numbers_come_back(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    points = (scale * (rng.normal(size=(3, 50, 2)) + rng.normal(size=2))).astype(np.float32)
    points[0, 0] = np.nan
    ranges = box(points)
    whole = quantise(points, ranges)
    assert whole.dtype == np.int16
    assert whole[0, 0].tolist() == [ABSENT, ABSENT]
    step = (ranges[:, 1] - ranges[:, 0]).max() / 65534
    np.testing.assert_allclose(dequantise(whole, ranges), points, atol=0.51 * step + 1e-6 * scale)


def test_an_outlier_does_not_shrink_the_rest_and_stands_at_the_edge() -> None:
    points = np.random.default_rng(0).uniform(-1, 1, (1000, 2))
    points[0] = [1e6, 0]
    ranges = square(points)
    assert ranges[0].tolist() == ranges[1].tolist() == [-ranges[0, 1], ranges[0, 1]]
    assert ranges[0, 1] < 1.1
    assert quantise(points, ranges)[0].tolist() == [32767, 0]
