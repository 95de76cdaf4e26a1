"""The run folder: what is written is what is read. Oracle: the arrays and numbers that the test itself wrote."""

import errno
import os
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import safetensors.numpy

from cillab.core.errors import InvalidRequestError, RunError, UnknownNameError
from cillab.runs import Run, RunInfo, RunWriter, files, find_runs, request, requested, step_id, store_derived, withdraw
from tests.runs.synthetic import write_synthetic_run


def info(**changes) -> RunInfo:
    return RunInfo(**{"tasks": [[7, 401], [3]], "class_names": {7: "gold star"}, "spec": {"seed": 1}} | changes)


def whole_result(**changes) -> dict:
    return {
        "a_last": 0.5,
        "a_avg": 0.7,
        "accuracy_seen": [0.9, 0.5],
        "accuracy_matrix": [[0.9, None], [0.4, 0.6]],
    } | changes


def test_arrays_of_every_kind_come_back_as_written_and_cannot_be_changed(tmp_path):
    arrays = {
        "features": np.arange(6, dtype=np.float16).reshape(3, 2),
        "a/none": np.zeros((0, 4), np.float32),
        "a/number": np.array(2.5),
        "a/turned": np.arange(12, dtype=np.int32).reshape(3, 4).T,
        "a/bytes": np.array([[1, 255]], np.uint8),
    }
    RunWriter.create(tmp_path / "r", info()).snapshot("t00", arrays)
    shot = Run(tmp_path / "r").snapshot(0)
    assert set(shot) == set(arrays)
    for name, array in arrays.items():
        assert shot[name].dtype == array.dtype
        np.testing.assert_array_equal(shot[name], array)
        with pytest.raises(ValueError, match="read-only"):
            shot[name][...] = 1
    assert shot.group("a").keys() == {"none", "number", "turned", "bytes"}
    assert shot.get("nothing") is None
    with pytest.raises(UnknownNameError, match="Did you mean 'features'"):
        shot["feature"]


def test_any_program_that_writes_safetensors_is_understood(tmp_path):
    RunWriter.create(tmp_path / "r", info())
    theirs = {"x": np.linspace(0, 1, 7), "y": np.array([True, False])}
    safetensors.numpy.save_file(theirs, tmp_path / "r/steps/t03.safetensors", {"by": "another program"})
    shot = Run(tmp_path / "r").snapshot("t03")
    assert shot.task == 3
    np.testing.assert_array_equal(shot["x"], theirs["x"])
    np.testing.assert_array_equal(shot["y"], theirs["y"])


def test_info_keeps_sparse_ids_names_and_fields_of_the_future(tmp_path):
    RunWriter.create(tmp_path / "r", info(schema_version="1.9", something_new=[1, 2]))
    run = Run(tmp_path / "r")
    assert run.order == (7, 401, 3)
    assert run.info.sizes == (2, 1)
    assert run.info.task_of_class == {7: 0, 401: 0, 3: 1}
    assert (run.info.name_of(7), run.info.name_of(401)) == ("gold star", "class 401")
    assert run.info.something_new == [1, 2]
    assert (tmp_path / "r/spec.yaml").read_text() == "seed: 1\n"


def test_a_newer_schema_is_refused_with_the_version_that_wrote_it(tmp_path):
    RunWriter.create(tmp_path / "r", info(schema_version="2.0", cillab_version="7.3.1"))
    with pytest.raises(RunError, match=r"written by cillab 7\.3\.1 with schema 2\.0; this cillab reads up to 1\."):
        Run(tmp_path / "r")


def test_class_order_must_be_the_tasks():
    with pytest.raises(ValueError, match="each class once"):
        info(class_order=[401, 7, 3])
    with pytest.raises(ValueError, match="each class once"):
        info(tasks=[[1], [1]])


def test_metrics_ignore_a_torn_last_line_and_name_a_damaged_one(tmp_path):
    writer = RunWriter.create(tmp_path / "r", info())
    writer.log("t00", {"nc/train/nc1": float("inf"), "accuracy/old": float("nan"), "a": 0.25}, task=0)
    writer.log("t01", {"a": 0.5})
    path = tmp_path / "r/metrics.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"step": "t02", "name": "a", "value": 0.7}')  # no line break: not yet written
    metrics = Run(tmp_path / "r").metrics()
    assert metrics["a"].steps == ["t00", "t01"]
    np.testing.assert_array_equal(metrics["a"].values, [0.25, 0.5])
    assert metrics["nc/train/nc1"].values[0] == np.inf
    assert np.isnan(metrics["accuracy/old"].values[0])
    assert metrics.rows[2] == {"step": "t00", "name": "a", "value": 0.25, "task": 0}
    np.testing.assert_array_equal(metrics.over("a", ("t00", "t09")), [0.25, np.nan])
    with pytest.raises(UnknownNameError, match="metric 'b'"):
        metrics["b"]
    path.write_bytes(b'{"step": "t0\n' + whole)
    with pytest.raises(RunError, match=r"metrics\.jsonl is damaged: line 1"):
        Run(tmp_path / "r").metrics()


