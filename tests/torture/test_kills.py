"""Runs that are killed again and again, in processes of their own. Oracle: the same run left alone, byte for byte.

`CILLAB_KILLS` is the number of kills per learner (default 3; `make torture`: 50). Each kill takes a process, so this is
a matter of many minutes.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cillab import cli
from cillab.lab import checkpoints
from cillab.runs import Run

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("CILLAB_KILLS", "3"))
ROOT = Path(cli.__file__).parents[1]
REQUEST = [
    *("run", "--data", "digits", "--split", "B0-Inc2", "--precision", "fp32", "--probe-points", "20"),
    *("--train-per-class", "20", "--test-per-class", "10", "--train-probe-per-class", "4"),
]
LEARNERS = {"simplecil": [], "acil": ["--set", "expansion=256"], "finetune": ["--set", "epochs=3"],
            "min": ["--set", "epochs=2", "--set", "expansion=128"]}  # fmt: skip
LIMIT_S = 600.0
Straight = tuple[dict[str, object], float]


def started(words: list[str], folder: Path) -> subprocess.Popen:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "cillab", *words], cwd=folder, env=env, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def facts(run: Run) -> dict[str, object]:
    """All that must not depend on accidents: numbers, states, scalars (but for times), each written once."""
    assert run.result is not None
    found: dict[str, object] = {"matrix": run.result.accuracy_matrix, "parameters": run.result.trainable_parameters}
    for step in run.steps:
        shot = run.snapshot(step)
        found |= {f"{step}/{name}": (array.dtype, array.shape, array.tobytes()) for name, array in shot.items()}
    rows = [row for row in run.metrics().rows if not row["name"].startswith(("seconds/", "train/"))]
    names = [(row["step"], row["name"]) for row in rows]
    assert len(set(names)) == len(names), "a scalar was written twice"
    found["scalars"] = sorted((row["step"], row["name"], repr(row["value"])) for row in rows)
    for task, path in run.checkpoints.items():
        states, _ = checkpoints.read_states(path)
        for part, state in states.items():
            found |= {f"{task}/{part}/{k}": t.contiguous().numpy().tobytes() for k, t in state.tensors.items()}
    found["probe"] = (run.probe.ids, run.probe.atlas.tobytes())
    return found


@pytest.fixture(scope="module")
def straight(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Straight:
    """Facts of the run left alone, and its seconds."""
    folder, learner, began = tmp_path_factory.mktemp("straight"), request.param, time.monotonic()
    job = started([*REQUEST, "--learner", learner, *LEARNERS[learner], "--out", "r"], folder)
    _, err = job.communicate(timeout=LIMIT_S)
    assert job.returncode == 0, err
    return facts(Run(folder / "r")), time.monotonic() - began


@pytest.mark.parametrize(("learner", "straight"), [(name, name) for name in LEARNERS], indirect=["straight"], ids=str)
def test_killed_at_random_moments(learner: str, straight: Straight, tmp_path: Path) -> None:
    expected, seconds = straight
    dice = np.random.default_rng(sum(map(ord, learner)))
    request = [*REQUEST, "--learner", learner, *LEARNERS[learner], "--out", "r"]
    path, kills, runs = tmp_path / "r", 0, 0
    while kills < KILLS:
        words = ["resume", "r"] if (path / "run.json").is_file() else request
        job, began = started(words, tmp_path), time.monotonic()
        try:
            _, err = job.communicate(timeout=float(dice.uniform(0.3, 1.0) * seconds))
        except subprocess.TimeoutExpired:
            job.send_signal(signal.SIGKILL)
            job.communicate()
            kills += 1
            continue
        assert job.returncode == 0, err
        assert facts(Run(path)) == expected
        if words == request:  # the machine has less to do than it had: else kills come too late
            seconds = min(seconds, time.monotonic() - began)
        runs += 1
        path.rename(tmp_path / f"done{runs}")
    words = ["resume", "r"] if (path / "run.json").is_file() else request
    job = started(words, tmp_path)
    _, err = job.communicate(timeout=LIMIT_S)
    assert job.returncode == 0, err
    found = facts(Run(path))
    assert sorted(found) == sorted(expected)
    assert [name for name in found if found[name] != expected[name]] == []
    assert not list(path.rglob(".*.tmp"))
