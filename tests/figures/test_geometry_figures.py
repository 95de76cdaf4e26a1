"""Figures of geometry and explanation: the traces hold what the run's arrays and `cillab.geometry` say."""

import math
import sys
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest

from cillab import figures
from cillab.core.errors import InvalidRequestError
from cillab.figures.coarse import averaged, shown
from cillab.figures.gram import scaled_gram, simplex_gram
from cillab.figures.numbers import as_csv
from cillab.figures.on_object import compare
from cillab.geometry import drift, nc2, spectrum as spectra
from cillab.geometry.rows import centre, cosine
from cillab.runs import Run, RunInfo, RunWriter
from tests.runs.synthetic import write_synthetic_run

NAMES = (
    "angle_blocks", "calibration", "cam_strip", "class_collapse", "generalised", "gram", "on_object", "prototypes",
    "retention", "sides", "similarity", "spectrum", "variability", "variants",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    path = tmp_path_factory.mktemp("runs") / "noisy"
    return Run(write_synthetic_run(path, tasks=3, classes_per_task=3, probe=54, dim=8, cams=True))


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> Run:
    path = tmp_path_factory.mktemp("runs") / "plain"
    return Run(write_synthetic_run(path, tasks=3, classes_per_task=3, probe=54, dim=8, noise=False, cams=True))


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Run:
    """What another program may write: none of the optional arrays."""
    writer = RunWriter.create(tmp_path_factory.mktemp("runs") / "bare", RunInfo(tasks=[[1, 2], [3, 4]]))
    writer.probe(["a", "b"], [1, 3], [0, 1])
    means = np.array([[0.0, 1.0], [1.0, 0.0]], np.float32)
    writer.snapshot("t00", {
        "features": np.zeros((2, 2), np.float16), "logits": np.zeros((2, 2), np.float16),
        "predictions": np.array([1, 2], np.int32), "seen": np.array([1, 2], np.int32),
        "task_of_class": np.zeros(2, np.int32), "means/stored": means, "means/now": means, "means/test": means,
        "head/weight": np.zeros((2, 5), np.float32), "confusion": np.eye(2, dtype=np.int32),
        "accuracy/row": np.ones(1), "cosine": np.array([[1, -1], [-1, 1]], np.float16), "nc/within": np.ones(2),
    })  # fmt: skip
    return Run(writer.path)


def named(figure: go.Figure, name: str) -> go.Scatter:
    return next(trace for trace in figure.data if trace.name == name)


def rows(seed: int, n: int = 20, d: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)) + 3


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_figure_is_valid_in_both_themes_and_says_something(run, bare, name, theme) -> None:
    for one, step in ((run, None), (run, "t00"), (run, 1), (bare, None)):
        picture = getattr(figures, name)(one, step, theme=theme)
        assert picture.figure.layout.uirevision == name
        assert picture.sentence.endswith(".")
        assert "nan" not in picture.sentence
        for trace in picture.figure.data:
            for values in (getattr(trace, axis, None) for axis in ("x", "y", "z")):
                assert not isinstance(values, np.ndarray) or values.dtype != np.float64


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("variability", "variants")])
def test_axes_stay_the_same_from_step_to_step(run, name) -> None:
    drawn = [getattr(figures, name)(run, step).figure for step in run.steps[1:]]
    for select in ("select_xaxes", "select_yaxes"):
        if name != "spectrum" and not (name == "on_object" and select == "select_yaxes"):
            first, last = ([axis.range for axis in getattr(figure, select)()] for figure in drawn)
            assert first == last


@pytest.mark.parametrize(
    "name", ["class_collapse", "variability", "angle_blocks", "generalised", "gram", "sides", "spectrum", "prototypes"]
)
def test_what_the_run_says_about_reading_it_is_shown(run, name) -> None:
    assert "6 classes were measured." in getattr(figures, name)(run, "t01").notes
    assert "6 classes were measured." in figures.collapse(run, "t01").notes
    assert run.snapshot("t01").notes("test") == ()


def test_the_gram_matrix_is_that_of_the_geometry_and_a_simplex_is_its_own_ideal(run) -> None:
    means = rows(7, 5)
    assert nc2.gram_distance(scaled_gram(means)) == pytest.approx(nc2.simplex_gram_distance(means), rel=1e-9)
    vertices = np.eye(4) @ np.linalg.qr(rows(8, 6))[0][:4] * 3 + 1
    np.testing.assert_allclose(scaled_gram(vertices), simplex_gram(4), atol=1e-12)
    drawn = figures.gram(run).figure.data
    np.testing.assert_allclose(drawn[0].z, scaled_gram(run.snapshot(run.steps[-1])["means/now"]), atol=1e-6)
    np.testing.assert_allclose(drawn[1].z, simplex_gram(9), atol=1e-6)


