"""Every page on every kind of run folder: no exception, the heading, and words that say what is missing.

Smoke tests but for the URL, the escaping and the imports, which have their own.
"""

import html
import json
import re
import subprocess
import sys
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import pytest

from tests.app.conftest import KINDS, ROOT
from tests.runs.edit import unsealed
from tests.runs.synthetic import write_synthetic_run

pytest.importorskip("streamlit")
from streamlit.testing.v1 import AppTest

from app.charts import terms
from app.shell.store import Entry, Opened
from app.shell.ways import file
from app.views.explore import selection
from app.views.glossary import lexicon
from cillab import figures, glossary
from cillab.runs import Run

pytestmark = [pytest.mark.app, pytest.mark.filterwarnings("default")]

PARTS = {page: figures.groups(page) for page in ("collapse", "drift")}
PAGES = {
    "start": "Watch a network learn, one task after another",
    "step_through": "Step through",
    "noise_mixing": "Noise mixing",
    "grad_cam": "Grad-CAM",
    "explore": "Explore points",
    "collapse": "Collapse",
    "drift": "Drift and forgetting",
    "text_transport": "Text and transport",
    "method": "Inside the method",
    "glossary": "Glossary",
}
_WITHOUT_RUNS = ("start", "glossary")
# What a page has to say, in its own words, where there is less to show.
SAYS = {
    ("noise_mixing", "plain"): "adds no noise",
    ("noise_mixing", "noise"): "kept no checkpoint",
    ("grad_cam", "plain"): "stored neither maps nor a checkpoint",
    **{(page, "empty"): "There is no run to show yet" for page in PAGES if page != "glossary"},
    **{(page, "corrupted"): "be read" for page in PAGES if page != "glossary"},
    **{(page, "started"): "No snapshot yet" for page in PAGES if page not in _WITHOUT_RUNS},
    (
        "step_through",
        "started",
    ): '<span class="ci-state ',  # a run in training opens there: its state stands in the live strip
    ("explore", "noise"): "Draw a lasso on the map",
    ("explore", "plain"): "stored neither maps nor a checkpoint",
    ("text_transport", "plain"): "keeps no text prototypes",
    ("text_transport", "clip"): "moved most",
    ("noise_mixing", "clip"): "adds no noise",
    ("method", "plain"): "recorded nothing for this page",
    ("glossary", "empty"): "of the K centred means",
}


def cockpit_of(test: AppTest) -> dict[str, Any]:
    """What the page sent to the player: everything that is drawn at a step is worked out from it in the browser."""
    (player,) = (e.proto for e in test.get("bidi_component") if e.proto.component_name == "cillab_player")
    return json.loads(player.mixed.json)


def opened(page: str, **query: str) -> AppTest:
    """The page, run once, as if the link had been pasted."""
    test = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=60)
    for name, value in query.items():
        test.query_params[name] = value
    return test.run() if page == "start" else test.switch_page(f"views/{page}/{page}.py").run()


def words(test: AppTest) -> str:
    """All text and HTML on the page."""
    parts = [element.proto.body for element in test.get("html")]
    parts += [element.value for element in (*test.title, *test.header, *test.subheader, *test.markdown, *test.caption)]
    return re.sub(r"\s+", " ", " ".join(parts))


def levels(test: AppTest) -> list[int]:
    """The headings of the page from top to bottom: 1 for the title, and so on."""
    found: list[int] = []

    def walk(node: Any) -> None:
        for child in getattr(node, "children", {}).values():
            if getattr(child, "tag", None):
                found.append(int(child.tag[1]))
            text = getattr(getattr(child, "proto", None), "body", "") if child.type in ("html", "markdown") else ""
            found.extend(int(a or len(b)) for a, b in re.findall(r"<h([1-6])|^(#{1,6}) ", text, re.M))
            walk(child)

    walk(test.main)
    return found


def no_level_is_skipped(test: AppTest) -> None:
    """Whoever reads by headings finds every one of them."""
    headings = levels(test)
    assert headings[0] == 1 and all(after <= before + 1 for before, after in pairwise(headings)), headings


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("page", PAGES)
def test_page_shows_what_there_is(page, kind, folders, only_these_runs) -> None:
    only_these_runs(folders[kind])
    test = opened(page)
    assert not test.exception, test.exception
    assert [title.value for title in test.title] == [PAGES[page]]
    no_level_is_skipped(test)
    assert SAYS.get((page, kind), "") in words(test)


