"""Runs of many tasks and classes: what a figure measures at how many steps, and how often it reads an array."""

from collections import Counter

import numpy as np
import pytest

from cillab.figures import named
from cillab.figures.coarse import few, reach_of
from cillab.figures.moved import read_prototypes, read_similarity
from cillab.figures.over_steps import read_angle_blocks, read_generalised
from cillab.figures.panels import MARKS, SPREAD, grid, line, spread
from cillab.geometry.incremental import prototype_gap
from cillab.runs import Run, Snapshot
from tests.runs.synthetic import write_synthetic_run

TASKS = 40
SLOW = (read_similarity, read_generalised, read_angle_blocks)


@pytest.fixture(scope="module")
def long(tmp_path_factory) -> Run:
    return Run(write_synthetic_run(tmp_path_factory.mktemp("long") / "run", TASKS, 2, 240, dim=8, noise=False))


@pytest.mark.parametrize("read", SLOW)
def test_a_long_run_is_measured_at_some_steps_and_says_so(long, read) -> None:
    chosen = next(step for step in long.steps if step not in spread(long))
    data = read(long, chosen)
    assert (len(data.steps), data.steps[0], data.steps[-1]) == (SPREAD + 1, long.steps[0], long.steps[-1])
    assert data.steps[data.at] == chosen
    assert f"Measured after {SPREAD + 1} of {TASKS} steps." in data.notes


@pytest.mark.parametrize("read", SLOW)
def test_a_short_run_is_measured_at_every_step(tmp_path, read) -> None:
    run = Run(write_synthetic_run(tmp_path / "run", SPREAD, 2, 48, dim=8, noise=False))
    data = read(run, run.steps[5])
    assert data.steps == run.steps
    assert not [note for note in data.notes if note.startswith("Measured after")]


def test_what_is_measured_at_a_step_does_not_depend_on_the_steps_looked_at(long) -> None:
    first, other = (read_similarity(long, step) for step in (long.steps[-1], long.steps[7]))
    shared = [step for step in first.steps if step in other.steps]
    for name, values in first.values.items():
        ours, theirs = (
            [dict(zip(data.steps, data.values[name], strict=True))[step] for step in shared] for data in (first, other)
        )
        np.testing.assert_array_equal(ours, theirs)
        assert np.isfinite(values[-1]).sum() == SPREAD


@pytest.mark.parametrize("name", ["gram", "cosine", "variability"])
def test_the_colour_scale_of_a_long_run_is_the_same_at_every_step(long, name) -> None:
    ends = set()
    for step in (long.steps[3], long.steps[20]):
        (drawn,) = [trace for trace in named(name).draw(long, step).figure.data if trace.showscale is not False]
        middle = 0.0 if name == "variability" else -1 / (len(long.snapshot(step)["seen"]) - 1)
        ends.add((round(drawn.zmin - middle, 9), round(drawn.zmax - middle, 9)))
    assert len(ends) == 1


def test_few_classes_are_all_of_them_up_to_two_hundred() -> None:
    assert len(np.arange(200)[few(200)]) == 200
    assert len(np.arange(1000)[few(1000)]) == 200
    matrix = np.random.default_rng(0).uniform(-0.2, 0.2, (900, 900))
    some = few(900)
    assert reach_of(matrix[some, some], 900) == pytest.approx(reach_of(matrix, 900), rel=0.02)


def test_stored_means_per_task_are_those_of_the_metric(long) -> None:
    data, shot = read_prototypes(long), long.snapshot(-1)
    found = prototype_gap(shot["means/stored"], shot["means/now"], shot["nc/within"])
    mine = shot["task_of_class"] == 3
    assert data.values["gap"][-1, 3] == pytest.approx(found.relative[mine].mean())
    assert data.values["cosine"][-1, 3] == pytest.approx(found.cosines[mine].mean())


@pytest.mark.parametrize("name", ["drift", "prototypes"])
def test_an_array_of_a_step_is_read_once_for_a_look(long, name, monkeypatch) -> None:
    reads, read = Counter(), Snapshot.__getitem__

    def counted(shot: Snapshot, array: str) -> np.ndarray:
        reads[shot.id, array] += 1
        return read(shot, array)

    monkeypatch.setattr(Snapshot, "__getitem__", counted)
    named(name).draw(Run(long.path))
    assert max(count for (_, array), count in reads.items() if array in ("means/now", "task_of_class")) == 1


def test_metrics_are_read_again_only_when_they_have_changed(tmp_path) -> None:
    run = Run(write_synthetic_run(tmp_path / "run", 2, 2, 8, noise=False))
    first = run.metrics()
    assert run.metrics() is first
    path = run.path / "metrics.jsonl"
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    assert len(run.metrics().rows) == 1


def test_of_many_marks_on_a_line_some_are_drawn_and_all_points_stay(long) -> None:
    figure, _ = grid(1, 1)
    for count in (MARKS, MARKS + 1):
        line(figure, np.arange(count), np.arange(count), str(count), "#000")
    line(figure, np.arange(100), np.arange(100), "points", "#000", mode="markers")
    few_points, many, points = figure.data
    assert (few_points.marker.maxdisplayed, points.marker.maxdisplayed) == (None, None)
    assert many.marker.maxdisplayed == MARKS // 2
    assert len(many.x) == MARKS + 1
