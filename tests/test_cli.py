"""The command line: refusals are one line on stderr with exit code 2; a small run writes what it should."""

import ast
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cillab import cli, screen


def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["cillab", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "--lerner", "min"), "--learner"),
        (("rum",), "Did you mean 'run'"),
        (("list", "learner"), "'learners'"),
        (("run", "--seed", "x"), "--seed"),
        (("run", "--set", "epochs"), "key=value"),
        (("run", "--transform", "tags"), "'pilot_compat'"),
        (("run", "nowhere.yaml"), "No spec file"),
        (("table", "--format", "cvs"), "Did you mean 'csv'"),
        (("resume", "nowhere"), "is not a run"),
        (("report", "nowhere"), "is not a run"),
        (("run", "--learner", "simplecl"), "Did you mean 'simplecil'"),
        (("run", "--learner", "min", "--set", "epoch=3"), "Did you mean 'epochs'"),
        (("run", "--backbone", "bundled:vti"), "Did you mean"),
        (("run", "--data", "digit"), "Did you mean 'digits'"),
        (("run", "--data", "digits", "--split", "B0-Inc11"), "split"),
        (("run", "--scenario", "base-to-now"), "Did you mean 'base-to-new'"),
        (("run", "--imbalanse", "0.1"), "--imbalance"),
        (("run", "--scenario", "few-shot", "--imbalance", "0"), "imbalance = 0.0"),
        (("run", "--scenario", "base-to-new", "--learner", "simplecil"), "by name alone"),
        (("run", "--weights", "none.safetensors"), "none.safetensors"),
    ],
)
def test_a_bad_request_is_one_line(monkeypatch, capsys, tmp_path, words, message) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = call(monkeypatch, capsys, *words)
    assert code == 2 and message in err and err.count("\n") == 1, err
    assert "Traceback" not in err and not out
    assert not any(tmp_path.iterdir()), "something was written"


@pytest.mark.parametrize("command", ["site", "report", "table", "study", "resume"])
def test_a_mistyped_folder_is_answered_with_the_one_that_is_there(monkeypatch, capsys, tmp_path, command) -> None:
    (tmp_path / "ncptm").mkdir()
    code, _, err = call(monkeypatch, capsys, command, str(tmp_path / "nctpm"))
    assert code == 2 and err.count("\n") == 1, err
    assert "nctpm is no folder" in err and f"Did you mean {str(tmp_path / 'ncptm')!r}?" in err


