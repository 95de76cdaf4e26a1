"""The parts of Explore points without a browser: positions stay positions, neighbours and planes are what they say."""

import numpy as np
import pytest

pytest.importorskip("streamlit")

from app.images import gallery
from app.player.player import Selecting
from app.shell.store import Entry, Opened
from app.views.explore import near, selection, stage as explore
from cillab.runs import Run
from tests.runs.synthetic import write_synthetic_run

pytestmark = pytest.mark.app


@pytest.fixture(scope="module")
def view(tmp_path_factory) -> Opened:
    path = write_synthetic_run(tmp_path_factory.mktemp("runs") / "one", probe=120)
    return Opened(Entry("one", path, "run"), Run(path))


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> Opened:
    path = write_synthetic_run(tmp_path_factory.mktemp("runs") / "two", probe=80)
    return Opened(Entry("two", path, "run"), Run(path))


@pytest.mark.parametrize("positions", [[0], [119], [3, 17, 64, 65], list(range(120))])
def test_a_selection_comes_back_from_its_text(view, positions) -> None:
    text = selection.encode(view, positions)
    assert text is not None
    assert len(text) < 40
    assert selection.decode(view, text) == positions


@pytest.mark.parametrize("text", [None, "", "x", "<b>.AA", "000000.____", "000000.!", "."])
def test_text_that_is_no_selection_selects_nothing(view, text) -> None:
    assert selection.decode(view, text) == []
    assert selection.decode(view, f"{selection.mark(view)}.A") == []


def test_a_selection_is_not_read_for_another_probe(view, other) -> None:
    text = selection.encode(view, [1, 2])
    assert selection.decode(other, text) == []
    assert selection.encode(other, [200]) is None  # no such image


def test_what_is_selected_stays_the_same_images_under_every_filter_and_order(view) -> None:
    chosen, step = [5, 25, 45, 46, 80], 4
    tasks = view.run.probe.tasks
    for task in (None, *range(view.tasks_total)):
        passed = gallery.filtered(view, step, task, None, "all")
        for sort in explore.SORTS:
            shown = explore.ordered(view, step, explore._both(passed, chosen), sort)
            assert set(shown.tolist()) == {at for at in chosen if task is None or tasks[at] == task}


def test_orders_sort_by_what_they_say(view) -> None:
    among, step = np.arange(120), 4
    sure = explore.ordered(view, step, among, "margin")
    values = np.array([near.margins(view, int(at))[step] for at in sure])
    assert (np.diff(values) >= 0).all()
    moved = explore._moved(view, step)[explore.ordered(view, step, among, "moved")]
    assert (np.diff(moved) <= 1e-12).all()
    for at in (0, 60):
        then = np.asarray(view.snapshots[near.learnt_at(view, at)]["features"][at], float)
        now = np.asarray(view.snapshots[step]["features"][at], float)
        cosine = then @ now / np.linalg.norm(then) / np.linalg.norm(now)
        assert explore._moved(view, step)[at] == pytest.approx(1 - cosine, abs=1e-9)


def test_margins_are_negative_exactly_where_the_answer_is_wrong(view) -> None:
    for at in range(0, 120, 7):
        label = view.run.probe.labels[at]
        for step, value in enumerate(near.margins(view, at)):
            seen = label in view.snapshots[step]["seen"]
            assert np.isfinite(value) == seen
            if seen and value != 0:  # half precision can tie
                assert (value > 0) == (view.snapshots[step]["predictions"][at] == label)


def test_neighbours_agree_with_a_plain_loop(view) -> None:
    features = np.asarray(view.snapshots[2]["features"], np.float32)
    found, distance = near.nearest(view, 2, 9, count=5)
    plain = sorted((np.linalg.norm(row - features[9]), at) for at, row in enumerate(features) if at != 9)
    assert found == [at for _, at in plain[:5]]
    middle = np.median([d for d, _ in plain])
    np.testing.assert_allclose(distance, [d / middle for d, _ in plain[:5]], rtol=1e-5)
    assert near.learnt_at(view, 9) == view.run.probe.tasks[9]


def test_what_the_player_is_told_changes_its_token_only_when_something_changed() -> None:
    def told(**change) -> dict:
        base = {"visible": np.ones(4, bool), "focus": [2], "selected": [1, 3], "picked": 0, "tell": lambda _: None}
        return Selecting(**base | change).overlay(5)

    assert told()["token"] == told()["token"]
    assert told()["visible"] is None  # nothing is hidden: nothing is sent
    others = [told(picked=1), told(selected=[1]), told(focus=[]), told(visible=np.array([True, False, True, True]))]
    assert len({told()["token"], *(other["token"] for other in others)}) == 5
