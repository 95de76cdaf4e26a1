"""The same spec again: bit for bit, in another folder and under another hash seed; on two threads within a tolerance.

On two threads a sum may have another order. The tolerance is of the largest entry of an array, after two tasks;
docs/reliability.md has what was measured.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cillab.runs import Run
from tests.torture.test_kills import ROOT, facts

pytestmark = pytest.mark.slow
REQUEST = [
    *("run", "--split", "B0-Inc5", "--precision", "fp32", "--probe-points", "20"),
    *("--train-per-class", "10", "--test-per-class", "10", "--train-probe-per-class", "4"),
]
# One of every kind of state: sums, prototypes, trained weights, noise, an alignment, remembered Gaussians, prompts,
# adapters by task, exemplars, and text.
LEARNERS = {
    "simplecil": [],
    "acil": ["--set", "expansion=256"],
    "finetune": ["--set", "epochs=2"],
    "min": ["--set", "epochs=2", "--set", "expansion=128"],
    "ncptm": ["--set", "epochs=2"],
    "slca": ["--set", "epochs=2"],
    "l2p": ["--set", "epochs=2"],
    "ease": ["--set", "epochs=2"],
    "icarl": ["--set", "epochs=2"],
    "cpt": ["--set", "epochs=2"],
    "dmc-ot": ["--set", "epochs=2"],
}
CLIP = {"cpt", "dmc-ot"}
TOLERANCE = 1e-3


def made(learner: str, folder: Path, **environment: str) -> Run:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    folder.mkdir()
    data = ["--data", "shields", "--backbone", "bundled:clip"] if learner in CLIP else ["--data", "digits"]
    words = [*REQUEST, *data, "--learner", learner, *LEARNERS[learner], "--out", "r"]
    command = [sys.executable, "-m", "cillab", *words]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Run(folder / "r")


@pytest.mark.parametrize("learner", list(LEARNERS))
def test_the_same_again(learner: str, tmp_path: Path) -> None:
    first = made(learner, tmp_path / "a", PYTHONHASHSEED="0")
    again = made(learner, tmp_path / "another folder", PYTHONHASHSEED="4242")
    ours, theirs = facts(first), facts(again)
    assert sorted(ours) == sorted(theirs) and [name for name in ours if ours[name] != theirs[name]] == []
    wide = made(learner, tmp_path / "b", OMP_NUM_THREADS="2")
    furthest = apart(first, wide)
    print(f"{learner}: two threads differ from one by {furthest:.1e} of the largest entry")
    assert furthest < TOLERANCE


def apart(one: Run, two: Run) -> float:
    """The largest difference of means and heads, over the largest entry of the array."""
    found = [0.0]
    for step in one.task_steps:
        for name in ("means/now", "head/weight"):
            ours, theirs = (run.snapshot(step)[name].astype(np.float64) for run in (one, two))
            found.append(float(np.abs(ours - theirs).max() / np.abs(ours).max()))
    return max(found)
