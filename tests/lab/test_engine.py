"""The engine on a world of coloured squares. Oracles: plain loops, and the same run done another way."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from cillab.core.contract import Progress
from cillab.core.errors import CancelledError, InvalidRequestError, RunError
from cillab.lab import Lab
from cillab.lab.engine import Step
from cillab.lab.slim import slim
from cillab.runs import Run, request
from cillab.runs.schema import is_scalar
from tests.lab.fakes import Line, Tiny, squares


def lab_at(path: Path, **options) -> Lab:
    return Lab(squares(), Tiny(Line()), path, probe_points=18, train_probe_per_class=4, **options)


def arrays_of(run: Run) -> dict[str, np.ndarray]:
    return {f"{step}/{name}": run.snapshot(step)[name] for step in run.steps for name in run.snapshot(step)}


def same(a: Run, b: Run) -> None:
    ours, theirs = arrays_of(a), arrays_of(b)
    assert set(ours) == set(theirs) and ours
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> Run:
    lab = lab_at(tmp_path_factory.mktemp("runs") / "straight")
    list(lab)
    return lab.run


def test_accuracy_matrix_against_a_plain_loop(straight: Run) -> None:
    stream, learner = squares(), Tiny(Line())
    for t, task in enumerate(stream):
        for _ in learner.observe(task):
            pass
        for j in range(t + 1):
            test = stream.test(j)
            guess = torch.tensor(learner.seen)[learner.logits(test.images).argmax(1)]
            assert straight.accuracy_matrix()[t, j] == pytest.approx((guess == test.labels).double().mean().item())
    result = straight.result
    assert result.accuracy_seen[-1] == result.a_last == pytest.approx(np.nanmean(straight.accuracy_matrix()[-1]))
    assert result.a_avg == pytest.approx(np.mean(result.accuracy_seen))
    assert result.a_last > 1 / 6


def test_snapshot_holds_what_is_promised(straight: Run) -> None:
    shot, stream = straight.snapshot("t01"), squares()
    assert shot["features"].shape == (18, 5) and shot["logits"].shape == (18, 4)
    assert shot["features"].dtype == np.float16 and shot["predictions"].dtype == np.int32
    assert shot["seen"].tolist() == list(stream.order[:4]) and shot["task_of_class"].tolist() == [0, 0, 1, 1]
    assert set(shot["predictions"].tolist()) <= set(shot["seen"].tolist())
    assert shot["confusion"].sum() == len(stream[:2].test())
    assert np.trace(shot["confusion"]) / shot["confusion"].sum() == pytest.approx(straight.result.accuracy_seen[1])
    np.testing.assert_allclose(np.diag(shot["cosine"]), 1, atol=1e-3)
    assert not np.array_equal(shot["means/stored"][:2], shot["means/now"][:2])  # old classes moved
    np.testing.assert_array_equal(shot["means/stored"][2:], shot["means/now"][2:])  # new ones cannot have
    np.testing.assert_array_equal(shot["means/stored"][:2], straight.snapshot("t00")["means/now"])
    assert sorted(set(straight.probe.labels.tolist())) == list(range(6))  # classes still to come included
    assert straight.metrics().at("t01")["drift/cosine"] > 0
    assert "drift/cosine" not in straight.metrics().at("t00")
    assert not [name for name in straight.metrics() if not is_scalar(name)]
    assert not is_scalar("nc/train/nc22") and not is_scalar("seconds/learn/")


def test_result_has_the_whole_row(straight: Run) -> None:
    raw = json.loads((straight.path / "result.json").read_text())
    wanted = {
        "a_last", "a_avg", "accuracy_seen", "accuracy_matrix", "forgetting_chaudhry", "forgetting_pilot", "bwt_gem",
        "nc",
        "seconds", "images_per_second", "peak_memory_bytes", "stored_floats", "trainable_parameters",
        "passes_per_test_image", "protocol",
    }  # fmt: skip
    assert wanted <= set(raw)
    assert raw["trainable_parameters"] == 6 * 5 + 5 * 5  # the head's rows and the map
    assert raw["passes_per_test_image"] == 1
    assert raw["stored_floats"] == 6 * 5 + 5 * 5 + 100_000
    assert set(raw["seconds"]) == {"total", "learn", "probe", "learn/sgd"}
    assert raw["protocol"]["split_digest"] == squares().digest
    assert straight.status.state == "finished" and len(raw["nc"]) == 3
    assert raw["nc"][0]["train/nc1"] is not None


@pytest.mark.parametrize(("tasks", "keep"), [(0, "all"), (1, "all"), (2, "all"), (2, "last"), (2, "none")])
def test_resume_equals_the_straight_run(tmp_path: Path, straight: Run, tasks: int, keep: str) -> None:
    lab = lab_at(tmp_path / "r", keep_checkpoints=keep)
    events = lab.events()
    while lab.finished < tasks:
        next(events)
    for _ in range(3):  # and some way into the next task
        next(events)
    events.close()
    assert lab.run.status.state == "paused"
    again = Lab.resume(tmp_path / "r", squares(), Tiny(Line()))
    assert again.finished == tasks
    assert [step.task for step in again] == list(range(tasks, 3))
    same(straight, again.run)
    assert again.run.result.accuracy_seen == straight.result.accuracy_seen


def test_resume_refuses_other_images(tmp_path: Path) -> None:
    lab = lab_at(tmp_path / "r")
    lab.step()
    with pytest.raises(RunError, match="data_digest"):
        Lab.resume(tmp_path / "r", squares(7), Tiny(Line()))


def test_cancel_inside_a_task_keeps_the_last_one(tmp_path: Path, straight: Run) -> None:
    lab = lab_at(tmp_path / "c")
    lab.step()
    before = {name: t.clone() for name, t in lab.learner.rows.state().tensors.items()}
    events = lab.events()
    for _ in range(2):
        assert isinstance(next(events), Progress)
    request(tmp_path / "c", "cancel")
    lab._listened = 0.0  # look at the control folder at once
    with pytest.raises(CancelledError, match=r"^Cancelled in task 2: `cillab resume"):
        list(events)
    assert lab.run.status.state == "cancelled" and lab.run.steps == ("t00",) and lab.run.result is None
    for name, tensor in lab.learner.rows.state().tensors.items():
        assert torch.equal(tensor, before[name]), name
    list(lab)  # the same object goes on as if nothing had been
    same(straight, lab.run)


def test_stopped_while_the_probe_looks_does_not_learn_twice(tmp_path: Path, straight: Run) -> None:
    lab = lab_at(tmp_path / "p")
    events = lab.events()
    while next(events).stage != "probe":
        pass
    events.close()
    list(lab)
    same(straight, lab.run)


def test_failure_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = lab_at(tmp_path / "f")

    def broken(self):
        raise ValueError("no\nhead")

    monkeypatch.setattr(Tiny, "head", broken)
    with pytest.raises(ValueError, match="head"):
        list(lab)
    assert lab.run.status.state == "failed" and lab.run.status.error == "ValueError: no head"
    assert lab.run.steps == () and lab.run.result is None


def test_fork_goes_on_from_the_middle(tmp_path: Path, straight: Run) -> None:
    lab = lab_at(tmp_path / "trunk")
    list(lab)
    unchanged = lab.fork(0)
    assert unchanged.path.name == "trunk-fork-t00" and unchanged.finished == 1
    list(unchanged)
    same(straight, unchanged.run)
    hotter = lab.fork(0, lr=0.5)
    list(hotter)
    np.testing.assert_array_equal(hotter.run.snapshot("t00")["logits"], straight.snapshot("t00")["logits"])
    assert not np.array_equal(hotter.run.snapshot("t02")["logits"], straight.snapshot("t02")["logits"])
    assert hotter.run.spec["params"]["lr"] == 0.5
    assert hotter.run.protocol.spec_digest != unchanged.run.protocol.spec_digest
    assert set(hotter.run.metrics().over("accuracy/seen", ("t00",))) == set(straight.result.accuracy_seen[:1])


def test_a_reader_watches_while_it_is_written(tmp_path: Path) -> None:
    lab, wrong, looks, stop = lab_at(tmp_path / "w"), [], [0], threading.Event()
    lab.begin()

    def read() -> None:
        while not stop.is_set():
            try:
                run = Run(tmp_path / "w")
                run.metrics()
                assert run.status.state in ("queued", "running", "finished")
                matrix = run.accuracy_matrix()
                assert len(matrix) == len(run.steps) or not stop.is_set()
                looks[0] += 1
            except Exception as error:
                wrong.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    list(lab)
    stop.set()
    reader.join()
    assert not wrong and looks[0] > 3


def test_keep_checkpoints(tmp_path: Path) -> None:
    for keep, kept in (("all", [0, 1, 2]), ("last", [2]), ("none", [])):
        lab = lab_at(tmp_path / keep, keep_checkpoints=keep)
        list(lab)
        assert list(lab.run.checkpoints) == kept
    with pytest.raises(RunError, match="no checkpoint"):
        Lab.resume(tmp_path / "none", squares(), Tiny(Line()))


def test_slim_keeps_what_viewing_needs(tmp_path: Path) -> None:
    lab = lab_at(tmp_path / "s")
    lab.step()
    with pytest.raises(RunError, match="not finished"):
        slim(tmp_path / "s")
    list(lab)
    before = sum(f.stat().st_size for f in (tmp_path / "s").rglob("*") if f.is_file())
    assert slim(tmp_path / "s") < before / 3  # the history of 100,000 numbers was for learning only
    assert list(lab.run.checkpoints) == [2]
    with pytest.raises(RunError, match="slimmed"):
        Lab.resume(tmp_path / "s", squares(), Tiny(Line()))


def test_refusals(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(RunError, match="not empty"):
        lab_at(tmp_path / "full")
    with pytest.raises(InvalidRequestError, match="Did you mean 'probe_points'"):
        Lab(squares(), Tiny(Line()), tmp_path / "a", probe_point=3)
    lab = lab_at(tmp_path / "b")
    list(lab)
    with pytest.raises(InvalidRequestError, match="All 3 tasks"):
        lab.step()
    assert not any(isinstance(event, Step) for event in lab.events())