def test_above_200_classes_cells_are_means_and_a_sentence_says_so() -> None:
    tasks = np.repeat(np.arange(5), 41)
    matrix = rows(0, n=205, d=205)
    few, many = (shown(matrix[:n, :n], tasks[:n], [f"c{i}" for i in range(n)]) for n in (200, 205))
    assert few.cells.shape == (200, 200)
    assert few.sentence == ""
    assert many.cells.shape == (5, 5)
    assert many.labels[-1] == "task 5"
    assert "205 classes are too many" in many.sentence
    inside = matrix[:41, :41][~np.eye(41, dtype=bool)].mean()
    np.testing.assert_allclose(many.cells[0, 0], inside)
    np.testing.assert_allclose(many.cells[1, 3], matrix[41:82, 123:164].mean())


def test_many_classes_are_averaged_over_the_pairs_of_two_tasks() -> None:
    matrix = np.arange(16.0).reshape(4, 4)
    np.testing.assert_allclose(averaged(matrix, np.array([0, 0, 1, 1])), [[2.5, 4.5], [10.5, 12.5]])


def test_both_sides_hold_the_scalars_of_the_run(run) -> None:
    figure, metrics = figures.sides(run).figure, run.metrics()
    shown = [trace for trace in figure.data if trace.name == "test images"]
    np.testing.assert_allclose(shown[1].y, metrics.over("nc/test/cdnv", run.steps), rtol=1e-6)
    np.testing.assert_allclose(shown[5].y, metrics.over("nc/test/nc4", run.steps), rtol=1e-6)


def test_class_collapse_averages_to_the_scalars(run) -> None:
    figure = figures.class_collapse(run).figure
    panels = [np.concatenate([d.y for d in figure.data if (d.yaxis or "y") == axis]) for axis in ("y", "y2", "y3")]
    last = {name: series.values[-1] for name, series in run.metrics().items()}
    assert panels[0].mean() == pytest.approx(last["nc/train/nc1_quotient"], rel=1e-3)  # classes of equal size
    assert panels[2].mean() == pytest.approx(last["nc/train/nc4"], abs=1e-6)
    weight, means = (np.asarray(run.snapshot()[n], float) for n in ("head/weight", "means/now"))
    assert panels[1].mean() == pytest.approx(cosine(weight, centre(means)).mean(), rel=1e-5)
    assert figures.class_collapse(run).figure.layout.yaxis.type == "log"


def test_variability_averages_to_cdnv(run) -> None:
    heat = figures.variability(run).figure.data[0]
    off = ~np.eye(9, dtype=bool)
    assert heat.customdata[off].mean() == pytest.approx(run.metrics()["nc/train/cdnv"].values[-1], rel=1e-3)
    np.testing.assert_allclose(heat.z[off], np.log10(heat.customdata[off]), rtol=1e-4)
    assert len({figures.variability(run, s).figure.data[0].zmax for s in run.steps}) == 1


def test_angle_blocks_follow_the_target(run) -> None:
    figure = figures.angle_blocks(run).figure
    target = next(d for d in figure.data if "target" in (d.name or ""))
    np.testing.assert_allclose(target.y, [-1 / 2, -1 / 5, -1 / 8], rtol=1e-6)
    assert np.isnan(named(figure, "old with old").y[0])
    cosine = run.snapshot()["cosine"].astype(float)
    np.testing.assert_allclose(
        named(figure, "new with new").y[-1], cosine[6:, 6:][np.triu_indices(3, 1)].mean(), rtol=1e-5
    )


def test_generalised_never_falls_below_the_simplex(run) -> None:
    figure = figures.generalised(run).figure
    simplex = next(d for d in figure.data if "simplex" in (d.name or "")).y
    assert (named(figure, "training images").y >= simplex - 1e-6).all()
    assert simplex[0] == pytest.approx(-0.5 * math.log(3))


def test_spectrum_is_that_of_the_arrays(run) -> None:
    figure = figures.spectrum(run).figure
    within = run.snapshot()["nc/spectrum_within"].astype(float)
    line = named(figure, "effective rank within classes")
    assert line.y[-1] == pytest.approx(spectra.of_eigenvalues(within).effective_rank, rel=1e-6)
    np.testing.assert_allclose(named(figure, "within classes").y, within / within.sum(), rtol=1e-5)


def test_similarity_starts_unmoved_and_ends_moved(run) -> None:
    figure = figures.similarity(run).figure
    first = [d for d in figure.data if d.name == "task 1"]
    assert len(first) == 6
    assert [float(d.y[0]) for d in first] == pytest.approx([0, 0, 0, 1, 1, 1], abs=1e-5)
    features = [run.snapshot(s)["features"][run.probe.tasks == 0].astype(float) for s in (0, -1)]
    assert first[3].y[-1] == pytest.approx(drift.linear_cka(features[0], features[1]), rel=1e-5)


