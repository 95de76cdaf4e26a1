"""Jobs on a small real run, in processes of their own."""

import time
from pathlib import Path

import pytest

from cillab.core.errors import RunError
from cillab.lab.jobs import Job, start, start_resume
from cillab.lab.spec import RunSpec
from cillab.runs import Run

pytestmark = pytest.mark.slow
SMALL = RunSpec(
    data="digits", split="B0-Inc5", learner="finetune", params={"epochs": 100}, probe_points=10, train_per_class=5,
    test_per_class=5, train_probe_per_class=2,
)  # fmt: skip


def wait_until(job: Job, state: str, timeout_s: float = 300.0) -> None:
    deadline = time.monotonic() + timeout_s
    while job.status.state != state:
        assert time.monotonic() < deadline and job.status.state != "failed", job.log()
        time.sleep(0.05)


def test_start_pause_cancel_resume(tmp_path: Path) -> None:
    job = start(SMALL.with_(out=str(tmp_path / "r")))
    assert job.status.state == "queued"
    wait_until(job, "running")
    job.pause()
    wait_until(Job.at(tmp_path / "r"), "paused")
    with pytest.raises(RunError, match="is being written"):
        start_resume(tmp_path / "r")
    job.resume()
    wait_until(job, "running")
    began = time.monotonic()
    job.cancel()
    assert time.monotonic() - began < 2.5 and not job.alive
    assert Run(tmp_path / "r").liveness() == "cancelled" and Run(tmp_path / "r").result is None
    assert (tmp_path / "r" / "log.txt").is_file() and not list(tmp_path.glob(".*"))
    again = start_resume(tmp_path / "r")
    assert again.wait(600.0), again.log()
    assert Run(tmp_path / "r").liveness() == "finished", again.log()


def test_a_refused_request_says_why(tmp_path: Path) -> None:
    job = start(SMALL.with_(learner="finetun", out=str(tmp_path / "r")))
    assert job.wait(300.0)
    assert job.status.state == "failed" and "Did you mean 'finetune'" in job.status.error
    with pytest.raises(RunError, match="not empty"):
        start(SMALL.with_(out=str(tmp_path)))
