"""The vectors of the turning view: whole where they fit, in their leading directions where they do not."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from cillab.player import frame
from cillab.runs import Run
from tests.runs.synthetic import write_synthetic_run


def test_what_does_not_fit_is_seen_in_its_leading_directions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(write_synthetic_run(tmp_path / "run", tasks=3, classes_per_task=2, probe=12, dim=6, noise=False))
    shots = [run.snapshot(step) for step in run.steps]
    whole = frame(run, shots)
    assert whole is not None and whole.means.shape == (2 + 4 + 6, 6) and whole.share == 1
    module = importlib.import_module("cillab.player.frame")
    monkeypatch.setattr(module, "_ROOM", 3 * len(whole.means) * 3)
    monkeypatch.setattr(module, "_FEWEST", 2)
    part = frame(run, shots)
    assert part is not None and part.means.shape == (12, 3)
    values, vectors = np.linalg.eigh(whole.means.T @ whole.means)
    assert part.share == pytest.approx(values[-3:].sum() / values.sum())
    kept = whole.means @ vectors[:, -3:]
    np.testing.assert_allclose(part.means @ part.means.T, kept @ kept.T, atol=1e-8)  # the same but for a rotation
