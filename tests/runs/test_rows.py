"""Rows that are kept between two looks. Oracle: the same folders read from scratch."""

import os
import shutil
import time
from pathlib import Path

import pytest

from cillab.runs import RunWriter, find_runs
from cillab.runs.index import Index, columns, describe, listed
from cillab.runs.rows import rows_of
from tests.runs.test_table import write


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CILLAB_CACHE", str(tmp_path / "cache"))
    for number in range(24):
        write(tmp_path / "runs" / f"r{number:02d}", number / 24)
        RunWriter.resume(tmp_path / "runs" / f"r{number:02d}").status(state="finished")
    return tmp_path / "runs"


def table(folder: Path) -> tuple[list[dict], int]:
    """The rows, and how many folders were read for them."""
    paths, read = sorted(folder.iterdir()), []

    def reading(path: Path) -> dict:
        read.append(path)
        return describe(path)

    found = rows_of(paths, reading, columns())
    assert found == [describe(path) for path in paths]
    return found, len(read)


def test_a_second_look_reads_nothing(folder: Path) -> None:
    assert table(folder)[1] == 24
    assert table(folder)[1] == 0
    assert [row["a_last"] for row in Index(folder).sql("SELECT a_last FROM runs ORDER BY run")][1] == 1 / 24


def test_it_heals(folder: Path) -> None:
    table(folder)
    write(folder / "new", 0.5)
    RunWriter.resume(folder / "new").status(state="finished")
    shutil.rmtree(folder / "r00")
    (folder / "r01" / "result.json").write_text("{")
    (folder / "r02" / "steps" / "t00.safetensors").write_bytes(b"")
    rows, read = table(folder)
    assert read == 3 and len(rows) == 24
    assert {row["run"]: row["state"] for row in rows}["r01"] == "damaged"
    assert table(folder)[1] == 1  # the damaged one, until it is mended
    (kept,) = (folder.parent / "cache" / "rows").iterdir()
    content = kept.read_bytes()
    for damage in (b"", content[:-5], content.replace(b"finished", b"finishes", 1), b"[" * 10_000):
        kept.write_bytes(damage)
        assert table(folder)[1] == 24


def test_a_run_under_way_is_read_every_time(folder: Path) -> None:
    RunWriter.resume(folder / "r03").status(state="running")
    table(folder)
    assert table(folder)[1] == 1
    os.utime(folder / "r04" / "status.json", (time.time(), time.time() + 5))
    assert table(folder)[1] == 2


def test_a_cache_that_cannot_be_written_costs_nothing_else(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder.parent / "file").write_text("")
    monkeypatch.setenv("CILLAB_CACHE", str(folder.parent / "file"))
    assert table(folder)[1] == table(folder)[1] == 24


def test_rows_of_another_kind_hide_no_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def strange(path: Path) -> dict:
        return describe(path) | ({"tasks": 2**70} if path.name == "r05" else {})

    monkeypatch.setattr("cillab.runs.index.describe", strange)
    rows = Index(folder).sql("SELECT run, state FROM runs")
    assert len(rows) == 24 and [row["run"] for row in rows if row["state"] == "damaged"] == ["r05"]


def test_runs_are_found_at_any_depth_but_not_inside_runs(tmp_path: Path) -> None:
    for name in ("a", "b/c", "b/.hidden", "a/steps/inner", "d" + "/e" * 60):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "run.json").touch()
    (tmp_path / "link").symlink_to(tmp_path / "b")
    assert find_runs(tmp_path) == sorted([tmp_path / "a", tmp_path / "b" / "c", tmp_path / ("d" + "/e" * 60)])
    assert find_runs(tmp_path / "a") == [tmp_path / "a"] and find_runs(tmp_path / "nowhere") == []


def test_a_list_reads_each_settled_run_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [row["run"] for row in listed(folder)] == [f"r{number:02d}" for number in range(24)]
    monkeypatch.setattr("cillab.runs.index.Run", None)  # a second look that reads a folder finds it damaged
    assert {row["state"] for row in listed(folder)} == {"finished"}