@pytest.mark.parametrize("kind", ["noise", "plain", "live"])
@pytest.mark.parametrize(("page", "part"), [(page, name) for page, parts in PARTS.items() for name in parts])
def test_every_part_of_a_page_draws_its_figures_and_no_other(page, part, kind, folders, only_these_runs) -> None:
    only_these_runs(folders[kind])
    chosen, run = PARTS[page][part], Run(next(path.parent for path in folders[kind].glob("*/run.json")))
    test = opened(page, **{page: chosen.part.label}, step="2")
    assert not test.exception, test.exception
    if part not in figures.groups(page, run):
        assert f"{chosen.part.label}: {chosen.figures[0].lacking(run)}" in words(test)
        return
    assert len(test.get("plotly_chart")) == len(chosen.figures)
    assert "Not in this run<" not in words(test)
    assert "How to read this" in words(test)


def test_every_page_of_a_figure_is_a_page_of_the_app() -> None:
    assert {(ROOT / "app" / file(one.page)).is_file() for one in figures.figures_of()} == {True}


def test_every_glossary_link_leads_to_a_page_and_part_that_exist() -> None:
    for key, places in lexicon.places().items():
        assert terms.line(key).startswith("**")
        for place in places:
            assert (ROOT / "app" / file(place.page)).is_file()
            parts = PARTS.get(place.page, {}).values()
            assert place.query.get(place.page) in (None, *(group.part.label for group in parts))
    assert {key for one in figures.figures_of() for key in one.quantities} <= {one.key for one in glossary.entries()}


def test_the_glossary_finds_shows_one_and_says_what_it_lacks(folders, only_these_runs) -> None:
    only_these_runs(folders["noise"])
    test = opened("glossary", term="nc/train/nc1")
    assert "within-class over between-class covariance" in words(test).lower()
    assert "Backward transfer" not in words(test)
    assert "has no “<b>”" in html.unescape(words(opened("glossary", term="<b>")))
    assert "Procrustes" in words(opened("glossary", search="rotation"))
    assert "No quantity has all of these words" in words(opened("glossary", search="zebra"))


def test_a_selection_in_the_link_decides_what_the_gallery_shows(folders, only_these_runs) -> None:
    only_these_runs(folders["noise"])
    path = folders["noise"] / "first"
    text = selection.encode(Opened(Entry("first", path, "run"), Run(path)), [3, 7, 50])
    assert text is not None
    shown = words(opened("explore", run="first", sel=text))
    assert "<b>3</b> of 120 images selected" in shown
    assert "<b>120</b> of 120 images." in words(opened("explore", run="first", sel="000000.AA"))


def test_the_class_in_the_link_filters_and_gives_way_to_another_task(folders, only_these_runs) -> None:
    only_these_runs(folders["noise"])
    info = Run(folders["noise"] / "first").info
    name = info.name_of(info.tasks[1][0])
    test = opened("explore", run="first", **{"class": name})
    assert "<b>6</b> of 120 images." in words(test)  # 120 images of 20 classes
    test.selectbox(key="task").select("4").run()
    assert not test.exception
    assert "<b>24</b> of 120 images." in words(test)
    assert "<b>120</b> of 120 images." in words(opened("explore", run="first", **{"class": "<b>no such class</b>"}))


def test_a_map_that_must_be_computed_says_so_and_a_public_server_does_not_offer_it(
    folders, only_these_runs, monkeypatch
) -> None:
    if find_spec("umap") is None:  # whether it is there is the question: importing it compiles for a minute
        pytest.skip("the umap extra is not installed")
    only_these_runs(folders["noise"])
    query = {"run": "first", "map": "Joint UMAP of all tasks"}
    assert "has to be computed first" in words(opened("explore", **query))
    monkeypatch.setenv("CILLAB_READONLY", "1")
    test = opened("explore", **query)
    assert "This server only shows" in words(test)
    assert not [button for button in test.button if button.key == "umap-start"]


def test_the_link_decides_run_and_step(folders, only_these_runs) -> None:
    only_these_runs(folders["noise"])
    sent = cockpit_of(opened("step_through", run="first", step="1"))
    assert sent["step"] == 1 and [run["title"] for run in sent["runs"]] == ["min · first"]


