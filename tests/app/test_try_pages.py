"""Head lab, Toy collapse, Compare, exports and the tour: on every kind of run folder, and with numbers to check."""

import csv
import io
import re
from html import unescape

import numpy as np
import pytest

from tests.app.conftest import KINDS, ROOT
from tests.app.test_pages import opened, words
from tests.runs.synthetic import write_synthetic_run

pytest.importorskip("streamlit")

from app.images import changes
from app.shell import export, tour
from app.shell.store import Entry, Opened
from app.shell.ways import file
from app.views.head_lab import heads
from cillab import figures
from cillab.runs import Run
from tests.runs.edit import unsealed

pytestmark = [pytest.mark.app, pytest.mark.filterwarnings("default")]


def test_changed_answers_show_lost_and_gained_ones_in_turn() -> None:
    before = np.array([0, 1, 0, 1, 1, 0, 1], dtype=bool)
    after = np.array([0, 0, 1, 0, 0, 1, 0], dtype=bool)
    assert changes.in_turn(before, after).tolist() == [1, 2, 3, 5, 4, 6, 0]
    assert changes.in_turn(before[:0], after[:0]).tolist() == []


PAGES = {"head_lab": "Head lab", "toy_collapse": "Toy collapse", "compare": "Compare"}
SAYS = {
    ("head_lab", "empty"): "There is no run to show yet",
    ("head_lab", "corrupted"): "be read",
    ("head_lab", "started"): "No snapshot yet",
    ("compare", "empty"): "There is no run to show yet",
    ("compare", "corrupted"): "No curve yet",
    ("compare", "started"): "No curve yet",
    ("compare", "live"): "No finished run yet",
    ("compare", "noise"): "its spread is unknown",
    **{("toy_collapse", kind): "After 600 steps NC1 fell" for kind in KINDS},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("page", PAGES)
def test_page_shows_what_there_is(page, kind, folders, only_these_runs) -> None:
    only_these_runs(folders[kind])
    test = opened(page)
    assert not test.exception, test.exception
    assert [title.value for title in test.title] == [PAGES[page]]
    assert SAYS.get((page, kind), "") in words(test)


@pytest.fixture(scope="module")
def roomy(tmp_path_factory):
    """A run whose features have room for a simplex of all its classes."""
    folder = tmp_path_factory.mktemp("roomy")
    write_synthetic_run(folder / "first", noise=False, dim=24)
    return folder


def shown(path) -> Opened:
    return Opened(Entry("first", path, "run"), Run(path))


def test_every_head_is_answered_and_the_means_are_the_recorded_oracle(roomy) -> None:
    run = shown(roomy / "first")
    found = heads.bench(run, 4)
    asked = {"kind": "euclidean", "which": "now", "gamma": 0.01, "share": 0.0, "temperature": 1.0}
    distance = ((found.images.features[:, None] - found.known["now"].means) ** 2).sum(axis=2)
    chosen = found.images.classes[distance.argmin(axis=1)]
    assert (found.images.answer(heads.made(found, asked)[1]).predicted == chosen).all()
    stored = heads.made(found, {**asked, "kind": "stored"})[1]
    np.testing.assert_array_equal(
        found.images.answer(stored).predicted, run.snapshots[4]["predictions"][found.images.positions]
    )
    assert found.own is not None  # the synthetic head is linear and in the space of the features
    assert heads.kinds(found) == list(heads.KINDS)
    for kind in heads.KINDS:
        for share in (0.0, 0.5):
            head, scores = heads.made(found, {**asked, "kind": kind, "share": share})
            assert scores.shape == (len(found.images.rows), len(found.images.classes))
            assert head is not None
            assert np.isfinite(scores).all()


def test_every_order_ends_where_the_order_of_the_run_ends(folders) -> None:
    run = shown(folders["plain"] / "first")
    found = heads.bench(run, 4)
    asked = {"kind": "ridge", "which": "now", "gamma": 0.01, "share": 0.0, "temperature": 1.0}
    count = len(found.images.classes)
    ends = {
        heads.path(found, asked, heads.ordered(count, kind, 3), size).accuracy[-1]
        for kind in heads.ORDERS
        for size in (1, 4)
    }
    assert len(ends) == 1
    first = heads.path(found, asked, np.arange(count), 4)
    assert first.classes.tolist() == [4, 8, 12, 16, 20]
    assert np.isnan(first.turn[0])
    assert first.turn[1:].tolist() == sorted(first.turn[1:], reverse=True)


def test_of_many_tasks_some_are_worked_out(folders, monkeypatch: pytest.MonkeyPatch) -> None:
    found = heads.bench(shown(folders["plain"] / "first"), 4)
    asked = {"kind": "lda", "which": "now", "gamma": 0.1, "share": 0.0, "temperature": 1.0}
    order = np.arange(len(found.images.classes))
    every = heads.path(found, asked, order, 1)
    monkeypatch.setattr(heads, "STOPS", 5)
    some = heads.path(found, asked, order, 1)
    assert some.classes.tolist() == [2, 6, 11, 16, 20]
    at = np.searchsorted(every.classes, some.classes)
    np.testing.assert_array_equal(some.accuracy, every.accuracy[at])
    np.testing.assert_array_equal(some.turn, every.turn[at])  # against the task before, asked or not


@pytest.mark.parametrize("kind", list(heads.KINDS))
def test_the_way_to_all_classes_is_made_of_the_heads_that_the_lab_shows(kind, roomy) -> None:
    found = heads.bench(shown(roomy / "first"), 4)
    asked = {"kind": kind, "which": "now", "gamma": 0.1, "share": 0.25, "temperature": 1.0}
    order = heads.ordered(len(found.images.classes), "shuffled", 1)
    for end, accuracy in zip((8, 16, 20), heads.path(found, asked, order, 8).accuracy, strict=True):
        rows = np.sort(order[:end])
        own = found.images.rows[np.isin(found.images.rows, rows)]
        assert accuracy == (rows[heads.made(found, asked, rows)[1].argmax(axis=1)] == own).mean()


def test_without_room_no_frame_is_offered(folders) -> None:
    assert "etf" not in heads.kinds(heads.bench(shown(folders["plain"] / "first"), 4))  # 20 classes, 16 dimensions


def test_the_head_lab_answers_a_change(roomy, only_these_runs) -> None:
    only_these_runs(roomy)
    test = opened("head_lab", run="first", step="4")
    assert "No answer differs" in words(test)
    test.selectbox(key="head").set_value("etf").run()
    assert not test.exception, test.exception
    assert "Fixed simplex ETF" in words(test)
    assert "the class means alone: the simplex ETF" in words(test)
    assert "No answer differs" not in words(test)


def test_a_preset_of_the_toy_sets_the_knobs(folders, only_these_runs) -> None:
    only_these_runs(folders["empty"])
    test = opened("toy_collapse")
    next(b for b in test.button if b.label == "A new task breaks it").click().run()
    assert not test.exception, test.exception
    assert test.session_state["toy_classes"] == 3
    assert "old images are answered rightly at 0.0 %" in words(test)
    next(b for b in test.button if b.label == "A fixed frame holds").click().run()
    assert "old images are answered rightly at 100.0 %" in words(test)
    next(b for b in test.button if b.label == "No room for a frame").click().run()
    assert not test.exception, test.exception
    assert test.selectbox(key="toy_head").disabled


@pytest.fixture
def three_seeds(tmp_path, only_these_runs):
    for seed in (0, 1, 2):
        write_synthetic_run(tmp_path / f"min{seed}", seed=seed, tasks=3)
        write_synthetic_run(tmp_path / f"plain{seed}", seed=seed, tasks=3, noise=False)
    write_synthetic_run(tmp_path / "other", classes_per_task=3)
    only_these_runs(tmp_path)


def test_runs_of_different_protocols_are_not_ranked_together(three_seeds) -> None:
    test = opened("compare")
    assert not test.exception, test.exception
    text = words(test)
    assert "Numbers of different protocols are never ranked together: they differ in" in text
    assert "cannot be ranked together, their protocols differ" in text  # the chosen curves
    assert text.count("Last accuracy") == 4  # three seeds and another split: a table each
    assert "over 3 seeds (95 % t-interval)" in text
    assert re.search(r"points, 95 % interval .* over 3 shared seeds", text)


class Sent:
    """A CSV as Streamlit hands it over."""

    def __init__(self, name: str, content: bytes) -> None:
        self.name, self.getvalue = name, lambda: content


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (Sent("../<b>.csv", b"classes,accuracy\n2,90\n4,80.5\n"), "-b- ends at 80.5 %"),
        (Sent("mine.csv", b"classes,accuracy\n4,90\n2,80\n"), "mine.csv: classes must increase"),
        (None, ""),
    ],
)
def test_a_published_curve_is_laid_over_runs_by_name_or_from_a_file(sent, said, folders, only_these_runs, monkeypatch):
    from app.views.compare import tables as compare

    monkeypatch.setattr(compare.st, "file_uploader", lambda *_, **__: sent)
    only_these_runs(folders["noise"])
    test = opened("compare")
    assert not test.exception, test.exception
    test.multiselect(key="compare-published").set_value(["ease/cifar100-inc5"]).run()
    assert not test.exception, test.exception
    text = unescape(words(test))
    assert said in text and "/tmp" not in text
    assert ("Published: ease/cifar100-inc5 ends at 85.8 %" in text) != ("must increase" in said)


