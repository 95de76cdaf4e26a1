"""Sweeps with several runs side by side: how many, what becomes of those that fail, and of an end midway.

The processes are small scripts on copies of a written run; the last test runs the command itself.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from cillab.core import devices, threads
from cillab.core.errors import InvalidRequestError
from cillab.lab import sweep as lab
from cillab.lab.jobs import Job
from cillab.lab.spec import RunSpec
from cillab.lab.sweep import sweep
from cillab.runs import Run
from cillab.runs.claim import claim
from tests.runs.synthetic import write_synthetic_run

Script = Callable[[Path, int], str]  # of a run's folder and the number of its attempt


class Machine:
    """Starts scripts in place of runs, and notes what it was asked for. A run that ends well leaves a whole folder."""

    def __init__(self, root: Path, script: Script) -> None:
        self.whole = write_synthetic_run(root / ".whole", tasks=2, classes_per_task=2, probe=4, dim=4)
        self.script, self.jobs, self.environments, self.most = script, list[Job](), list[Mapping[str, str]](), 0

    def start(self, spec: RunSpec, environment: Mapping[str, str]) -> Job:
        path = spec.folder()
        attempt = 1 + sum(job.path == path for job in self.jobs)
        copy = f"shutil.copytree({str(self.whole)!r}, {str(path)!r})"
        code = f"import shutil, sys, time; {self.script(path, attempt)}; {copy}"
        process = subprocess.Popen([sys.executable, "-S", "-c", code], start_new_session=True)
        self.jobs.append(Job(path, process.pid, process=process))
        self.environments.append(environment)
        self.most = max(self.most, sum(job.alive for job in self.jobs))
        return self.jobs[-1]


def machine(root: Path, script: Script, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(root, script)
    monkeypatch.setattr(lab, "start", made.start)
    monkeypatch.setattr(lab, "_another", lambda spec, run: "")
    return made


def specs(root: Path, count: int) -> list[RunSpec]:
    return [RunSpec(seed=seed, out=str(root / f"r{seed}")) for seed in range(count)]  # pyright: ignore[reportCallIssue]


def test_so_many_go_side_by_side_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = machine(tmp_path, lambda path, attempt: "time.sleep(0.2)", monkeypatch)
    outcomes = list(sweep(specs(tmp_path, 5), jobs=2))
    assert sorted(one.path.name for one in outcomes) == [f"r{seed}" for seed in range(5)]
    assert {one.state for one in outcomes} == {"finished"} and {one.note for one in outcomes} == {""}
    assert made.most == 2
    assert {one.note for one in sweep(specs(tmp_path, 5), jobs=3)} == {"was there already"} and len(made.jobs) == 5


def test_a_run_that_fails_is_tried_once_more_a_refused_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def script(path: Path, attempt: int) -> str:
        return {"r0": f"sys.exit({2 - attempt})" if attempt == 1 else "0", "r1": "sys.exit(1)", "r2": "sys.exit(2)",
                "r3": "import os; os.kill(os.getpid(), 9)", "r4": "0"}[path.name]  # fmt: skip

    made = machine(tmp_path, script, monkeypatch)
    outcomes = {one.path.name: one for one in sweep(specs(tmp_path, 5), jobs=2)}
    assert {name: one.state for name, one in outcomes.items()} == {
        "r0": "finished", "r1": "failed", "r2": "failed", "r3": "failed", "r4": "finished"
    }  # fmt: skip
    tried = [job.path.name for job in made.jobs]
    assert {name: tried.count(name) for name in outcomes} == {"r0": 2, "r1": 2, "r2": 1, "r3": 2, "r4": 1}
    assert outcomes["r0"].note.startswith("at the second attempt")
    assert outcomes["r3"].note == "its process was ended by signal 9"


def test_whoever_stops_asking_leaves_no_process_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = machine(tmp_path, lambda path, _: "0" if path.name == "r0" else "time.sleep(60)", monkeypatch)
    outcomes = sweep(specs(tmp_path, 4), jobs=3)
    assert next(outcomes).path.name == "r0"
    began = time.monotonic()
    outcomes.close()
    assert time.monotonic() - began < 5 and not any(job.alive for job in made.jobs)


def test_a_run_that_another_process_writes_is_left_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = machine(tmp_path, lambda path, _: "0", monkeypatch)
    monkeypatch.setattr(lab, "_LOOK_S", 0.1)
    other = claim(tmp_path / "r0")  # the same sweep on another machine is about to begin it
    outcomes = sweep(specs(tmp_path, 2))
    assert next(outcomes).path.name == "r1"
    shutil.copytree(made.whole, tmp_path / "r0", dirs_exist_ok=True)
    other.release()
    assert next(outcomes) == lab.Outcome(tmp_path / "r0", "finished", "was there already")
    assert len(made.jobs) == 1


def test_threads_and_devices_are_divided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = machine(tmp_path, lambda path, _: "time.sleep(0.2)", monkeypatch)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(threads, "usable_cores", lambda: 8)
    monkeypatch.setattr(devices, "cuda_devices", lambda: 4)
    list(sweep(specs(tmp_path, 3), jobs=3))
    assert made.environments == [{"OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": str(n)} for n in range(3)]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert [devices.one_of_many(n)["CUDA_VISIBLE_DEVICES"] for n in range(3)] == ["5", "7", "5"]
    assert threads.share(4) == {}  # what the user has set is of one process already
    on_cpu = [spec.with_(device="cpu", out=f"{spec.out}c") for spec in specs(tmp_path, 2)]
    list(sweep(on_cpu, jobs=2, threads=1))
    assert made.environments[3:] == [{"OMP_NUM_THREADS": "1"}] * 2


def test_no_job_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="jobs = 0"):
        next(sweep(specs(tmp_path, 1), jobs=0))


@pytest.mark.slow
def test_ctrl_c_leaves_every_run_resumable_and_the_same_command_goes_on(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(
        "{data: digits, split: B0-Inc5, learner: finetune, params: {epochs: 60}, probe_points: 10, train_per_class: 5,"
        " test_per_class: 5, train_probe_per_class: 2, grid: {seed: [1, 2, 3]}, out: runs}"
    )
    words = [sys.executable, "-m", "cillab", "sweep", "grid.yaml", "--jobs", "2"]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    first = subprocess.Popen(words, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 200
    while len(list(tmp_path.glob("runs/*/run.json"))) < 2:
        assert time.monotonic() < deadline and first.poll() is None
        time.sleep(0.05)
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=200)
    assert first.returncode == 130 and "the same command goes on" in said
    begun = [Run(path.parent) for path in tmp_path.glob("runs/*/run.json")]
    assert [run.liveness() for run in begun] == ["cancelled", "cancelled"]
    again = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert again.returncode == 0 and again.stdout.count("finished") == 3, again.stdout + again.stderr