def test_prototypes_hold_the_gap(run) -> None:
    line = figures.prototypes(run).figure.data[0]
    shot = run.snapshot()
    mine = shot["task_of_class"] == 0
    gap = np.linalg.norm(shot["means/stored"] - shot["means/now"], axis=1) / np.sqrt(shot["nc/within"])
    assert line.y[-1] == pytest.approx(gap[mine].mean(), rel=1e-5)
    assert line.y[0] == pytest.approx(0, abs=1e-6)


def test_deep_and_shallow_add_up_to_what_the_head_lost(run) -> None:
    deep, crowding, shallow = (d.y for d in figures.retention(run).figure.data if d.type == "bar")
    matrix = run.accuracy_matrix()
    np.testing.assert_allclose(
        deep + crowding + shallow, [matrix[0, 0] - matrix[2, 0], matrix[1, 1] - matrix[2, 1]], atol=1e-6
    )
    then = [run.snapshot(s)["accuracy/fresh_then"] for s in run.steps]
    assert deep[0] == pytest.approx(then[0][0] - then[2][0], abs=1e-6)
    assert crowding[0] == pytest.approx(then[2][0] - run.snapshot()["accuracy/fresh"][0], abs=1e-6)


def test_calibration_error_is_the_gap_weighted_by_images(run) -> None:
    figure = figures.calibration(run).figure
    for side, name in (("old", "old classes"), ("new", "new classes")):
        dots = next(d for d in figure.data if d.name == name and d.customdata is not None)
        error = (dots.customdata * np.abs(dots.x - dots.y)).sum() / dots.customdata.sum()
        assert error == pytest.approx(run.metrics()[f"calibration/{side}"].values[-1], rel=1e-5)


def test_variants_are_those_of_the_result(run) -> None:
    figure = figures.variants(run).figure
    shown = {label: x for d in figure.data[:2] for label, x in zip(d.y, d.x, strict=True)}
    assert shown["A_last"] == pytest.approx(run.result.a_last, abs=1e-6)
    assert shown["A_avg"] == pytest.approx(run.result.a_avg, abs=1e-6)
    assert shown["BWT (GEM)"] == pytest.approx(run.result.bwt_gem, abs=1e-6)
    assert shown["forgetting (PILOT)"] == pytest.approx(run.result.forgetting_pilot, abs=1e-6)
    early = figures.variants(run, "t00").figure
    assert "BWT (GEM)" not in early.data[0].y  # not defined for one task


def test_strip_has_one_scale_and_a_frame_at_the_step(run) -> None:
    figure = figures.cam_strip(run, "t01", point=5).figure
    maps = [d.z for d in figure.data if d.coloraxis == "coloraxis"]
    shot = run.snapshot("t01")
    expected = shot["cam/predicted"][5] / np.float32(255) * shot["cam_scale/predicted"][5]
    np.testing.assert_allclose(maps[1], expected[::-1], rtol=1e-5)
    assert figure.layout.coloraxis.cmax == pytest.approx(max(m.max() for m in maps))
    assert [shape.name for shape in figure.layout.shapes] == ["frame", "cursor", "frame"]
    with pytest.raises(InvalidRequestError, match=r"point = 54\. Valid: 0 to 53"):
        figures.cam_strip(run, point=54)


def test_on_object_counts_only_classes_seen(run, other) -> None:
    picture = figures.on_object({"ours": run, "theirs": other}, "t01")
    line = next(d for d in picture.figure.data if d.name == "ours" and d.xaxis == "x")
    seen = np.isin(run.probe.labels, run.snapshot("t01")["seen"])
    assert line.y[1] == pytest.approx(run.snapshot("t01")["cam_energy/predicted"][seen].mean(), rel=1e-5)
    assert "over 36 images" in picture.notes[-1]
    assert "theirs puts" in picture.sentence


def test_comparison_is_paired_and_honest(run) -> None:
    same = compare(run, run)
    assert [(c.difference, c.low, c.high) for c in same] == [(0, 0, 0)] * 2
    assert all("as much, as far as" in c.sentence for c in same)


@pytest.mark.parametrize("name", ["similarity", "prototypes", "class_collapse"])
def test_of_many_tasks_few_traces_hold_every_number(name: str, tmp_path: Path, monkeypatch) -> None:
    """Oracle: the same figure with a trace for each task."""
    run = Run(write_synthetic_run(tmp_path / "many", tasks=22, classes_per_task=2, probe=176, dim=8, noise=False))
    draw = getattr(figures, name)
    shared = draw(run).figure
    for module in ("panels", "class_collapse"):
        monkeypatch.setattr(sys.modules[f"cillab.figures.{module}"], "NAMED_UP_TO", 22)
    apart = draw(run).figure
    found, wanted = (sorted(as_csv(one).splitlines()) for one in (shared, apart))
    assert found == wanted and any(row.startswith("task 21,") for row in found)
    assert 2 * len(shared.data) < len(apart.data)
