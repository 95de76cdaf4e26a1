"""Run folders for the pages: with noise, without, with class names, still going, damaged, none at all."""

import os
from pathlib import Path

import pytest

from cillab.runs import RunWriter
from cillab.runs.run import Run
from tests.runs.synthetic import write_synthetic_run

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("noise", "plain", "clip", "live", "empty", "corrupted", "started")


def make(kind: str, folder: Path) -> Path:
    """A folder of runs of one kind."""
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "noise":
        write_synthetic_run(folder / "first", noise=True, cams=True)
    elif kind == "plain":
        write_synthetic_run(folder / "first", noise=False)
    elif kind == "clip":
        write_synthetic_run(folder / "first", text=True)
    elif kind == "live":
        write_synthetic_run(folder / "first", noise=True, finished=False)
    elif kind == "corrupted":
        step = write_synthetic_run(folder / "first", noise=True) / "steps" / "t02.safetensors"
        step.write_bytes(step.read_bytes()[:100])
    elif kind == "started":  # a run that has not finished its first task
        info = Run(write_synthetic_run(folder.parent / "other", tasks=3)).info
        RunWriter.create(folder / "first", info).probe(["a"], [0], [0])
    return folder


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One folder of runs of every kind, written once."""
    root = tmp_path_factory.mktemp("app")
    return {kind: make(kind, root / kind / "runs") for kind in KINDS}


@pytest.fixture
def only_these_runs(monkeypatch: pytest.MonkeyPatch):
    """Show the runs of a folder and no recorded demo."""

    def use(folder: Path) -> None:
        monkeypatch.setitem(os.environ, "CILLAB_RUNS", str(folder))
        monkeypatch.setattr("app.shell.store.demos", dict)

    return use
