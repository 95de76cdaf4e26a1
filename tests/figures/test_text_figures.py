"""Figures of class names, remembered Gaussians and training epochs: planted values, and the run's own arrays."""

import shutil

import numpy as np
import plotly.graph_objects as go
import pytest
from safetensors.numpy import load_file, save_file

from cillab import figures
from cillab.figures.clouds import ellipse, spaced
from cillab.figures.modality_gap import gap, own_and_other
from cillab.plane import along as towards
from cillab.runs import Run
from tests.runs.synthetic import write_synthetic_run

NAMES = ("epochs", "logit_bias", "modality_gap", "text_movement", "text_similarity", "transport")


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Run:
    path = tmp_path_factory.mktemp("runs") / "text"
    return Run(write_synthetic_run(path, tasks=3, classes_per_task=3, probe=54, dim=8, text=True))


@pytest.fixture(scope="module")
def etf(tmp_path_factory) -> Run:
    return Run(write_synthetic_run(tmp_path_factory.mktemp("runs") / "etf", tasks=3, classes_per_task=3, etf=True))


def named(figure: go.Figure, name: str) -> go.Scatter:
    return next(trace for trace in figure.data if trace.name == name)


def changed(run: Run, folder, step: str, **arrays: np.ndarray) -> Run:
    """A copy of a run with some arrays of one step put in place of its own."""
    shutil.copytree(run.path, folder)
    file = folder / "steps" / f"{step}.safetensors"
    save_file(load_file(file) | arrays, file)
    return Run(folder)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_figure_is_valid_in_both_themes_and_says_something(text, etf, name, theme) -> None:
    for run in (text, etf):
        for step in (None, "t00", 1):
            picture = getattr(figures, name)(run, step, theme=theme)
            assert picture.figure.layout.uirevision == name
            assert picture.sentence.endswith(".")
            assert "nan" not in picture.sentence
            for trace in picture.figure.data:
                for values in (getattr(trace, axis, None) for axis in ("x", "y", "z")):
                    assert not isinstance(values, np.ndarray) or values.dtype != np.float64


@pytest.mark.parametrize("name", NAMES)
def test_a_run_without_the_arrays_gets_a_reason_and_no_trace(text, etf, name) -> None:
    picture = getattr(figures, name)(text if name == "epochs" else etf)
    assert len(picture.figure.data) == 0
    assert picture.sentence in {note.text for note in picture.figure.layout.annotations}


def test_names_that_did_not_move_are_said_not_to_and_one_that_turned_is_found(text, tmp_path) -> None:
    frozen = np.asarray(text.snapshot("t02")["internals/text/frozen"])
    still = changed(text, tmp_path / "still", "t02", **{"internals/text/prototypes": frozen})
    assert "where frozen text has it" in figures.text_movement(still).sentence
    one = frozen.copy()
    across = np.linalg.svd(frozen[4][None])[2][1]
    one[4] = 0.8 * frozen[4] + 0.6 * across
    turned = figures.text_movement(changed(text, tmp_path / "turned", "t02", **{"internals/text/prototypes": one}))
    assert "moved most, to 0.8." in turned.sentence
    np.testing.assert_allclose(named(turned.figure, "task 2").y, [1, 0.8, 1], atol=1e-5)


def test_old_names_are_compared_with_the_step_before(text) -> None:
    now, then = (np.asarray(text.snapshot(s)["internals/text/prototypes"], float) for s in ("t02", "t01"))
    expected = (now[:6] * then).sum(axis=1).mean()
    drawn = named(figures.text_movement(text).figure, "earlier names, to themselves a task ago")
    assert drawn.y[-1] == pytest.approx(expected, abs=1e-5)
    assert drawn.x.tolist() == [2, 3]


def test_gap_of_two_points_at_a_right_angle_and_of_a_cloud_with_itself() -> None:
    assert gap(np.array([[5.0, 0.0]]), np.array([[0.0, 2.0]])) == pytest.approx(np.sqrt(2))
    rows = np.random.default_rng(0).normal(size=(7, 4))
    assert gap(rows, 3 * rows) == pytest.approx(0)
    own, other = own_and_other(np.eye(3), np.array([[1.0, 0, 0], [0, 1, 0], [0, 0.6, 0.8]]))
    np.testing.assert_allclose(own, [1, 1, 0.8])
    np.testing.assert_allclose(other, [0, 0.6, 0])


def test_the_plane_holds_the_gap_at_full_length(text) -> None:
    """Its first axis is where the gap points, so that the centres in the picture are as far apart as they are."""
    picture = figures.modality_gap(text, "t02").figure
    shown = {
        what: np.concatenate([
            np.stack([trace.x, trace.y], axis=1) for trace in picture.data if (trace.name or "").startswith(what)
        ]).mean(axis=0)
        for what in ("image mean", "learnt name,")
    }  # fmt: skip
    shot = text.snapshot("t02")
    true = gap(shot["means/now"], shot["internals/text/prototypes"])
    assert np.linalg.norm(shown["image mean"] - shown["learnt name,"]) == pytest.approx(true, rel=0.02)
    assert named(picture, "to learnt names").y[-1] == pytest.approx(true, rel=1e-5)


