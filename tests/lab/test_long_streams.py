"""300 tasks: every number is defined or blank, and what a task costs is counted, not timed.

Ten classes come in thirty rounds (`revisit`), one class a task, so after task ten no class is new. Theory: a closed
form forwards each image of a task once, and keeps sums per class beside a matrix of fixed size. The probe after a task
looks at the classes seen, so it forwards and writes more until task ten, and from there the same and one accuracy more.
"""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

import cillab
from cillab.lab import Lab
from cillab.lab.costs import stored_numbers
from cillab.runs import Run
from cillab.streams.stream import Stream, make_stream
from tests.lab.fakes import Line
from tests.streams.worlds import array_source

CLASSES, ROUNDS, IMAGES = 10, 30, 2  # images of a class in each task
TASKS = CLASSES * ROUNDS
CLOSED = {"simplecil": {}, "acil": {"expansion": 48}}


def stream() -> Stream:
    source = array_source(CLASSES, train=IMAGES * ROUNDS, test=1, size=8)
    return make_stream(source, "B0-Inc1", scenario="revisit", rounds=ROUNDS)


@contextmanager
def counted(backbone) -> Iterator[list[int]]:
    """Images that go through the backbone: one number for each pass."""
    passed: list[int] = []
    handle = backbone.module.register_forward_pre_hook(lambda _, inputs: passed.append(len(inputs[0])))
    yield passed
    handle.remove()


@pytest.mark.parametrize("name", CLOSED)
def test_a_task_forwards_its_own_images_once_and_keeps_nothing_for_itself(name: str) -> None:
    backbone = Line()
    learner = cillab.learner(name, backbone, **CLOSED[name])
    kept, steps = [], set()
    with counted(backbone) as passed:
        for task in stream():
            passed.clear()
            steps.add(sum(1 for _ in learner.observe(task)))
            assert sum(passed) == len(task) == IMAGES
            kept.append(stored_numbers(learner))
    assert steps == {1}, "as many batches in the last task as in the first"
    (per_class,) = set(np.diff(kept[:CLASSES]).tolist())
    assert per_class > 0 and set(kept[CLASSES:]) == {kept[CLASSES - 1]}


@pytest.mark.slow
def test_a_whole_run_of_300_tasks(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # 2,000 waits for the disk show nothing here
    backbone = Line()
    learner = cillab.learner("simplecil", backbone)
    options = {"probe_points": CLASSES, "train_probe_per_class": 1, "keep_checkpoints": "none"}
    forwarded, written = [], []
    with counted(backbone) as passed:
        for step in Lab(stream(), learner, tmp_path / "run", **options):
            forwarded.append(sum(passed))
            written.append(sum(file.stat().st_size for file in tmp_path.glob(f"run/steps/{step.id}*")))
            passed.clear()
    run = Run(tmp_path / "run")

    # A task's images, the fixed points, and two images of every class seen: nothing is remembered here.
    expected = [IMAGES + CLASSES + 2 * min(index + 1, CLASSES) for index in range(TASKS)]
    assert forwarded[:-1] == expected[:-1], "the last one measures passes per test image as well"
    arrays = sum(key.startswith("accuracy/") for key in run.snapshot())
    growth = np.array(written[200:]) - np.array(written[100:200])
    assert (abs(growth - 100 * 8 * arrays) <= 64).all(), "a hundred tasks more: a hundred accuracies of each kind"

    result = run.result
    assert run.status.state == "finished" and len(run.task_steps) == len(result.accuracy_seen) == TASKS
    assert all(0 <= accuracy <= 1 for accuracy in result.accuracy_seen)
    assert result.a_last == result.accuracy_seen[-1]
    assert result.a_avg == pytest.approx(sum(result.accuracy_seen) / TASKS)
    matrix = np.array([[math.nan if a is None else a for a in row] for row in result.accuracy_matrix])
    assert np.isfinite(matrix[-1, :CLASSES]).all(), "every class has test images, with the task that brought it"
    assert np.isnan(matrix[:, CLASSES:]).all(), "a task that brings no class has none: blank, not 0"
    assert result.a_last == pytest.approx(matrix[-1, :CLASSES].mean())
    assert 0 <= result.forgetting_chaudhry <= 1
    for index in (0, 1, CLASSES - 1, TASKS - 1):
        shot = run.snapshot(index)
        assert len(shot["seen"]) == min(index + 1, CLASSES)
        assert np.isfinite(shot["logits"]).all() and np.isfinite(shot["means/now"]).all()
    first, last = result.nc[0], result.nc[-1]
    assert None in first.values() or len(first) < len(last), "one class has no collapse of pairs"
    assert all(value is None or math.isfinite(value) for value in (*first.values(), *last.values()))