@pytest.mark.parametrize(
    "query", [{"run": "../../etc"}, {"step": "999"}, {"step": "-1"}, {"step": "x"}, {"point": "<b>"}]
)
def test_a_link_that_makes_no_sense_shows_the_default(query, folders, only_these_runs) -> None:
    only_these_runs(folders["noise"])
    for page in ("step_through", "noise_mixing", "grad_cam", "explore", "collapse", "drift", "text_transport"):
        test = opened(page, **query)
        assert not test.exception, test.exception
        assert "be read" not in words(test)


def test_a_page_says_how_many_images_it_shows_and_of_how_many(folders, only_these_runs) -> None:
    only_these_runs(folders["noise"])
    run = Run(folders["noise"] / "first")
    tested = int(run.snapshot(run.steps[-1])["confusion"].sum())
    assert f"{len(run.probe)} of {tested} test images" in words(opened("collapse", run="first"))


def test_two_runs_stand_side_by_side(tmp_path, only_these_runs) -> None:
    write_synthetic_run(tmp_path / "a", noise=True)
    write_synthetic_run(
        tmp_path / "b", noise=False, tasks=4
    )  # a shorter one: its missing step must be said, not made up
    only_these_runs(tmp_path)
    test = opened("step_through", run="a", versus="b", step="4")
    assert not test.exception, test.exception
    sent = cockpit_of(test)
    assert [len(run["accuracy"]) for run in sent["runs"]] == [5, 4] and sent["step"] == 4
    assert all(run["shared"] for run in sent["runs"])  # one plane for both
    assert sent["runs"][0]["unit"] > 0 and sent["runs"][0]["panels"].keys() == sent["runs"][1]["panels"].keys()


def test_names_from_a_run_are_text_and_never_markup(tmp_path, only_these_runs) -> None:
    path = write_synthetic_run(tmp_path / "<img src=x onerror=alert(1)>", cams=True)
    info = unsealed((path / "run.json").read_text())
    (path / "run.json").write_text(re.sub(r'"(red|blue|gold|green|black) ', r'"<script>alert(1)</script>\1 ', info))
    only_these_runs(tmp_path)
    for page in PAGES:
        test = opened(page)
        markup = [element.proto.body for element in test.get("html")]
        headings = [element.value for element in (*test.title, *test.header, *test.subheader, *test.markdown)]
        for text in markup + headings:
            assert not re.search(r"(?<!\\)<(script|img src=x)", text)


def test_viewing_loads_no_torch_and_start_no_figures(folders) -> None:
    """In a process of its own, because this one may have loaded anything before."""
    code = f"""
import os, sys
os.environ["CILLAB_RUNS"] = {str(folders["noise"])!r}
from streamlit.testing.v1 import AppTest
test = AppTest.from_file({str(ROOT / "app" / "main.py")!r}, default_timeout=60).run()
assert not test.exception
assert "cillab.figures" not in sys.modules, "figures"
for page in ("step_through", "noise_mixing", "grad_cam", "explore", "collapse", "drift", "text_transport", "glossary"):
    assert not test.switch_page(f"views/{{page}}/{{page}}.py").run().exception
assert "torch" not in sys.modules, "torch"
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_tasks_have_one_colour_in_the_app_and_in_the_figures() -> None:
    from app.shell.theme import TASK_COLOURS
    from cillab.figures.palette import task_colour

    for mode, colours in TASK_COLOURS.items():
        assert list(colours) == [task_colour(task, mode) for task in range(len(colours))]


def test_a_part_of_the_probe_is_spread_over_tasks_and_classes() -> None:
    from app.learner.live import _stratified

    tasks, labels = [(7, 3), (5, 401)], [7, 7, 3, 3, 5, 5, 401, 401, 9]  # 9 belongs to a class that is not seen
    order = _stratified(labels, (7, 3, 5, 401), tasks)
    assert [labels[i] for i in order] == [7, 5, 3, 401, 7, 5, 3, 401]
    assert sorted(order) == list(range(8))


def test_pages_are_thin() -> None:
    for path in (ROOT / "app" / "views").glob("*.py"):
        assert len(path.read_text().splitlines()) < 80, path.name