def test_plane_is_orthonormal_and_ellipse_has_the_spread_of_its_gaussian() -> None:
    draws = np.random.default_rng(1)
    along, spread = draws.normal(size=(1, 6)), draws.normal(size=(30, 6))
    for axes in (towards(along, spread), towards(np.zeros((1, 6)), spread), towards(along, np.ones((3, 6)))):
        np.testing.assert_allclose(axes @ axes.T, np.eye(2), atol=1e-9)
    np.testing.assert_allclose(towards(along, spread)[0], along[0] / np.linalg.norm(along))
    factor = np.array([[3.0, 0.0], [0.0, 0.5]])
    line = ellipse(np.array([1.0, -2.0]), factor)
    np.testing.assert_allclose(np.abs(line - [1, -2]).max(axis=0), [3, 0.5])
    turn = np.array([[0.6, 0.8], [-0.8, 0.6]])
    turned = ellipse(np.zeros(2), factor @ turn)
    inverse = np.linalg.inv((factor @ turn).T @ factor @ turn)
    np.testing.assert_allclose(((turned @ inverse) * turned).sum(axis=1), 1)


def test_spaced_keeps_the_last() -> None:
    steps = [f"t{i:02d}" for i in range(100)]
    assert spaced(steps[:5]) == steps[:5]
    assert (spaced(steps)[-1], len(spaced(steps))) == ("t99", 12)


def test_transport_shows_the_distances_of_the_run_and_counts_who_came_nearer(text, tmp_path) -> None:
    shot = text.snapshot("t02")
    before, after = (shot[f"gaussian/w2/{name}"] for name in ("memory_before", "memory"))
    picture = figures.transport(text)
    np.testing.assert_allclose(named(picture.figure, "classes of task 2").x, before[3:6], rtol=1e-5)
    np.testing.assert_allclose(named(picture.figure, "classes of task 2").y, (after - before)[3:6], rtol=1e-4)
    assert f"brought {(after[:6] < before[:6]).sum()} of 6 old Gaussians nearer" in picture.sentence
    worse = before.copy()
    worse[:6] += [1, 1, -0.1, 1, 1, -0.1]
    planted = changed(text, tmp_path / "worse", "t02", **{"gaussian/w2/memory": worse})
    assert "brought 2 of 6" in figures.transport(planted).sentence
    values = named(picture.figure, "eigenvalues of A").y
    np.testing.assert_allclose(values, np.sort(shot["internals/transport/eigenvalues"])[::-1], rtol=1e-6)


def test_calibrated_centres_lie_between_stored_and_measured_ones(text) -> None:
    """The run was written with Gaussians that go 70 % of the way; a plane is linear, so it must show that."""
    figure = figures.transport(text).figure
    stored, moved, now = (
        np.stack([named(figure, name).x, named(figure, name).y], axis=1)
        for name in ("stored", "calibrated", "measured now")
    )
    np.testing.assert_allclose(moved, stored + 0.7 * (now - stored), atol=1e-4)


def test_the_first_task_has_nothing_to_transport(text) -> None:
    picture = figures.transport(text, "t00")
    assert "begins with the second task" in picture.sentence
    assert not [trace for trace in picture.figure.data if trace.name == "calibrated"]


def test_logit_bias_names_the_side_that_is_favoured(text, tmp_path) -> None:
    planted = np.array([[2.0, 3.0], [1.0, 5.0]], np.float32)  # old features score higher among the newest
    picture = figures.logit_bias(changed(text, tmp_path / "new", "t02", **{"internals/text/logit_bias": planted}))
    assert "score 1 lower among their own" in picture.sentence
    assert "a lean of 5 towards the newest" in picture.sentence
    mirrored = planted[::-1, ::-1].copy()
    other = figures.logit_bias(changed(text, tmp_path / "old", "t02", **{"internals/text/logit_bias": mirrored}))
    assert "a lean of 5 towards the earlier" in other.sentence


def test_epochs_of_all_tasks_stand_one_after_the_other(etf) -> None:
    figure = figures.epochs(etf, "t01").figure
    rows = np.concatenate([etf.snapshot(s)["internals/etf/epochs"] for s in etf.steps])
    for column, name in enumerate(("NC1", "NC2", "NC3", "NC4", "pull", "push")):
        drawn = named(figure, name).y
        np.testing.assert_allclose(drawn[np.isfinite(drawn)], rows[:, column])
        assert np.flatnonzero(np.isnan(drawn)).tolist() == [10, 17]  # no line leads from a task to the next
    bounds = {shape.x0 for shape in figure.layout.shapes if shape.name == "task"}
    assert bounds == {10.5, 16.5}
    shaded = next(shape for shape in figure.layout.shapes if shape.name == "chosen task")
    assert (shaded.x0, shaded.x1) == (10.5, 16.5)
    expected = np.degrees(np.arccos(np.sqrt([6 * 2 / (3 * 5), 9 * 5 / (6 * 8)])))
    np.testing.assert_allclose(named(figure, "closed form").y, expected, rtol=1e-5)