@pytest.mark.parametrize("page", ["head_lab", "compare"])
def test_names_from_a_run_are_text_and_never_markup(page, tmp_path, only_these_runs) -> None:
    path = write_synthetic_run(tmp_path / "<img src=x onerror=alert(1)>")
    info = unsealed((path / "run.json").read_text())
    (path / "run.json").write_text(re.sub(r'"(red|blue|gold|green|black) ', r'"<script>alert(1)</script>\1 ', info))
    only_these_runs(tmp_path)
    test = opened(page)
    texts = [e.proto.body for e in test.get("html")] + [
        e.value for e in (*test.header, *test.subheader, *test.markdown)
    ]
    assert not [text for text in texts if re.search(r"(?<!\\)<(script|img src=x)", text)]


def test_csv_holds_what_is_plotted_and_no_formula(folders) -> None:
    run = Run(folders["noise"] / "first")
    read = list(csv.DictReader(io.StringIO(figures.accuracy(run).csv())))
    seen = [float(row["y"]) for row in read if row["trace"] == "all classes seen"]
    assert seen == pytest.approx(run.metrics().over("accuracy/seen", run.steps).tolist(), abs=1e-6)
    cells = [r for r in csv.DictReader(io.StringIO(figures.accuracy_matrix(run).csv())) if r["z"]]
    assert len(cells) == 15  # five tasks: nothing above the diagonal
    picture = figures.accuracy({"=HYPERLINK(1)": run, "b": run})
    assert "\n=HYPERLINK" not in picture.csv()
    assert "'=HYPERLINK(1)" in picture.csv()
    page = figures.accuracy(run).page("<b>")
    assert page.startswith("<!doctype html>")
    assert "<title>&lt;b&gt;</title>" in page
    assert not re.search(r"<(script|link)[^>]+(src|href)=", page)  # opens offline


