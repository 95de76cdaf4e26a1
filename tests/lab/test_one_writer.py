"""Resuming, interrupting and stopping early, as somebody at a command line does it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cillab import cli
from cillab.core.errors import RunError
from cillab.lab import Lab
from cillab.runs import Run
from cillab.runs.claim import claim
from tests.lab.fakes import Line, Tiny, squares

ROOT = Path(cli.__file__).parents[1]
SMALL = [
    *("run", "--data", "digits", "--split", "B0-Inc5", "--precision", "fp32", "--probe-points", "10"),
    *("--train-per-class", "5", "--test-per-class", "5", "--train-probe-per-class", "2"),
]


def lab_at(path: Path) -> Lab:
    return Lab(squares(), Tiny(Line()), path, probe_points=18, train_probe_per_class=4)


def started(*words: str, folder: Path) -> subprocess.Popen:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "cillab", *words]
    return subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path, monkeypatch, capsys) -> None:
    list(lab_at(tmp_path / "r"))
    before = contents(tmp_path / "r")
    again = Lab.resume(tmp_path / "r", squares(), Tiny(Line()))
    assert list(again) == [] and again.finished == 3
    monkeypatch.setattr(sys, "argv", ["cillab", "resume", str(tmp_path / "r")])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"{tmp_path / 'r'} is finished: nothing is left to do.\n"
    assert contents(tmp_path / "r") == before


def test_states_and_costs_after_a_resume_are_those_of_the_straight_run(tmp_path: Path) -> None:
    list(lab_at(tmp_path / "straight"))
    lab_at(tmp_path / "r").step()
    list(Lab.resume(tmp_path / "r", squares(), Tiny(Line())))
    assert contents(tmp_path / "r" / "checkpoints") == contents(tmp_path / "straight" / "checkpoints")
    assert contents(tmp_path / "r" / "steps") == contents(tmp_path / "straight" / "steps")
    results = [Run(tmp_path / name).result for name in ("r", "straight")]
    assert results[0].trainable_parameters == results[1].trainable_parameters


def test_a_finished_run_can_still_be_forked(tmp_path: Path) -> None:
    list(lab_at(tmp_path / "r"))
    branch = Lab.resume(tmp_path / "r", squares(), Tiny(Line())).fork(1, tmp_path / "branch")
    assert [step.task for step in branch] == [2]


@pytest.mark.parametrize("gone", ["probe.json", "*"])
def test_a_run_stopped_between_run_json_and_the_probe_gets_its_probe(tmp_path: Path, gone: str) -> None:
    lab = lab_at(tmp_path / "r")
    lab.begin()
    probe = contents(tmp_path / "r" / "probe")
    for file in (tmp_path / "r" / "probe").glob(gone):
        file.unlink()
    list(Lab.resume(tmp_path / "r", squares(), Tiny(Line())))
    assert contents(tmp_path / "r" / "probe") == probe
    assert len(Run(tmp_path / "r").probe) == 18


def test_a_finished_run_without_its_probe_gets_it_too(tmp_path: Path) -> None:
    list(lab_at(tmp_path / "r"))
    result = (tmp_path / "r" / "result.json").read_bytes()
    (tmp_path / "r" / "probe" / "probe.json").unlink()
    assert list(Lab.resume(tmp_path / "r", squares(), Tiny(Line()))) == []
    assert len(Run(tmp_path / "r").probe) == 18
    assert (tmp_path / "r" / "result.json").read_bytes() == result


def test_interrupted_right_after_run_json_it_says_so(tmp_path: Path, monkeypatch) -> None:
    def pressed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("cillab.runs.writer.write_probe", pressed)
    lab = lab_at(tmp_path / "r")
    with pytest.raises(KeyboardInterrupt):
        lab.begin()
    assert Run(tmp_path / "r").status.state == "cancelled"
    monkeypatch.undo()
    list(lab)
    assert Run(tmp_path / "r").status.state == "finished" and len(Run(tmp_path / "r").probe) == 18


def test_a_lab_that_was_overtaken_does_not_write(tmp_path: Path) -> None:
    lab = lab_at(tmp_path / "r")
    lab.step()
    list(Lab.resume(tmp_path / "r", squares(), Tiny(Line())))
    before = contents(tmp_path / "r")
    with pytest.raises(RunError, match="has another writer by now"):
        lab.step()
    assert contents(tmp_path / "r") == before


def test_the_second_of_two_hears_it_at_once(tmp_path: Path) -> None:
    held = claim(tmp_path / "r")
    second = started(*SMALL, "--out", "r", folder=tmp_path)
    out, err = second.communicate(timeout=60)
    assert second.returncode == 2 and out == ""
    assert err == f"cillab: r is being written by process {os.getpid()} on {os.uname().nodename}.\n"
    held.release()
    lab = lab_at(tmp_path / "s")
    lab.step()
    again = started("resume", "s", folder=tmp_path)
    out, err = again.communicate(timeout=60)
    assert again.returncode == 2 and err.startswith("cillab: s is being written by process") and err.count("\n") == 1
    code = "import sys, cillab.cli\ntry: cillab.cli.main()\nfinally: assert 'torch' not in sys.modules"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code, "resume", "s"], cwd=tmp_path, env=env, check=False)
    assert done.returncode == 2


def test_a_refused_request_leaves_no_folder(tmp_path: Path) -> None:
    refused = started(*SMALL, "--learner", "finetun", "--out", "a/r", folder=tmp_path)
    _, err = refused.communicate(timeout=120)
    assert refused.returncode == 2 and "Did you mean 'finetune'" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_while_loading_is_one_line(tmp_path: Path, number: int) -> None:
    job = started(*SMALL, "--out", "r", folder=tmp_path)
    while not (tmp_path / "r" / "control" / "lock").is_file():
        assert job.poll() is None
        time.sleep(0.01)
    job.send_signal(number)
    _, err = job.communicate(timeout=60)
    assert job.returncode == 128 + number
    assert err.startswith("cillab: Interrupted.") and err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("delay_s", [0.1, 0.2, 0.35, 0.5, 0.8, 1.2, 2.0, 3.0, 5.0])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_at_any_moment(tmp_path: Path, delay_s: float, number: int) -> None:
    job = started(*SMALL, "--learner", "finetune", "--set", "epochs=30", "--out", "r", folder=tmp_path)
    time.sleep(delay_s)
    job.send_signal(number)
    _, err = job.communicate(timeout=120)
    if job.returncode == 0:
        return  # it had finished
    assert job.returncode in (128 + number, -number) and "Traceback" not in err and err.count("\n") <= 1, err
    if (tmp_path / "r" / "run.json").is_file():
        assert json.loads((tmp_path / "r" / "status.json").read_text())["state"] == "cancelled"