def test_steps_follow_time_not_the_alphabet(tmp_path):
    writer = RunWriter.create(tmp_path / "r", info())
    for step in ("t100", "t11", "t02", "t02e010", "t02e002"):
        writer.snapshot(step, {"x": np.zeros(1)})
    run = Run(tmp_path / "r")
    assert run.steps == ("t02e002", "t02e010", "t02", "t11", "t100")
    assert run.task_steps == ("t02", "t11", "t100")
    assert run.snapshot(-1).id == "t100"
    with pytest.raises(RunError, match=r"no step 't12'\. Valid: .*Did you mean 't11'"):
        run.snapshot("t12")
    with pytest.raises(RunError, match=r"no step 9\. Valid: 0 to 4"):
        run.snapshot(9)
    with pytest.raises(InvalidRequestError, match="step = 'end'"):
        writer.snapshot("end", {})


def test_probe_comes_back_with_its_pictures(tmp_path):
    flat = np.zeros((70, 3, 20, 48), np.uint8) + np.arange(70, dtype=np.uint8)[:, None, None, None] * 3
    writer = RunWriter.create(tmp_path / "r", info())
    writer.probe([*(f"image {i}" for i in range(69)), 7], np.full(70, 401), np.zeros(70, int), flat)
    probe = Run(tmp_path / "r").probe
    assert probe.ids[-1] == 7
    assert len(probe) == 70
    for i in (0, 31, 32, 69):
        assert abs(int(np.median(probe.sprite(i))) - 3 * i) <= 3  # WebP is lossy
    with pytest.raises(Exception, match="ids, 1 labels"):
        writer.probe([1, 2], [1], [0])


