"""The panels beside the player: the numbers of the figures, and a method's own quantity found without its name."""

from typing import Any

import numpy as np
import pytest

from cillab import cockpit, figures
from cillab.demo import demo_runs
from cillab.figures.angles import read_angles
from cillab.figures.collapse import read_collapse
from cillab.player import Blob
from cillab.runs import Run
from tests.runs.synthetic import write_synthetic_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Run]:
    home = tmp_path_factory.mktemp("runs")
    kinds: dict[str, Any] = {
        "noise": {"noise": True, "cams": True},
        "text": {"text": True},
        "etf": {"etf": True},
        "plain": {"noise": False},
    }
    return {name: Run(write_synthetic_run(home / name, tasks=3, dim=8, **options)) for name, options in kinds.items()}


def unpacked(blob: Blob, place: list[int], dtype: type = np.float32) -> np.ndarray:
    offset, length = place
    return np.frombuffer(bytes(blob.data[offset : offset + length]), dtype)


def test_panels_hold_what_the_figures_draw(runs) -> None:
    run, blob = runs["noise"], Blob()
    found = cockpit.panels(run, blob)
    nc1 = found["collapse"][0]["lines"][0]
    np.testing.assert_allclose(unpacked(blob, nc1["values"]), read_collapse(run).series["train/nc1"], rtol=1e-6)
    angles = read_angles(run)
    shares = unpacked(blob, found["angles"]["shares"]).reshape(len(run.steps), 3, -1)
    for at, step in enumerate(run.steps):
        np.testing.assert_allclose(shares[at], angles.steps[step].shares, atol=1e-6)
    matrix = unpacked(blob, found["matrix"]["values"]).reshape(len(run.steps), -1)
    for at, step in enumerate(run.steps):
        row = run.snapshot(step)["accuracy/row"]
        np.testing.assert_allclose(matrix[at, : len(row)], row, rtol=1e-6)
        assert np.isnan(matrix[at, len(row) :]).all()


def test_maps_come_back_in_the_unit_of_the_scores(runs) -> None:
    run, blob = runs["noise"], Blob()
    found = cockpit.panels(run, blob)["cams"]
    rows, columns = found["grid"]
    maps = unpacked(blob, found["maps"], np.uint8).reshape(len(run.steps), 3, len(run.probe), rows, columns)
    scales = unpacked(blob, found["scales"]).reshape(len(run.steps), 3, len(run.probe))
    shot = run.snapshot(run.steps[1])
    np.testing.assert_array_equal(maps[1, 2], shot["cam/difference"])
    np.testing.assert_array_equal(scales[1, 0], shot["cam_scale/true"])
    floors = unpacked(blob, found["floors"]).reshape(len(run.steps), 3)
    assert floors[1, 0] == shot["cam_floor/true"]


def test_the_image_that_is_shown_first_is_one_whose_maps_reach_their_floor(runs) -> None:
    run = Run(demo_runs()["slca"])  # few of its maps do
    shots = [run.snapshot(step) for step in run.steps]
    drawn = [
        sum(
            float(shot[f"cam_scale/{t}"][image]) > float(shot[f"cam_floor/{t}"])
            for shot in shots
            for t in cockpit.TARGETS
        )
        for image in range(len(run.probe))
    ]
    assert drawn[0] < max(drawn) == drawn[cockpit.clearest(shots)]
    assert cockpit.clearest([runs["plain"].snapshot("t00")]) == 0  # no maps, no floors


def test_a_method_shows_its_own_quantity_and_the_figure_that_explains_it(runs) -> None:
    own = {name: cockpit.panels(run, Blob())["own"] for name, run in runs.items()}
    assert own["plain"] == []
    by_title = {one["title"]: one for one in own["noise"]}
    assert by_title["noise: weights"]["kind"] == "cells" and by_title["noise: weights"]["figure"] == "mixing"
    assert "noise: dead" not in by_title  # flags
    assert by_title["noise: weights"]["steps"][2]["shape"][1] == 3  # a column per task so far
    assert any("against" in one["title"] and one["kind"] == "classes" for one in own["text"])
    assert all(len(one["steps"]) == 3 for ones in own.values() for one in ones)


def test_shapes_are_read_as_declared_and_else_from_what_grows(runs) -> None:
    run = runs["noise"]
    shots = [run.snapshot(step) for step in run.steps]
    assert cockpit._axes(run, shots, "noise/weights") == "n,t"
    run.capabilities.internals["noise/weights"] = "f32 [L, t]: mixing weights"
    assert cockpit._axes(run, shots, "noise/weights") == "L,t"
    assert cockpit._names(run, shots)[0] == "noise/weights"


def test_a_line_has_the_hue_that_it_has_in_the_figure(runs) -> None:
    for theme in ("light", "dark"):
        found = cockpit.panels(runs["noise"], Blob())
        drawn: list[Any] = [draw(runs["noise"], theme=theme).figure.data for draw in (figures.collapse, figures.angles)]
        lines = [line["hue"][theme] for one in found["collapse"] for line in one["lines"]]
        assert lines == [trace.line.color for trace in drawn[0]]
        assert {hue[theme] for hue in found["angles"]["hues"]} <= {trace.line.color for trace in drawn[1]}
