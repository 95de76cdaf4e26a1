"""One writer per run, told apart before anything is loaded; the lock goes with its process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cillab.core.errors import RunError
from cillab.runs import Run, RunInfo, RunWriter
from cillab.runs.claim import claim, is_claimed
from cillab.runs.files import write_record

INFO = RunInfo(tasks=[[4], [9]], spec={"seed": 0, "out": None})

HOLD = """
import sys
from cillab.runs import RunInfo, RunWriter
from cillab.runs.claim import claim
held = claim(sys.argv[1]) if sys.argv[2] == "claim" else getattr(RunWriter, sys.argv[2])(sys.argv[1])
print("held", flush=True)
sys.stdin.readline()
"""


class Holder:
    """A process that holds a run folder until it is told to end, or killed."""

    def __init__(self, path: Path, how: str = "claim") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(path), how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout.readline() == "held\n"

    def end(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        self.process.communicate()


def say(path: Path, **changes) -> None:
    write_record(path / "status.json", Run(path).status.model_dump() | changes)


def test_two_processes_and_death(tmp_path: Path) -> None:
    path = tmp_path / "run"
    RunWriter.create(path, INFO).release()
    other = Holder(path, "resume")
    for enter in (claim, RunWriter.resume):
        with pytest.raises(RunError, match=f"is being written by process {other.process.pid} on"):
            enter(path)
    assert is_claimed(path)
    other.end()
    assert not is_claimed(path)
    writer = RunWriter.resume(path)
    writer.log("t00", {"a": 1.0})
    assert is_claimed(path)


def test_a_pid_that_is_used_again_blocks_nobody(tmp_path: Path) -> None:
    writer = RunWriter.create(tmp_path / "run", INFO)
    writer.status(state="running")
    writer.release()
    del writer
    say(tmp_path / "run", pid=os.getppid())
    assert Run(tmp_path / "run").liveness() == "running"  # so it looks: the parent of the tests is alive
    RunWriter.resume(tmp_path / "run")


def test_the_latest_writer_of_a_process_counts(tmp_path: Path) -> None:
    first = RunWriter.create(tmp_path / "run", INFO)
    second = RunWriter.resume(tmp_path / "run")
    second.log("t00", {"a": 1.0})
    for write in (
        lambda: first.log("t00", {"a": 1.0}),
        lambda: first.status(state="running"),
        lambda: first.snapshot("t00", {}),
        lambda: first.rewind([]),
        lambda: first.probe([], [], []),
    ):
        with pytest.raises(RunError, match="has another writer by now"):
            write()
    assert len(Run(tmp_path / "run").metrics().rows) == 1


def test_whoever_let_go_may_come_back_unless_somebody_went_on(tmp_path: Path) -> None:
    first = RunWriter.create(tmp_path / "run", INFO)
    first.release()
    first.claim()
    first.status(state="paused")
    first.release()
    second = RunWriter.resume(tmp_path / "run")
    second.status(state="running", task=1)
    second.release()
    with pytest.raises(RunError, match="somebody has gone on with it"):
        first.claim()


def test_a_claim_that_came_to_nothing_leaves_nothing(tmp_path: Path) -> None:
    claim(tmp_path / "a" / "b").withdraw()
    assert not list(tmp_path.iterdir())
    (tmp_path / "there").mkdir()
    claim(tmp_path / "there").withdraw()
    assert (tmp_path / "there").is_dir()
    held = claim(tmp_path / "run")
    writer = RunWriter.create(tmp_path / "run", INFO)
    held.withdraw()  # it was taken over: nothing to take back
    assert Run(tmp_path / "run").info.tasks == INFO.tasks
    assert is_claimed(tmp_path / "run") and not writer.taken_over


def test_killed_before_run_json_goes_on_as_the_same_run_only(tmp_path: Path) -> None:
    path = tmp_path / "run"
    RunWriter.create(path, INFO).release()
    (path / "run.json").unlink()
    (path / ".run.json.123.tmp").write_text("{")
    with pytest.raises(RunError, match="stopped before the run began"):
        Run(path)
    with pytest.raises(RunError, match="beginning of another run"):
        RunWriter.create(path, INFO.model_copy(update={"spec": {"seed": 1}}))
    assert (path / "spec.yaml").is_file()
    RunWriter.create(path, INFO.model_copy(update={"spec": {"seed": 0, "out": "elsewhere"}}))
    assert Run(path).status.state == "queued" and not list(path.rglob("*.tmp"))


@pytest.mark.parametrize("name", ["photo.png", "steps/t00.safetensors", "control/other", "result.json"])
def test_a_folder_with_anything_else_is_not_begun(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(RunError, match="exists and is not empty"):
        RunWriter.create(tmp_path, INFO)
    assert (tmp_path / name).read_text() == "mine"


def test_a_queued_run_whose_process_is_gone_is_interrupted(tmp_path: Path) -> None:
    other = Holder(tmp_path / "x")
    pid = other.process.pid
    writer = RunWriter.create(tmp_path / "run", INFO)
    assert writer.path and Run(tmp_path / "run").liveness() == "queued"
    say(tmp_path / "run", pid=pid)
    assert Run(tmp_path / "run").liveness() == "queued"
    other.end()
    assert Run(tmp_path / "run").liveness() == "interrupted"