def test_existing_folders_are_not_touched(tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r/mine.txt").write_text("keep")
    for resume in (False, True):
        with pytest.raises(RunError, match="exists and is not empty"):
            RunWriter.create(tmp_path / "r", info(), resume=resume)
    assert [p.name for p in (tmp_path / "r").iterdir()] == ["mine.txt"]
    with pytest.raises(RunError, match="no run"):
        Run(tmp_path / "r")


def test_liveness_needs_a_heartbeat_and_a_process(tmp_path):
    writer = RunWriter.create(tmp_path / "r", info())
    run = Run(tmp_path / "r")
    assert run.liveness() == "queued"
    writer.status(state="running", task=1)
    assert run.liveness() == "running"
    assert run.liveness(now=time.time() + 3600) == "interrupted"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    status = run.status.model_dump()
    files.write_json(tmp_path / "r/status.json", status | {"pid": gone.pid})
    assert run.liveness() == "interrupted"
    files.write_json(tmp_path / "r/status.json", status | {"pid": gone.pid, "host": "elsewhere"})
    assert run.liveness() == "running"
    assert run.liveness(now=time.time() + 61) == "interrupted"
    files.write_json(tmp_path / "r/status.json", status | {"pid": gone.pid, "state": "finished"})
    assert run.liveness() == "finished"


def test_a_run_that_another_process_writes_cannot_be_resumed(tmp_path):
    RunWriter.create(tmp_path / "r", info()).status(state="running")
    status = Run(tmp_path / "r").status.model_dump()
    (tmp_path / "r/control/lock").unlink()  # the other one is a program that takes no lock
    files.write_json(tmp_path / "r/status.json", status | {"pid": os.getppid(), "host": socket.gethostname()})
    with pytest.raises(RunError, match="is being written by process"):
        RunWriter.resume(tmp_path / "r")


def test_resume_forgets_what_belongs_to_the_unfinished_task(tmp_path):
    writer = RunWriter.create(tmp_path / "r", info())
    for task in range(2):
        writer.log(step_id(task), {"a": task, "b": float("inf")}, epoch=3)
        writer.snapshot(step_id(task), {"x": np.full(2, task)})
        writer.checkpoint_path(task).write_bytes(b"state")
    writer.log("t02", {"a": 9.0})
    writer.result(whole_result())
    with (tmp_path / "r/metrics.jsonl").open("ab") as file:
        file.write(b'{"step": "t02", "na')
    (tmp_path / "r/steps/.t02.safetensors.1.tmp").write_bytes(b"half")
    request(tmp_path / "r", "cancel")
    again = RunWriter.create(tmp_path / "r", info(), resume=True)
    assert not again.requested("cancel")
    again.rewind(["t00"])
    again.log("t01", {"a": 5.0})
    run = Run(tmp_path / "r")
    assert run.steps == ("t00",)
    assert list(run.checkpoints) == [0]
    assert run.checkpoint(1) is None
    assert run.result is None
    np.testing.assert_array_equal(run.metrics()["a"].values, [0, 5])
    assert run.metrics().rows[1] == {"step": "t00", "name": "b", "value": np.inf, "epoch": 3}
    assert not list((tmp_path / "r").rglob(".*.tmp"))


def test_rows_after_a_torn_one_do_not_continue_it(tmp_path):
    RunWriter.create(tmp_path / "r", info()).log("t00", {"a": 1.0})
    with (tmp_path / "r/metrics.jsonl").open("ab") as file:
        file.write(b'{"step": "t01", "na')
    RunWriter.resume(tmp_path / "r").log("t01", {"a": 2.0})
    np.testing.assert_array_equal(Run(tmp_path / "r").metrics()["a"].values, [1, 2])


def test_a_full_disk_is_one_line_and_leaves_no_half_file(tmp_path, monkeypatch):
    writer = RunWriter.create(tmp_path / "r", info())
    writer.log("t00", {"a": 1.0})
    before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for write in (
        lambda: writer.snapshot("t00", {"x": np.zeros(9)}),
        lambda: writer.status(state="running"),
        lambda: writer.result(whole_result()),
    ):
        with pytest.raises(RunError, match=r"^No space left on the disk for .*; what was finished before is intact\.$"):
            write()
    assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*")) == before
    assert Run(tmp_path / "r").status.state == "queued"


def test_requests_are_touch_files(tmp_path):
    RunWriter.create(tmp_path / "r", info())
    assert not requested(tmp_path / "r", "pause")
    request(tmp_path / "r", "pause")
    assert requested(tmp_path / "r", "pause")
    withdraw(tmp_path / "r", "pause")
    assert not requested(tmp_path / "r", "pause")
    with pytest.raises(InvalidRequestError, match="Valid: cancel, pause"):
        request(tmp_path / "r", "stop")  # pyright: ignore
    with pytest.raises(RunError, match=r"no run\.json"):
        request(tmp_path, "cancel")


def test_results_and_statuses_that_do_not_fit_are_refused(tmp_path):
    writer = RunWriter.create(tmp_path / "r", info(protocol={"seed": 5}))
    with pytest.raises(InvalidRequestError, match="a_last"):
        writer.result({"a_avg": 0.1})
    with pytest.raises(InvalidRequestError, match="state = 'sleeping'"):
        writer.status(state="sleeping")
    writer.result(whole_result(forgetting_chaudhry=float("nan"), seconds={"total": np.float32(2)}))
    result = Run(tmp_path / "r").result
    assert result is not None
    assert (result.forgetting_chaudhry, result.seconds["total"], result.protocol.seed) == (None, 2.0, 5)


def test_derived_arrays_are_kept_by_key(tmp_path):
    RunWriter.create(tmp_path / "r", info())
    run = Run(tmp_path / "r")
    assert run.derived("cams", "abc") is None
    store_derived(tmp_path / "r", "cams", "abc", {"map": np.ones(3, np.uint8)})
    np.testing.assert_array_equal(run.derived("cams", "abc")["map"], [1, 1, 1])


def test_runs_are_found_but_not_inside_runs(tmp_path):
    for name in ("b", "a/deep", "a/deep/cams/inner"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "run.json").write_text("{}")
    assert find_runs(tmp_path) == [tmp_path / "a/deep", tmp_path / "b"]
    assert find_runs(tmp_path / "nowhere") == []


def test_accuracy_matrix_is_the_rows_of_the_snapshots(tmp_path):
    run = Run(write_synthetic_run(tmp_path / "r", tasks=3, classes_per_task=2, probe=12, dim=6, finished=False))
    matrix = run.accuracy_matrix()
    assert matrix.shape == (2, 2)
    np.testing.assert_array_equal(np.isnan(matrix), [[False, True], [False, False]])
    np.testing.assert_array_equal(matrix[1], run.snapshot(1)["accuracy/row"])
    assert run.result is None


def test_reading_and_drawing_do_not_load_torch():
    code = (
        "import sys, cillab, cillab.runs, cillab.runs.table, cillab.figures; cillab.Run; cillab.figures.collapse;"
        "print(sorted({'torch', 'streamlit', 'IPython', 'pandas'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
