"""One run at a time, in the order asked for, whatever happens to each; names are folder names and never paths."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from cillab.core.errors import InvalidRequestError, RunError
from cillab.lab import queue
from cillab.lab.jobs import Job
from cillab.lab.spec import RunSpec
from cillab.runs import Run
from tests.runs.edit import unsealed
from tests.runs.synthetic import write_synthetic_run

SPEC = RunSpec(data="digits", split="B0-Inc5")


@pytest.fixture(autouse=True)
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "ensure_worker", lambda root: None)


@dataclass(frozen=True)
class Short(Job):
    """A job that is over at once."""

    @property
    def alive(self) -> bool:
        return False


def test_first_come_first_served_and_a_broken_one_stops_nobody(tmp_path: Path) -> None:
    for name in ("c", "a", "b"):
        queue.enqueue(tmp_path, name, SPEC)
    started = []

    def launch(one: queue.Waiting, root: Path) -> Job:
        started.append(one.name)
        if one.name == "a":
            raise RunError("no such thing")
        write_synthetic_run(root / one.name, tasks=2)
        return Short(root / one.name, 1)

    assert queue.work(tmp_path, launch) == 3
    assert started == ["c", "a", "b"]
    assert queue.waiting(tmp_path) == [] and queue.refused(tmp_path) == {"a": "no such thing"}
    queue.dismiss(tmp_path, "a")
    assert queue.refused(tmp_path) == {}


def test_a_request_that_never_becomes_a_run_says_why(tmp_path: Path) -> None:
    queue.enqueue(tmp_path, "a", SPEC)

    def launch(one: queue.Waiting, root: Path) -> Job:
        (root / ".a.log.txt").write_text("loading\ncillab: Learner 'x' needs a ViT.\n")
        return Short(root / one.name, 1)

    queue.work(tmp_path, launch)
    assert queue.refused(tmp_path) == {"a": "Learner 'x' needs a ViT."}
    assert not (tmp_path / ".a.log.txt").exists()


def test_asking_while_the_last_one_runs_is_not_lost(tmp_path: Path) -> None:
    queue.enqueue(tmp_path, "a", SPEC)
    seen = []

    def launch(one: queue.Waiting, root: Path) -> Job:
        seen.append(one.name)
        if one.name == "a":
            queue.enqueue(root, "b", SPEC)
        return Short(root / one.name, 1)

    queue.work(tmp_path, launch)
    assert seen == ["a", "b"]


def test_there_is_one_worker(tmp_path: Path) -> None:
    queue.enqueue(tmp_path, "a", SPEC)
    assert not queue.is_working(tmp_path)
    with queue._lock(tmp_path):
        code = f"from pathlib import Path; from cillab.lab import queue; print(queue.work(Path({str(tmp_path)!r})))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
        assert done.stdout.strip() == "0"
        assert queue.is_working(tmp_path)
    assert len(queue.waiting(tmp_path)) == 1


@pytest.mark.parametrize("name", ["../x", "a/b", "/etc", ".hidden", "", "a" * 81, "x\n", "a b"])
def test_a_name_is_never_a_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidRequestError, match="Run name"):
        queue.enqueue(tmp_path, name, SPEC)
    with pytest.raises(RunError, match="no run"):
        queue.enqueue_resume(tmp_path, name)


def test_a_name_is_taken_once(tmp_path: Path) -> None:
    queue.enqueue(tmp_path, "a", SPEC)
    (tmp_path / "b").mkdir()
    for name in ("a", "b"):
        with pytest.raises(RunError, match="is taken"):
            queue.enqueue(tmp_path, name, SPEC)
    queue.withdraw(tmp_path, queue.waiting(tmp_path)[0].key)
    queue.withdraw(tmp_path, "../../etc/passwd")
    assert queue.waiting(tmp_path) == []


def test_only_a_stopped_run_is_resumed(tmp_path: Path) -> None:
    write_synthetic_run(tmp_path / "done", tasks=2)
    with pytest.raises(RunError, match="finished"):
        queue.enqueue_resume(tmp_path, "done")
    path = write_synthetic_run(tmp_path / "dead", tasks=2, finished=False)
    status = json.loads(unsealed((path / "status.json").read_text())) | {"pid": 2**22 + 1}
    (path / "status.json").write_text(json.dumps(status))
    assert Run(path).liveness() == "interrupted"
    queue.enqueue_resume(tmp_path, "dead")
    assert [(one.name, one.resume) for one in queue.waiting(tmp_path)] == [("dead", True)]
    with pytest.raises(RunError, match="waits already"):
        queue.enqueue_resume(tmp_path, "dead")


def test_damaged_files_are_passed_over(tmp_path: Path) -> None:
    queue.enqueue(tmp_path, "a", SPEC)
    (tmp_path / ".queue" / "000.json").write_text("{")
    (tmp_path / ".queue" / "current.json").write_text("[]")
    assert [one.name for one in queue.waiting(tmp_path)] == ["a"]
    assert queue.current(tmp_path) is None


def test_current_is_who_still_lives(tmp_path: Path) -> None:
    (tmp_path / ".queue").mkdir()
    for pid, there in ((os.getpid(), True), (2**22 + 1, False)):
        (tmp_path / ".queue" / "current.json").write_text(json.dumps({"name": "a", "pid": pid, "since": 0}))
        assert (queue.current(tmp_path) is not None) is there