def test_every_figure_can_be_taken_along(folders, only_these_runs) -> None:
    only_these_runs(folders["noise"])
    test = opened("collapse", collapse="Angles")
    labels = [button.proto.label for button in test.get("download_button")]
    assert labels.count("CSV: the numbers") == labels.count("HTML: opens offline") == len(test.get("plotly_chart")) > 1
    assert export.file_name("../Accuracy: a/b <c>") == "accuracy-a-b-c"


def test_the_tour_goes_through_pages_that_exist(folders, only_these_runs) -> None:
    only_these_runs(folders["noise"])
    script = tour.script()
    assert isinstance(script, tour.Script), script
    for number, stop in enumerate(script.stops, 1):
        assert (ROOT / "app" / file(stop.page)).is_file()
        test = opened(stop.page)
        test.session_state["tour"] = str(number)
        test.run()
        assert not test.exception, test.exception
        assert f"{number} of {len(script.stops)}. {stop.title}" in words(test).replace("&#x27;", "'")
        assert all(button.label != "Go there" for button in test.button)


def test_a_lecture_of_ones_own_plays_and_a_bad_one_says_what_is_wrong(tmp_path, only_these_runs) -> None:
    write_synthetic_run(tmp_path / "first")
    (tmp_path / "lectures").mkdir()
    good = "title: Monday\nstops:\n- {page: step_through, title: Angles, view: {run: first, step: 1, panel: angles}}\n"
    (tmp_path / "lectures" / "monday.yaml").write_text(good)
    (tmp_path / "lectures" / "bad.yaml").write_text("title: Bad\nstops:\n- {page: nowhere, title: x}\n")
    only_these_runs(tmp_path)
    test = opened("start")
    assert "bad.yaml: there is no page 'nowhere'" in unescape(words(test))
    next(b for b in test.button if b.label == "Monday").click().run()
    assert test.session_state["tour"] == "monday.1"
    assert "1 of 1. Angles" in words(test) and test.session_state["step"] == "1"
    assert tour.script("../../etc") == "There is no lecture '../../etc'."


def test_the_tour_starts_from_start_and_ends(folders, only_these_runs) -> None:
    only_these_runs(folders["noise"])
    test = opened("start")
    test.button(key="tour-start").click().run()
    assert test.session_state["tour"] == "1"
    next(b for b in test.button if b.label == "Next").click().run()
    assert [title.value for title in test.title] == ["Step through"]
    next(b for b in test.button if b.label == "End").click().run()
    assert test.session_state["tour"] is None
    assert "2 of" not in words(test)
