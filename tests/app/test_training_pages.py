"""Train, Bring your own and Report: what they show on every kind of run folder, and what they refuse.

Smoke tests but for the form, the refusals, read-only mode, the escaping and the imports.
"""

import json
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest

from cillab.runs import Run
from tests.app.conftest import KINDS, ROOT
from tests.app.test_pages import no_level_is_skipped
from tests.runs.edit import unsealed
from tests.runs.synthetic import write_synthetic_run

pytest.importorskip("streamlit")
from streamlit.testing.v1 import AppTest

from app.charts import curves
from app.views.train import catalogue as module, fields
from cillab.lab import queue

pytestmark = [pytest.mark.app, pytest.mark.filterwarnings("default")]

PAGES = {"train": "Train", "bring_your_own": "Bring your own", "report": "Report"}
SAYS = {
    ("bring_your_own", "noise"): "kept no checkpoint",
    ("bring_your_own", "plain"): "kept no checkpoint",
    ("bring_your_own", "empty"): "There is no run to show yet",
    ("report", "empty"): "There is no run to show yet",
    ("bring_your_own", "corrupted"): "be read",
    ("report", "corrupted"): "be read",
    ("bring_your_own", "started"): "No snapshot yet",
    ("report", "started"): "No snapshot yet",
    ("train", "live"): "Its process waits",
}


@pytest.fixture(scope="session")
def known() -> dict:
    """What the library offers; asked once, in this process."""
    from cillab.lab.catalogue import catalogue

    return json.loads(json.dumps(catalogue()))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, known: dict) -> None:
    """No process is started: neither to ask the library, nor to work through a queue."""
    monkeypatch.setattr(module, "catalogue", lambda: known)
    monkeypatch.setattr(queue, "ensure_worker", lambda root: None)
    monkeypatch.delenv("CILLAB_READONLY", raising=False)
    monkeypatch.delenv("CILLAB_DATA", raising=False)


def opened(page: str, **query: str) -> AppTest:
    test = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=60)
    for name, value in query.items():
        test.query_params[name] = value
    return test.switch_page(f"views/{page}/{page}.py").run()


def words(test: AppTest) -> str:
    parts = [element.proto.body for element in test.get("html")]
    parts += [element.value for element in (*test.title, *test.header, *test.subheader, *test.markdown, *test.caption)]
    return re.sub(r"\s+", " ", " ".join(parts))


def labels(test: AppTest) -> list[str]:
    return [button.label for button in test.button]


def command(test: AppTest) -> str:
    """The line that does what the form says; empty when there is none."""
    return next((code.value for code in test.code if code.value.startswith("cillab run")), "")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("page", PAGES)
def test_page_shows_what_there_is(page, kind, folders, only_these_runs) -> None:
    only_these_runs(folders[kind])
    test = opened(page)
    assert not test.exception, test.exception
    assert [title.value for title in test.title] == [PAGES[page]]
    no_level_is_skipped(test)
    if page != "train" or kind != "live":
        assert SAYS.get((page, kind), "") in words(test)


