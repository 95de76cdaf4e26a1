"""A run folder that somebody sent names a process: cancelling it signals nobody who does not write it here."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cillab.lab import jobs
from cillab.lab.jobs import Job
from cillab.runs import files
from tests.runs.synthetic import write_synthetic_run


@pytest.mark.parametrize("host", ["elsewhere", socket.gethostname()])
def test_a_pid_out_of_a_folder_is_not_signalled(host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_ASK_S", 0.05)
    monkeypatch.setattr(jobs, "_TERM_S", 0.05)
    path = write_synthetic_run(tmp_path / "r", tasks=1, classes_per_task=2, probe=4, dim=4)
    bystander = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
    try:
        status = files.read_json(path / "status.json")
        files.write_json(path / "status.json", status | {"state": "running", "pid": bystander.pid, "host": host})
        Job.at(path).cancel()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
