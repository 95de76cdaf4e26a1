"""Killing the writer and damaging the files: the reader gives the last complete state or names the file.

Oracle: the same story told without an accident.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cillab.core.errors import RunError
from cillab.runs import Run, RunInfo, RunWriter, step_id
from tests.runs.synthetic import write_synthetic_run

TASKS = 3
INFO = RunInfo(tasks=[[4], [9], [2]], spec={"seed": 0})


class KilledError(BaseException):
    """The process is gone: nothing after this runs."""


def tell(path: Path) -> None:
    """A short run, every kind of file in it."""
    writer = RunWriter.create(path, INFO)
    writer.probe(["a", "b"], [4, 9], [0, 1], np.zeros((2, 3, 8, 8), np.uint8))
    for task in range(TASKS):
        writer.status(state="running", task=task)
        writer.log(step_id(task), {"a": float(task), "b": 1.0})
        writer.snapshot(step_id(task), {"x": np.full(5, task), "accuracy/row": np.full(task + 1, 0.5)})
    writer.result({"a_last": 0.5, "a_avg": 0.5, "accuracy_seen": [0.5] * 3, "accuracy_matrix": [[0.5] * 3] * 3})
    writer.status(state="finished")


class Accident:
    """Counts every flush and rename; at the given one the process dies, and no clean-up happens either."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int | None) -> None:
        self.count, self.at, self.dead = 0, at, False
        rename, unlink = Path.replace, Path.unlink

        def die_before(act):
            def acting(*args, **kwargs):
                self.dead = self.dead or self.count == self.at
                self.count += 1
                if self.dead:
                    raise KilledError
                return act(*args, **kwargs)

            return acting

        monkeypatch.setattr(os, "fsync", die_before(lambda *_: None))
        monkeypatch.setattr(Path, "replace", die_before(rename))
        monkeypatch.setattr(Path, "unlink", lambda path, **kw: None if self.dead else unlink(path, **kw))


def count_events(tmp_path: Path) -> int:
    with pytest.MonkeyPatch.context() as patch:
        accident = Accident(patch, None)
        tell(tmp_path / "whole")
    return accident.count


def test_killed_between_any_two_writes(tmp_path):
    events = count_events(tmp_path)
    assert events > 30
    lengths = []
    for at in range(events):
        path = tmp_path / f"killed{at}"
        with pytest.MonkeyPatch.context() as patch:
            Accident(patch, at)
            with pytest.raises(KilledError):
                tell(path)
        try:
            run = Run(path)
        except RunError as error:
            assert "is no folder" in str(error) or "has no run.json: it was stopped before the run began" in str(error)
            assert not lengths
            tell(path)  # goes on as if nothing had been there
            check_complete(Run(path))
            assert not list(path.rglob(".*.tmp"))
            continue
        lengths.append(len(run.steps))
        check_complete(run)
        again = RunWriter.resume(path)
        again.rewind(run.steps)
        assert not list(path.rglob(".*.tmp"))
        assert [row["step"] for row in run.metrics().rows] == [step for step in run.steps for _ in "ab"]
    assert lengths == sorted(lengths)
    assert lengths[-1] == TASKS


def check_complete(run: Run) -> None:
    """All that is there is whole, and a step comes with its scalars."""
    assert run.steps == tuple(step_id(task) for task in range(len(run.steps)))
    for task, step in enumerate(run.steps):
        np.testing.assert_array_equal(run.snapshot(step)["x"], np.full(5, task))
        assert run.metrics().at(step) == {"a": task, "b": 1.0}
    assert run.accuracy_matrix().shape == (len(run.steps),) * 2
    assert run.status.tasks == TASKS
    if run.result is not None:
        assert len(run.steps) == TASKS
        assert run.result.a_last == 0.5
    with suppress(RunError):
        assert run.probe.sprite(1).shape == (64, 64, 3)


def everything(path: Path) -> dict[str, Any]:
    """All that a run says, file by file, in a form that can be compared."""
    run = Run(path)
    said: dict[str, Any] = {"run.json": run.info.model_dump(), "status.json": run.status.model_dump()}
    said["result.json"] = run.result.model_dump() if run.result else None
    said["metrics.jsonl"] = [repr(row) for row in run.metrics().rows]
    said["probe.json"] = (run.probe.ids, run.probe.labels.tolist(), run.probe.tasks.tolist())
    said["sprites.webp"] = run.probe.atlas.tobytes()
    for step in run.steps:
        said[f"{step}.safetensors"] = {name: array.tobytes() for name, array in run.snapshot(step).items()}
    return said


def test_truncated_anywhere(tmp_path):
    whole = write_synthetic_run(tmp_path / "whole", tasks=2, classes_per_task=2, probe=8, dim=4)
    expected = everything(whole)
    named = [p for p in whole.rglob("*") if p.is_file() and p.name in expected]
    assert len(named) == len(expected)
    for file in named:
        content = file.read_bytes()
        size = len(content)
        for length in sorted({0, 1, 7, 8, 9, size - 2, size - 1, *range(0, size, max(1, size // 9))}):
            file.write_bytes(content[:length])
            try:
                said = everything(whole)
            except RunError as error:
                assert file.name in str(error)
                assert "\n" not in str(error)
                continue
            if file.name == "metrics.jsonl":
                rows = said[file.name]
                assert rows == expected[file.name][: len(rows)]
                assert len(rows) < len(expected[file.name])
                said[file.name] = expected[file.name]
            else:
                assert length == size - 1  # only the line break at the end was lost
            assert said == expected
        file.write_bytes(content)
    assert everything(whole) == expected


def test_a_changed_header_is_noticed(tmp_path):
    run = RunWriter.create(tmp_path / "r", INFO)
    path = run.snapshot("t00", {"x": np.arange(4, dtype=np.float32)})
    good = path.read_bytes()
    for old, new, message in (
        (b"F32", b"F64", "its header asks for"),
        (b"[4]", b"[5]", "its header asks for"),
        (b"F32", b"ABC", "numbers of type ABC"),
        (b',"x', b",{x", "its header cannot be read"),
        (good[:8], b"\xff" * 8, "its header should have"),
    ):
        path.write_bytes(good.replace(old, new, 1))
        with pytest.raises(RunError, match=message) as caught:
            Run(tmp_path / "r").snapshot("t00")
        assert "t00.safetensors" in str(caught.value)
