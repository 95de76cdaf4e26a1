"""The UMAP job: what it stores, how it reports, what it refuses. The layout itself is a double but in the slow test."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from cillab.core.errors import RunError
from cillab.plane import joint, pca, quality
from cillab.runs import Run, RunInfo, RunWriter
from cillab.runs.writer import store_derived
from tests.runs.synthetic import write_synthetic_run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(write_synthetic_run(tmp_path / "run", tasks=3, classes_per_task=2, probe=60, dim=6, noise=False))


@pytest.fixture
def flat(monkeypatch: pytest.MonkeyPatch) -> None:
    """PCA of the pooled steps stands in for UMAP: exact, at once."""

    def layout(steps, *, progress, **_):
        progress("laying out", 0.5)
        fitted = pca(np.concatenate(steps))
        return [fitted(step) for step in steps]

    monkeypatch.setattr(joint, "joint_umap", layout)


@pytest.mark.usefixtures("flat")
def test_layout_is_stored_quantised_with_its_quality(run: Run) -> None:
    assert joint.read(run) is None
    heard: list[tuple[str, float]] = []
    made = joint.compute(run, progress=lambda stage, share: heard.append((stage, share)))
    read = joint.read(run)
    assert read is not None
    assert read.whole.dtype == np.int16
    np.testing.assert_array_equal(read.whole, made.whole)
    features = [run.snapshot(s)["features"].astype(np.float32) for s in run.steps]
    exact = np.stack([pca(np.concatenate(features))(x) for x in features])
    step = (read.ranges[:, 1] - read.ranges[:, 0]) / 65534
    assert (np.abs(read.points - exact) <= 0.51 * step + 1e-5).all()
    assert read.trustworthiness[1] == pytest.approx(quality(features[1], exact[1], 10).trustworthiness)
    assert np.isnan(read.displacement[0])
    assert (read.displacement[1:] > 0).all()
    assert [share for _, share in heard] == sorted(share for _, share in heard)
    assert heard[-1] == ("done", 1.0)
    assert "nearest neighbours are kept" in read.sentence


def test_a_layout_of_an_older_version_is_read(run: Run) -> None:
    """-32767 is the low end of `ranges`, 32767 the high end: as files in run folders have it since the first."""
    numbers = {
        "whole": np.array([[[-32767, 32767], [0, 0]]] * 3, np.int16),
        "ranges": np.array([[-2.0, 6.0], [10.0, 12.0]]),
        "trustworthiness": np.full(3, 0.9),
        "neighbour_overlap": np.full(3, 0.4),
        "displacement": np.array([np.nan, 0.1, 0.3]),
    }
    store_derived(run.path, "projections", joint.key_of(run), numbers)
    found = joint.read(run)
    assert found is not None
    np.testing.assert_allclose(found.points[0], [[-2, 12], [2, 11]])
    np.testing.assert_allclose(found.plane.points[0], [[-2, 0.5], [2, -0.5]])
    assert "trustworthiness 0.90, 40 % of the 10 nearest" in found.sentence


@pytest.mark.usefixtures("flat")
def test_key_changes_with_settings_and_steps(run: Run) -> None:
    joint.compute(run)
    assert joint.read(run, joint.Settings(neighbours=5)) is None
    assert joint.read(Run(run.path)) is not None
    RunWriter.resume(run.path).snapshot("t01e000", dict(run.snapshot("t01")))
    assert joint.read(Run(run.path)) is None


@pytest.mark.usefixtures("flat")
def test_the_job_reports_and_fails_in_words(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert joint.state(run) is None
    assert joint.main([str(run.path)]) == 0
    done = joint.state(run)
    assert done is not None
    assert (done.stage, done.share, done.running) == ("done", 1.0, False)

    def broken(*_, **__):
        raise MemoryError("no room")

    monkeypatch.setattr(joint, "joint_umap", broken)
    assert joint.main([str(run.path)]) == 2
    failed = joint.state(run)
    assert failed is not None
    assert (failed.stage, failed.error) == ("failed", "no room")


@pytest.mark.usefixtures("flat")
def test_another_home_leaves_the_run_as_it_is(run: Run, tmp_path: Path) -> None:
    home = tmp_path / "elsewhere"
    assert joint.main([str(run.path), f"--home={home}"]) == 0
    assert joint.read(run, home=home) is not None
    assert joint.read(run) is None
    assert not (run.path / "projections").exists()


def test_a_job_whose_process_is_gone_is_not_running() -> None:
    assert joint.State("finding neighbours", 0.1, pid=os.getpid()).running
    assert not joint.State("finding neighbours", 0.1, pid=2**22 + 1).running  # above the largest pid of Linux


def test_a_run_without_steps_is_refused(tmp_path: Path) -> None:
    RunWriter.create(tmp_path / "fresh", RunInfo(tasks=[[1], [2]]))
    with pytest.raises(RunError, match="has no step yet"):
        joint.start(Run(tmp_path / "fresh"))


@pytest.mark.slow
def test_a_real_job_in_its_own_process(run: Run) -> None:
    pytest.importorskip("umap", reason="the umap extra is not installed")
    process = joint.start(run)
    shares = set()
    while process.poll() is None:
        if said := joint.state(run):
            shares.add(said.share)
        time.sleep(0.02)
    assert process.returncode == 0
    layout = joint.read(run)
    assert layout is not None
    assert layout.trustworthiness.min() > 0.7
    assert len(shares) > 3  # it was heard on the way
