"""Figures: the traces hold the numbers of the run. Oracle: the arrays and scalars as read from the folder."""

import numpy as np
import plotly.graph_objects as go
import pytest

from cillab import figures
from cillab.core.errors import InvalidRequestError, UnknownNameError
from cillab.figures.angles import split_pairs
from cillab.figures.forgetting import forgetting_per_task
from cillab.figures.palette import check_theme, diverging, task_colour, task_mark
from cillab.figures.words import moved, number, percent, place, plural
from cillab.runs import Run, RunInfo, RunWriter
from tests.runs.synthetic import write_synthetic_run

NAMES = (
    "accuracy", "accuracy_matrix", "angles", "collapse", "confusion", "cosine", "drift", "forgetting", "mixing",
    "projection",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return Run(
        write_synthetic_run(tmp_path_factory.mktemp("runs") / "noisy", tasks=4, classes_per_task=3, probe=60, dim=8)
    )


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Run:
    path = tmp_path_factory.mktemp("runs") / "plain"
    return Run(write_synthetic_run(path, tasks=3, classes_per_task=2, probe=24, dim=6, noise=False, finished=False))


@pytest.fixture(scope="module")
def fresh(tmp_path_factory) -> Run:
    path = tmp_path_factory.mktemp("runs") / "fresh"
    RunWriter.create(path, RunInfo(tasks=[[1, 2], [3, 4]]))
    return Run(path)


def ranges(figure: go.Figure) -> list:
    axes = [*figure.select_xaxes(), *figure.select_yaxes()]
    return [(list(axis.range) if axis.range else None) for axis in axes]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_figure_is_valid_in_both_themes_and_says_something(run, plain, fresh, name, theme):
    for one, step in ((run, None), (run, "t02"), (run, 0), (plain, None), (fresh, None)):
        picture = getattr(figures, name)(one, step, theme=theme)
        assert picture.figure.layout.uirevision == name
        assert picture.sentence.endswith(".")
        assert "nan" not in picture.sentence
        assert len(picture.figure.to_json()) > 100
        assert picture._repr_mimebundle_()["text/plain"] == picture.sentence


@pytest.mark.parametrize("name", [n for n in NAMES if n != "cosine"])
def test_axes_and_data_kinds_stay_the_same_from_step_to_step(run, name):
    drawn = [getattr(figures, name)(run, step).figure for step in run.steps[1:]]
    if name != "confusion":  # a matrix of the classes seen grows with them
        assert all(ranges(figure) == ranges(drawn[0]) for figure in drawn)
    for trace in drawn[-1].data:
        for values in (getattr(trace, axis, None) for axis in ("x", "y", "z")):
            if isinstance(values, np.ndarray):
                assert values.dtype != np.float64


def test_the_pages_are_escaped_and_stand_alone(run):
    picture = figures.Picture(figures.accuracy(run).figure, "a < b & c")
    assert "a &lt; b &amp; c" in picture.html(include_plotlyjs=False)


def test_accuracy_holds_the_metrics(run):
    figure = figures.accuracy(run, "t01").figure
    lines = {trace.name: trace for trace in figure.data}
    np.testing.assert_allclose(lines["all classes seen"].y, run.metrics()["accuracy/seen"].values, rtol=1e-6)
    np.testing.assert_array_equal(lines["all classes seen"].x, [3, 6, 9, 12])
    assert np.isnan(lines["old classes"].y[0])
    assert [shape.x0 for shape in figure.layout.shapes] == [6]
    assert figure.layout.yaxis.tickformat == ".0%"


def test_several_runs_keep_their_names(run, plain):
    picture = figures.accuracy({"with noise": run, "without": plain})
    assert [trace.name for trace in picture.figure.data] == ["with noise", "without"]
    assert "without ends at" in picture.sentence


def test_accuracy_matrix_is_the_matrix_in_the_frame_of_the_stream(run, plain):
    z = figures.accuracy_matrix(run).figure.data[0].z
    np.testing.assert_allclose(z, run.accuracy_matrix(), rtol=1e-6)
    assert figures.accuracy_matrix(plain).figure.data[0].z.shape == (3, 3)  # two of three tasks are done
    assert [shape.y1 for shape in figures.accuracy_matrix(run, 1).figure.layout.shapes] == [1.5]


def test_collapse_holds_both_sides_on_a_log_axis(run):
    picture = figures.collapse(run, "t01")
    first = [trace for trace in picture.figure.data if trace.xaxis == "x"]
    np.testing.assert_allclose(first[0].y, run.metrics()["nc/train/nc1"].values, rtol=1e-6)
    np.testing.assert_allclose(first[1].y, run.metrics()["nc/test/nc1"].values, rtol=1e-6)
    assert picture.figure.layout.yaxis.type == "log"
    assert [shape.x0 for shape in picture.figure.layout.shapes] == [2.0] * 4
    assert any("oracle probe" in note for note in picture.notes)
    assert any("20 images a class" in note for note in picture.notes)


def test_cosine_is_neutral_at_the_simplex(run):
    heat = figures.cosine(run).figure.data[0]
    off = ~np.eye(12, dtype=bool)
    np.testing.assert_allclose(heat.z[off], run.snapshot()["cosine"].astype(np.float32)[off])
    assert np.isnan(heat.z[~off]).all()
    assert (heat.zmin + heat.zmax) / 2 == pytest.approx(-1 / 11)
    widths = [figures.cosine(run, s).figure.data[0] for s in run.steps]
    assert len({round(w.zmax - w.zmin, 9) for w in widths}) == 1
    assert diverging("light")[2][0] == 0.5


def test_pairs_are_split_by_age():
    cosine = np.array([[1, 0.1, 0.2, 0.3], [0, 1, 0.4, 0.5], [0, 0, 1, 0.6], [0, 0, 0, 1]])
    old, mixed, new = split_pairs(cosine, np.array([0, 0, 1, 1]))
    assert (old.tolist(), mixed.tolist(), new.tolist()) == ([0.1], [0.2, 0.3, 0.4, 0.5], [0.6])
    assert [len(group) for group in split_pairs(cosine[:2, :2], np.array([0, 0]))] == [0, 0, 1]


def test_angles_add_up_and_show_the_target(run):
    figure = figures.angles(run).figure
    assert [float(trace.y.sum()) for trace in figure.data] == pytest.approx([1, 1, 1])
    assert figure.layout.shapes[0].x0 == pytest.approx(-1 / 11)


def test_drift_lines_start_at_one(run):
    lines = [trace for trace in figures.drift(run).figure.data if trace.showlegend is None]
    assert [trace.name for trace in lines] == ["task 1", "task 2", "task 3", "task 4"]
    assert [float(trace.y[0]) for trace in lines] == pytest.approx([1] * 4, abs=0.05)
    assert [len(trace.x) for trace in lines] == [4, 3, 2, 1]


def test_forgetting_by_hand():
    matrix = np.array([[0.9, np.nan, np.nan], [0.95, 0.8, np.nan], [0.5, 0.85, 0.7]])
    np.testing.assert_allclose(forgetting_per_task(matrix, 2), [0.45, -0.05])


def test_forgetting_is_that_of_the_result(run):
    bars = figures.forgetting(run).figure.data[0]
    assert float(bars.y.mean()) == pytest.approx(run.result.forgetting_chaudhry, abs=1e-6)
    assert list(bars.marker.color) == [task_colour(t) for t in range(3)]


def test_mixing_holds_weights_and_flags_the_dead(run, plain):
    picture = figures.mixing(run)
    areas = [trace for trace in picture.figure.data if getattr(trace, "stackgroup", None)]
    last = run.snapshot()["internals/noise/weights"].mean(axis=0)
    np.testing.assert_allclose([trace.y[-1] for trace in areas], last, rtol=1e-5)
    dead = next(trace for trace in picture.figure.data if trace.name == "dead")
    assert (dead.x.tolist(), dead.y.tolist()) == ([2], [4])
    assert "1 of 24 generators (layers x tasks) is dead" in picture.sentence
    assert "adds no noise" in figures.mixing(plain).sentence


def test_confusion_rows_add_up(run):
    heat = figures.confusion(run).figure.data[0]
    np.testing.assert_allclose(heat.z.sum(axis=1), 1, rtol=1e-6)
    by_task = figures.confusion(run, by="task").figure.data[0]
    assert by_task.z.shape == (4, 4)
    counts = run.snapshot()["confusion"]
    assert by_task.customdata[1, 0] == counts[3:6, 0:3].sum()


def test_points_carry_their_place_in_the_probe(run):
    probe, shot = run.probe, run.snapshot("t01")
    picture = figures.projection(run, "t01", show_head=True)
    traces = {trace.name: trace for trace in picture.figure.data}
    np.testing.assert_array_equal(probe.tasks[traces["task 2"].customdata], 1)
    assert set(probe.tasks[traces["not yet learnt"].customdata]) == {2, 3}
    assert len(traces["class means"].x) == len(traces["head rows"].x) == len(shot["seen"])
    focus = [int(run.order[0]), int(run.order[4])]
    traces = {trace.name: trace for trace in figures.projection(run, focus=focus).figure.data}
    np.testing.assert_array_equal(probe.labels[traces[run.info.name_of(focus[1])].customdata], focus[1])
    with pytest.raises(InvalidRequestError, match="focus holds 9 classes"):
        figures.projection(run, focus=list(run.order[:9]))


def test_colour_and_mark_together_tell_seventy_tasks_apart():
    assert len({(task_colour(t, "dark"), task_mark(t)) for t in range(70)}) == 70
    with pytest.raises(UnknownNameError, match="theme 'sepia'"):
        check_theme("sepia")


def test_words():
    assert (percent(0.8731), percent(float("nan"))) == ("87.3 %", "not measured")
    assert (number(-0.01234), number(123456.0), number(0.0)) == ("\N{MINUS SIGN}0.0123", "1.23e+05", "0")
    assert moved("NC1", 0.5, 0.25) == "NC1 fell from 0.5 to 0.25"
    assert moved("NC1", 0.50001, 0.50002) == "NC1 stayed at 0.5"
    assert (plural(1, "image"), plural(2, "class")) == ("1 image", "2 classes")
    assert (place("t03"), place("t03e000")) == (4.0, 3.5)
