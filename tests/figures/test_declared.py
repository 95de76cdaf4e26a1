"""Figures say what they are; pages, tooltips and the report follow, also for one that another package brings."""

import inspect
import re
from importlib import import_module

import numpy as np
import pytest

from cillab import figures, glossary
from cillab.core.errors import InvalidRequestError, RunError
from cillab.core.internals import SHARED
from cillab.core.registry import learners
from cillab.figures import registry
from cillab.protocol import FACTS, protocol_key
from cillab.report import write_report
from cillab.runs import Run
from cillab.runs.files import write_arrays
from cillab.runs.schema import SCALARS, SNAPSHOT_ARRAYS
from cillab.runs.table import ranking, table
from cillab.streams.stream import make_stream
from tests.lab.fakes import Line, Squares
from tests.runs.synthetic import write_synthetic_run

EVERY = [one.name for one in figures.figures_of()]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Run]:
    home = tmp_path_factory.mktemp("runs")
    kinds = {"noise": {"noise": True}, "text": {"noise": False, "text": True}, "etf": {"noise": False, "etf": True}}
    return {
        name: Run(write_synthetic_run(home / name, tasks=3, classes_per_task=3, probe=36, dim=8, **options))
        for name, options in kinds.items()
    }


def test_every_public_figure_of_a_run_is_declared() -> None:
    functions = {name: getattr(figures, name) for name in figures.__all__}
    functions = {name: f for name, f in functions.items() if inspect.isfunction(f)}
    drawn = {name for name, f in functions.items() if "step" in [*inspect.signature(f).parameters][1:2]}
    assert drawn == {*EVERY, "toy"}
    assert figures.named("toy").of == "toy"


@pytest.mark.parametrize("name", EVERY)
def test_what_a_figure_says_of_itself_exists(name: str) -> None:
    one = figures.named(name)
    assert one.page in figures.PAGES
    assert one.title[0].isupper()
    known = {*SNAPSHOT_ARRAYS, *SCALARS, *(f"internals/{shared}" for shared in SHARED)}
    import_module("cillab.learners")
    known |= {f"internals/{i.name}" for method in learners for i in learners[method].capabilities.internals}
    known |= {f"{array.partition('/')[0]}/{which}" for array in ("cam/", "cam_energy/", "calibration/")
              for which in ("predicted", "new")}  # fmt: skip
    assert set(one.needs) <= known
    assert {*one.quantities} <= {entry.key for entry in glossary.entries()} | {"noise_floor"}


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("kind", ["noise", "text", "etf"])
def test_a_figure_is_empty_where_its_data_are_missing_and_only_there(name, kind, runs) -> None:
    one, run = figures.named(name), runs[kind]
    picture = one.draw(run)
    assert picture.empty == bool(one.lacking(run)), picture.sentence
    if picture.empty:
        assert picture.sentence == one.lacking(run)


def test_what_is_missing_is_named_with_its_meaning(runs) -> None:
    @figures.figure(title="Anchors", page="method", needs=("internals/anchors/rows",))
    def of_anchors(run, step=None, *, theme="light"):
        raise AssertionError("never drawn")

    try:
        reason = figures.named("of_anchors").lacking(runs["etf"])
        assert reason == "This run does not record `internals/anchors/rows` (the anchor of each class, unit rows)."
        assert of_anchors(runs["etf"]).sentence == reason
    finally:
        registry._FIGURES._entries.pop("of_anchors")


@pytest.mark.parametrize("kind", ["noise", "text", "etf"])
def test_the_report_holds_every_figure_that_the_run_supports_and_no_note_twice(kind, runs, tmp_path) -> None:
    run = runs[kind]
    write_report(run.path, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    supported, everything = figures.figures_of(run=run), figures.figures_of()
    for one in supported:
        assert f"<h3>{one.title}</h3>" in page, one.name
    for one in set(everything) - set(supported):
        assert f"<h3>{one.title}</h3>" not in page, one.name
        assert f"<li>{one.title}: " in page, one.name
    notes = [note for one in supported for note in one.draw(run).notes]
    assert len(notes) > len(set(notes)), "the figures share no note: this test proves nothing"
    for note in set(notes):
        shown = note.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        assert page.count(shown) == 1 or page.count(note) == 1, note
    assert page.count("<img ") == 3
    links = set(re.findall(r'href="#(note-\d+)"', page))
    assert links <= set(re.findall(r'id="(note-\d+)"', page))


@pytest.fixture
def outsider():
    module = import_module("tests.figures.outsider")
    yield module
    learners._entries.pop("outsider")
    registry._FIGURES._entries.pop("outsider_radius")
    FACTS.pop("lamp")


def test_method_quantity_figure_and_fact_from_outside_reach_run_report_pages_and_table(outsider, tmp_path) -> None:
    import cillab

    def made(name: str) -> Run:
        stream = make_stream(Squares(4, train=3, test=2), split="B0-Inc2")
        list(cillab.Lab(stream, cillab.learner("outsider", Line()), out=tmp_path / name))
        return Run(tmp_path / name)

    run = made("run")
    outsider.LAMP[0] = "candle"
    assert (run.protocol.lamp, made("dark").protocol.lamp) == ("daylight", "candle")
    assert "lamp" in protocol_key()
    assert {row["lamp"] for row in table(tmp_path).rows} == {"daylight", "candle"}
    with pytest.raises(InvalidRequestError, match="lamp = candle, daylight"):
        ranking(table(tmp_path).rows)
    assert "largest distance" in run.capabilities.internals["outsider/radius"]
    assert run.capabilities.shows == ["outsider"]
    assert run.snapshot()["internals/outsider/radius"].shape == (4,)
    group = figures.groups("method", run)["radius"]
    assert group.part == figures.Part("How far a class reaches", outsider.outsider_radius.__doc__)
    assert [one.name for one in group.figures] == ["outsider_radius"]
    assert "outsider_radius" in [one.name for one in figures.shown("nc1_quotient")]
    write_report(run.path, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "<h3>How far a class reaches</h3>" in page
    assert "The widest class reaches" in page


def test_shapes_that_do_not_fit_are_one_short_line(tmp_path) -> None:
    path = write_synthetic_run(tmp_path / "r", noise=True)
    file = path / "steps" / f"{Run(path).steps[-1]}.safetensors"
    arrays = {name: np.array(values) for name, values in Run(path).snapshot(-1).items()}
    write_arrays(file, arrays | {"internals/noise/similarity": arrays["internals/noise/similarity"][:0]})
    with pytest.raises(RunError, match="parameter 'similarity'") as told:
        figures.mixing(Run(path))
    assert len(str(told.value).replace(str(path), "")) < 400 and "\n" not in str(told.value)
