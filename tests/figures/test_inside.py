"""Views of what methods show of themselves. Oracle: the arrays as read from the folder, and small ones by hand."""

import numpy as np
import pytest

from cillab import figures
from cillab.demo import demo_runs
from cillab.figures.inside import choices_by_task
from cillab.runs import Run
from tests.figures.inside import with_internals
from tests.runs.synthetic import write_synthetic_run

NAMES = ("prompt_choice", "prompt_keys", "low_rank", "alignment", "adapters", "anchors", "penalty")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    home = tmp_path_factory.mktemp("runs")
    return Run(with_internals(write_synthetic_run(home / "all", tasks=4, classes_per_task=3, probe=24, dim=16)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("step", ["t00", "t02", None])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_view_is_drawn_at_every_step_and_says_something(name, step, theme, run) -> None:
    picture = figures.named(name).draw(run, step, theme=theme)
    assert not picture.empty
    assert picture.sentence.endswith(".")
    assert "nan" not in picture.sentence
    assert name in [one.name for one in figures.figures_of("method", run)]


def test_choices_by_hand_and_a_pool_that_grows() -> None:
    shares = choices_by_task([np.array([3.0, 1.0]), np.array([3.0, 2.0, 3.0]), np.array([3.0, 2.0, 3.0])])
    np.testing.assert_allclose(shares[:2], [[0.75, 0.25, 0], [0, 0.25, 0.75]])
    assert np.isnan(shares[2]).all()


def test_choices_are_those_of_the_task_alone(run) -> None:
    z = figures.prompt_choice(run).figure.data[0].z
    counts = np.stack([run.snapshot(step)["internals/prompts/chosen"] for step in run.steps])
    np.testing.assert_allclose(z[2], (counts[2] - counts[1]) / (counts[2] - counts[1]).sum(), rtol=1e-5)
    common = np.minimum(z[2], z[3]).sum()
    assert f"share {100 * common:.1f} %" in figures.prompt_choice(run).sentence


def test_keys_are_cosines_and_turns(run) -> None:
    figure = figures.prompt_keys(run, "t01").figure
    a, b = (run.snapshot(s)["internals/prompts/keys"].astype(float) for s in ("t00", "t01"))
    np.testing.assert_allclose(figure.data[0].z, _cosines(b), atol=1e-6)
    mean = next(trace for trace in figure.data if trace.name == "mean over keys")
    angles = np.degrees(np.arccos((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)))
    assert float(mean.y[1]) == pytest.approx(angles.mean(), rel=1e-5)
    assert np.isnan(mean.y[0])


def test_keys_that_stand_still_turn_by_nothing_and_not_by_their_rounding() -> None:
    picture = figures.prompt_keys(Run(demo_runs()["dualprompt"]))
    largest = next(trace for trace in picture.figure.data if trace.name == "largest over keys")
    assert np.nanmax(largest.y) == 0
    assert "turned by 0 degrees" in picture.sentence
    assert picture.figure.layout.yaxis2.range[1] > 0.05


def _cosines(rows: np.ndarray) -> np.ndarray:
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit @ unit.T


def test_low_rank_holds_both_arrays_and_names_the_largest(run) -> None:
    picture = figures.low_rank(run)
    magnitude, rank = (trace for trace in picture.figure.data if trace.type == "heatmap")
    np.testing.assert_allclose(magnitude.z, run.snapshot()["internals/lowrank/magnitude"], rtol=1e-6)
    np.testing.assert_allclose(rank.z, run.snapshot()["internals/lowrank/rank"])
    largest = int((magnitude.z**2).sum(axis=0).argmax()) + 1
    assert f"task {largest} is the largest" in picture.sentence


def test_one_direction_is_compared_with_none(run) -> None:
    sentence = figures.low_rank(run, "t00").sentence
    assert "the direction of task 1 has a norm of" in sentence and "largest" not in sentence


def test_alignment_shows_lengths_and_that_aligned_rows_lie_along_their_means(run) -> None:
    picture = figures.alignment(run)
    traces = picture.figure.data
    shot = run.snapshot()
    old = shot["task_of_class"] < 3
    lengths = np.linalg.norm(shot["internals/align/before"].astype(float), axis=1)
    before = next(t for t in traces if t.name == "old classes, before" and t.mode == "markers")
    np.testing.assert_allclose(before.y, lengths[old], rtol=1e-5)
    after = [t for t in traces if t.name.endswith("after") and t.xaxis == "x2"]
    for trace in after:  # the rows after alignment are the centred means
        known = np.asarray(trace.y)[np.isfinite(trace.y)]
        np.testing.assert_allclose(known, 1, atol=1e-6)
    assert "rows of old classes are" in picture.sentence


def test_adapters_name_the_pair_that_differs_most(run) -> None:
    assert "tasks 1 and 4" in figures.adapters(run).sentence


def test_anchors_of_a_simplex_say_so(run) -> None:
    picture = figures.anchors(run)
    pairs = _cosines(run.snapshot()["internals/anchors/rows"].astype(float))[np.triu_indices(12, 1)]
    np.testing.assert_allclose(pairs, -1 / 11, atol=1e-5)
    assert "from \N{MINUS SIGN}0.0909 to \N{MINUS SIGN}0.0909" in picture.sentence
    assert float(picture.figure.data[0].y.sum()) == pytest.approx(1)


def test_penalty_is_on_a_log_axis(run) -> None:
    figure = figures.penalty(run).figure
    np.testing.assert_allclose(figure.data[0].y, [0.1, 1, 10, 100], rtol=1e-6)
    assert figure.layout.yaxis.type == "log"


def test_two_steps_without_an_array_say_which(run, tmp_path) -> None:
    bare = Run(write_synthetic_run(tmp_path / "bare", tasks=2, classes_per_task=2, probe=8, dim=4))
    assert figures.adapters(bare).sentence == "This learner keeps no adapter per task."
    assert figures.figures_of("method", bare) == ()