def test_a_folder_that_holds_something_is_left_alone(monkeypatch, capsys, tmp_path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    code, _, err = call(monkeypatch, capsys, "run", "--data", "digits", "--out", str(tmp_path))
    assert code == 2 and "not empty" in err and err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_a_full_disk_is_one_line(monkeypatch, capsys, tmp_path) -> None:
    def full(spec):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")

    monkeypatch.setattr("cillab.lab.engine.Lab.from_spec", full)
    code, _, err = call(monkeypatch, capsys, "run", "--out", str(tmp_path / "r"))
    assert code == 2 and err == "cillab: No space left on device (somewhere)\n"


def test_ctrl_c_is_130(monkeypatch, capsys, tmp_path) -> None:
    def pressed(spec):
        raise KeyboardInterrupt

    monkeypatch.setattr("cillab.lab.engine.Lab.from_spec", pressed)
    code, _, err = call(monkeypatch, capsys, "run", "--out", str(tmp_path / "r"))
    assert code == 130 and "Interrupted" in err and err.count("\n") == 1


def test_help_and_lists_do_not_load_torch() -> None:
    probe = "import sys, cillab.cli; from typer.testing import CliRunner as C\nr = C().invoke(cillab.cli.app, {!r})\n"
    for words in (["--help"], ["run", "--help"], ["list", "presets"]):
        code = probe.format(words) + "assert r.exit_code == 0, r.output\nassert 'torch' not in sys.modules, 'torch'"
        subprocess.run([sys.executable, "-c", code], check=True)


def test_lists_load_next_to_nothing_and_answer_as_the_whole_command_line_does() -> None:
    heavy = "('numpy', 'yaml', 'cillab.cli')"
    told = f"lambda: print([n for n in {heavy} if n in sys.modules])"  # at exit: a command never returns
    code = f"import atexit, sys, cillab.__main__ as m\natexit.register({told})\nm.main()"
    for words in (["list", "transforms"], ["list", "learner"]):
        light = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
        said = light.stdout.splitlines()
        assert said.pop() == "[]", words
        whole = "import cillab.cli as c; c.main()"
        other = subprocess.run([sys.executable, "-c", whole, *words], capture_output=True, text=True, check=False)
        assert (said, light.stderr, light.returncode) == (other.stdout.splitlines(), other.stderr, other.returncode)


@pytest.mark.slow
def test_a_small_run_and_its_report(tmp_path) -> None:
    words = ["run", "--data", "digits", "--split", "B0-Inc5", "--learner", "simplecil", "--out", "r"]
    more = ["--probe-points", "20", "--train-per-class", "10", "--test-per-class", "10", "--precision", "fp32"]
    env = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parent.parent)}

    def cillab(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "cillab", *words], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )

    done = cillab(*words, *more)
    assert done.returncode == 0, done.stderr
    assert "task 2/2" in done.stdout and "A_last" in done.stdout
    result = json.loads((tmp_path / "r" / "result.json").read_text())
    assert result["a_last"] > 0.3 and result["passes_per_test_image"] == 1 and result["trainable_parameters"] == 0
    again = cillab("run", "r/spec.yaml", "--out", "again")
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "again" / "result.json").read_text())["accuracy_matrix"] == result["accuracy_matrix"]
    assert cillab("resume", "r").returncode == 0
    page = cillab("report", "r", "--out", "r.html")
    assert page.returncode == 0, page.stderr
    assert "<script src" not in (tmp_path / "r.html").read_text()  # nothing to fetch
    assert cillab("table", ".").returncode == 0


def test_a_scenario_and_its_parameters_are_the_same_record_in_shell_yaml_run_and_row(
    monkeypatch, capsys, tmp_path
) -> None:
    scenario = (
        "--scenario",
        "few-shot",
        "--set-scenario",
        "base=6",
        "--set-scenario",
        "way=2",
        "--set-scenario",
        "shots=3",
    )
    few = ("--train-per-class", "8", "--test-per-class", "2", "--probe-points", "10", "--precision", "fp32")
    words = ("run", "--data", "digits", "--learner", "simplecil", *scenario, *few, "--out", str(tmp_path / "r"))
    code, _, err = call(monkeypatch, capsys, *words)
    assert code == 0, err
    info = json.loads((tmp_path / "r" / "run.json").read_text())
    record = {"name": "few-shot", "base": 6, "way": 2, "shots": 3, "draw": 0}
    assert [len(task) for task in info["tasks"]] == [6, 2, 2]
    assert info["spec"]["scenario"] == info["protocol"]["scenario"] == record
    assert yaml.safe_load((tmp_path / "r" / "spec.yaml").read_text())["scenario"] == record
    assert sorted(info["train_images"].values()) == [3] * 4 + [8] * 6


def test_ctrl_c_anywhere_in_a_command_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Typer turns it into the exit code alone: the command ended without a word."""
    import typer

    from cillab.answering import answer

    app = typer.Typer()

    @app.command()
    def stopped() -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr("sys.argv", ["cillab"])
        answer(app)
    assert end.value.code == 130
    assert capsys.readouterr().err == "cillab: Interrupted.\n"


def test_no_line_of_the_command_line_is_read_as_markup() -> None:
    """A folder may be called `[/nope]`: Rich would end in a traceback after the run."""
    for path in (Path(cli.__file__), Path(screen.__file__)):
        found = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        shown = [one for one in found if isinstance(one.func, ast.Attribute) and one.func.attr == "print"]
        assert len(shown) >= 3
        for one in shown:
            said = {word.arg: word.value.value for word in one.keywords if isinstance(word.value, ast.Constant)}
            assert said.get("markup") is False, f"{path.name}:{one.lineno}"