@pytest.mark.parametrize("page", PAGES)
def test_the_recorded_runs_can_be_asked_and_reported(page, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CILLAB_RUNS", str(tmp_path))
    test = opened(page, run="demo-min")
    assert not test.exception, test.exception
    no_level_is_skipped(test)
    if page == "bring_your_own":
        assert test.get("file_uploader") and "1 to 50 images" in words(test)
    if page == "report":
        assert test.get("download_button")


@pytest.mark.parametrize("page", ["train", "bring_your_own"])
def test_a_read_only_server_offers_nothing(page, folders, only_these_runs, monkeypatch) -> None:
    only_these_runs(folders["noise"])
    monkeypatch.setenv("CILLAB_READONLY", "1")
    test = opened(page)
    assert not test.exception
    assert "This server only shows" in words(test)
    assert not test.button and not test.get("file_uploader") and not test.text_input


def test_a_read_only_server_still_reports(folders, only_these_runs, monkeypatch) -> None:
    only_these_runs(folders["noise"])
    monkeypatch.setenv("CILLAB_READONLY", "1")
    assert opened("report").get("download_button")


@pytest.mark.parametrize("what", ["start", "resume", "order", "register", "images", "unpack"])
def test_in_read_only_mode_the_functions_refuse_as_well(what, tmp_path, monkeypatch) -> None:
    """A hand-made message to the server reaches callbacks without the page."""
    from app.shell import folders, safety
    from app.views.bring_your_own import uploads
    from app.views.train import training
    from cillab.lab.spec import RunSpec

    monkeypatch.setenv("CILLAB_READONLY", "1")
    monkeypatch.setenv("CILLAB_RUNS", str(tmp_path))
    write_synthetic_run(tmp_path / "a", tasks=2, finished=False)
    before = sorted(tmp_path.rglob("*"))
    if what in ("start", "resume", "order"):  # callbacks say it on the page instead of raising
        call = {
            "start": lambda: training.start("b", RunSpec()),
            "resume": lambda: training._resume("a"),
            "order": lambda: training._order("cancel", "a"),
        }[what]
        call()
    else:
        call = {
            "register": lambda: folders.register("x"),
            "images": lambda: uploads.images([]),
            "unpack": lambda: uploads.unpack_run(b"", "b"),
        }[what]
        with pytest.raises(safety.ReadOnlyError, match="read-only"):
            call()
    assert sorted(tmp_path.rglob("*")) == before


def test_learners_of_every_family_have_a_form_with_all_their_settings(known, folders, only_these_runs) -> None:
    only_these_runs(folders["empty"])
    families = {method["family"]: name for name, method in known["learners"].items()}  # the last of each
    for learner in {*families.values(), "min", "dmc-ot"}:
        method = known["learners"][learner]
        backbone = next(name for name in known["cards"] if name not in known["refusals"][learner])
        test = opened("train", **{"spec-learner": learner, "spec-backbone": backbone})
        assert not test.exception, (learner, test.exception)
        keys = {w.key for w in (*test.selectbox, *test.number_input, *test.toggle, *test.text_input)}
        names = [name for group in fields.unfolded(method["params"]) for name in group.properties]
        assert {f"h-{learner}-{name}" for name in names} <= keys
        assert not [name for name in names if name in ("fit", "text", "aligning")]  # records are groups, not JSON
        assert command(test).startswith("cillab run") and "--set" not in command(test)


def test_only_what_differs_goes_into_the_line_and_is_marked(folders, only_these_runs) -> None:
    only_these_runs(folders["empty"])
    test = opened(
        "train", **{"spec-learner": "min", "h-min-gamma": "500", "h-min-silent_start": "true", "spec-seed": "7"}
    )
    line = command(test)
    assert "--set gamma=500" in line and "--set silent_start=true" in line and "--seed 7" in line
    assert line.count("--set") == 2
    assert words(test).count("<b>changed</b>") == 3


def test_a_starting_point_fills_in_the_form(known, folders, only_these_runs) -> None:
    """Every control shows what the preset says, and what was there before is gone."""
    only_these_runs(folders["empty"])
    test = opened("train", **{"spec-learner": "min", "h-min-gamma": "500", "spec-image_size": "32"})
    test.selectbox(key="start-min").select("As in its paper, CIFAR-100, 50 steps").run()
    assert not test.exception
    line = command(test)
    assert "--data cifar100" in line and "--split B0-Inc2" in line and "vit_base_patch16_224.augreg_in21k" in line
    assert "--set expansion=16384" in line and "gamma=100" in line and "--image-size" not in line
    start = next(one for one in known["learners"]["min"]["starts"] if one["name"].endswith("50 steps"))
    assert line.count("--set ") == sum(
        value != next(g.properties[name]["default"] for g in fields.unfolded(known["learners"]["min"]["params"])
                      if name in g.properties)
        for name, value in start["params"].items()
    )  # fmt: skip


def test_another_starting_point_takes_the_first_one_back(folders, only_these_runs) -> None:
    only_these_runs(folders["empty"])
    test = opened("train", **{"spec-learner": "min", "h-min-gamma": "500"})
    test.selectbox(key="start-min").select("As in our tables, shields: min, no augmentation").run()
    assert "--precision bf16" in command(test) and "--set fit.augment=none" in command(test)
    test.selectbox(key="start-min").select("A first look").run()
    assert not test.exception
    line = command(test)
    assert "--set" not in line and "bf16" not in line and "--split B0-Inc20 --train-per-class 20" in line


def test_start_writes_the_request_and_nothing_else(tmp_path, only_these_runs) -> None:
    only_these_runs(tmp_path)
    test = opened("train", **{"spec-learner": "finetune", "spec-data": "digits", "h-finetune-fit.epochs": "2"})
    test.button(key="train-start").click().run()
    assert not test.exception
    (one,) = queue.waiting(tmp_path)
    assert one.spec["learner"] == "finetune" and one.spec["params"] == {"fit.epochs": 2}
    assert Path(one.spec["out"]) == tmp_path / one.name
    assert "Waiting" in words(test)
    test.button(key=f"out-{one.key}").click().run()
    assert queue.waiting(tmp_path) == []


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"spec-data": "folder:/etc"}, "outside this app's data folder"),
        ({"spec-data": "parquet:../.."}, "outside this app's data folder"),
        ({"spec-data": "objectnet"}, "is for evaluation only"),
        ({"spec-data": "held-out:cub200"}, "cub200 is not on this machine. `cillab data fetch cub200` downloads it"),
        ({"spec-learner": "min", "h-min-gamma": "0"}, "gamma = 0.0: Input should be greater than 0"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(query, says, folders, only_these_runs) -> None:
    only_these_runs(folders["empty"])
    test = opened("train", **query)
    assert not test.exception
    assert says in unescape(words(test))
    assert "Start" not in labels(test)


def test_named_data_sets_are_offered_those_at_hand_first(known, folders, only_these_runs) -> None:
    only_these_runs(folders["empty"])
    options = opened("train").selectbox(key="spec-data").options
    assert options[:4] == ["cifar10", "cifar100", "digits", "shields"]
    assert "cub200 (not on this machine)" in options
    assert not any("objectnet" in one or ":" in one for one in options)
    assert "CUB-200-2011, birds: 200 classes" in known["data"]["cub200"]


def test_every_pair_that_does_not_fit_is_refused_in_the_words_of_the_library(known, folders, only_these_runs) -> None:
    only_these_runs(folders["empty"])
    pairs = [(learner, name, why) for learner, by in known["refusals"].items() for name, why in by.items()]
    assert pairs, "no learner needs anything"
    for learner, backbone, why in pairs[:3]:
        test = opened("train", **{"spec-learner": learner, "spec-backbone": backbone})
        assert why in unescape(words(test)) and "Start" not in labels(test)


@pytest.mark.parametrize("name", ["../../etc/x", "a b", ".hidden"])
def test_a_run_name_is_no_path(name, tmp_path, only_these_runs) -> None:
    only_these_runs(tmp_path)
    test = opened("train")
    test.text_input(key="run-name").set_value(name).run()
    assert "Run name" in words(test) and "Start" not in labels(test)


def test_a_dead_run_says_what_happened_and_offers_to_go_on(tmp_path, only_these_runs) -> None:
    path = write_synthetic_run(tmp_path / "dead", finished=False)
    status = json.loads(unsealed((path / "status.json").read_text()))
    (path / "status.json").write_text(json.dumps(status | {"pid": 2**22 + 1}))
    only_these_runs(tmp_path)
    test = opened("train")
    assert "interrupted, 4 of 5 tasks on disk" in words(test)
    test.button(key="resume-dead").click().run()
    assert "Stopped" not in words(test)
    assert [(one.name, one.resume) for one in queue.waiting(tmp_path)] == [("dead", True)] or "outside" in words(test)


def test_a_running_run_shows_how_far_it_is_and_how_to_stop_it(tmp_path, only_these_runs) -> None:
    write_synthetic_run(tmp_path / "live", finished=False)  # written by this process, which is alive
    only_these_runs(tmp_path)
    test = opened("train")
    assert {"Pause", "Cancel"} <= set(labels(test))
    assert "Tasks on disk" in words(test) and "Accuracy by task" in words(test)
    assert len(test.get("plotly_chart")) == 3  # loss, accuracy, collapse
    test.button(key="train-turn").click().run()
    assert (tmp_path / "live" / "control" / "pause").exists()


def test_names_from_files_are_text_and_never_markup(tmp_path, only_these_runs) -> None:
    evil = "<img src=x onerror=alert(1)>"
    path = write_synthetic_run(tmp_path / evil, finished=False)
    info = unsealed((path / "run.json").read_text())
    (path / "run.json").write_text(re.sub(r'"(red|blue|gold|green|black) ', r'"<script>alert(1)</script>\1 ', info))
    status = json.loads(unsealed((path / "status.json").read_text()))
    (path / "status.json").write_text(json.dumps(status | {"pid": 2**22 + 1, "state": "failed", "error": evil}))
    queue._refuse(tmp_path, evil, evil)
    only_these_runs(tmp_path)
    for page in PAGES:
        test = opened(page)
        assert not test.exception
        markup = [element.proto.body for element in test.get("html")]
        headings = [element.value for element in (*test.title, *test.header, *test.subheader, *test.markdown)]
        for text in markup + headings:
            assert not re.search(r"(?<!\\)<(script|img src=x)", text)


def test_the_report_opens_without_a_network_and_escapes_names(tmp_path, only_these_runs) -> None:
    path = write_synthetic_run(tmp_path / "first")
    info = unsealed((path / "run.json").read_text())
    (path / "run.json").write_text(re.sub(r'"(red|blue|gold|green|black) ', r'"<script>alert(1)</script>\1 ', info))
    from app.shell.store import Entry, Opened
    from app.views.report import paper

    page = paper.report(Opened(Entry("first", path, "run"), Run(path)))
    assert isinstance(page, bytes)
    text = page.decode()
    assert "<script>alert(1)</script>" not in text
    assert not re.search(r'<(script|link|img)[^>]+(src|href)="(https?:)?//', text)
    assert (
        text.count("<figure ") >= 20
    )  # every figure that the run supports, each with its sentence as alternative text


def test_the_form_and_the_other_pages_load_no_torch(folders, known, tmp_path) -> None:
    """In a process of its own, because this one may have loaded anything before."""
    (tmp_path / "known.json").write_text(json.dumps(known))
    code = f"""
import json, os, sys
os.environ["CILLAB_RUNS"] = {str(folders["noise"])!r}
os.environ["CILLAB_DATA"] = {str(tmp_path)!r}
from app.views.train import catalogue
catalogue.catalogue = lambda: json.load(open({str(tmp_path / "known.json")!r}))
from streamlit.testing.v1 import AppTest
test = AppTest.from_file({str(ROOT / "app" / "main.py")!r}, default_timeout=60)
for page, part in (("train", ""), ("bring_your_own", "data"), ("bring_your_own", "run"), ("report", "")):
    test.query_params["own"] = part or "images"
    assert not test.switch_page(f"views/{{page}}/{{page}}.py").run().exception
    assert "torch" not in sys.modules, page
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_broken_library_is_a_sentence_and_no_traceback(monkeypatch, folders, only_these_runs) -> None:
    only_these_runs(folders["empty"])
    monkeypatch.setattr(module, "catalogue", lambda: "It ended without a word.")
    test = opened("train")
    assert not test.exception and "The library cannot be asked" in words(test)


@pytest.mark.parametrize(
    ("schema", "kind", "empty"),
    [
        ({"enum": ["a", "b"], "type": "string"}, "choice", False),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "integer", True),
        ({"type": "number"}, "number", False),
        ({"type": "array", "items": {"type": "integer"}}, "json", False),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, "json", False),
    ],
)
def test_a_schema_becomes_a_control(schema, kind, empty) -> None:
    assert (fields.kind_of(schema)[0], fields.kind_of(schema)[2]) == (kind, empty)


def test_one_differs_from_true_but_not_from_one_point_zero() -> None:
    assert fields.differs(1, True) and not fields.differs(1, 1.0) and not fields.differs(False, False)


def test_a_tail_reads_on_and_starts_again_after_a_rewind(tmp_path) -> None:
    path = tmp_path / "metrics.jsonl"
    row = '{"step": "t00", "name": "train/loss", "value": %s, "task": 0}\n'
    path.write_text(row % 1.5 + '{"step": "t00", "name": "accuracy/seen", "value": 1}\n' + row[:20])
    tail = curves.Tail(path)
    assert tail.read() == [(0, 1.5)]
    path.write_text(row % 1.5 + '{"step": "t00", "name": "accuracy/seen", "value": 1}\n' + row % '"inf"')
    assert tail.read() == [(0, 1.5), (0, float("inf"))]
    path.write_text(row % 0.5)
    assert tail.read() == [(0, 0.5)]
    assert len(curves.thinned(100_000)) == curves.MOST and curves.thinned(3).tolist() == [0, 1, 2]
