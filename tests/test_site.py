"""The site without a server: pages that hold all they need, whatever a run's names are."""

import re

import pytest

from cillab.core.errors import InvalidRequestError
from cillab.report import _text
from cillab.site import write_site
from tests.app.serving import CHROMIUM, chromium
from tests.runs.synthetic import write_synthetic_run


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    home = tmp_path_factory.mktemp("runs")
    write_synthetic_run(home / "first", tasks=3, cams=True)
    write_synthetic_run(home / "second", tasks=3, noise=False)
    (home / "broken").mkdir()
    (home / "broken" / "run.json").write_text("{")
    return write_site([home], home / "out").parent


def test_every_run_has_its_pages_and_the_first_page_leads_to_them(pages) -> None:
    text = (pages / "index.html").read_text()
    for link in re.findall(r"href='([^']+)'", text):
        assert (pages / link).is_file(), link
    assert {"first.html", "first-report.html", "second.html"} <= {path.name for path in pages.glob("*.html")}
    assert "broken" in text


def test_runs_of_a_sweep_have_their_rows_in_the_names_of_their_pages(tmp_path) -> None:
    runs = [tmp_path / "runs" / row / f"seed={seed}" for row in ("lda", "acil") for seed in (1, 2)]
    for run in runs:
        write_synthetic_run(run, tasks=2)
    out = write_site([tmp_path / "runs", runs[0]], tmp_path / "out").parent
    pages = {f"{row}-seed-{seed}{end}.html" for row in ("lda", "acil") for seed in (1, 2) for end in ("", "-report")}
    assert {page.name for page in out.glob("*.html")} == {"index.html", *pages}
    assert sorted(pages) == sorted(re.findall(r"href='([^']+)'", (out / "index.html").read_text()))  # each once
    assert "href='lda-seed-1-report.html'" in (out / "lda-seed-1.html").read_text()


def test_two_runs_with_one_address_are_refused(tmp_path) -> None:
    for name in ("a b", "a-b"):
        write_synthetic_run(tmp_path / "runs" / name, tasks=2)
    with pytest.raises(InvalidRequestError, match=r"one page, .*a-b\.html"):
        write_site([tmp_path / "runs"], tmp_path / "out")
    assert not (tmp_path / "out" / "index.html").exists()


def test_nothing_is_loaded_from_elsewhere(pages) -> None:
    for path in pages.glob("*.html"):
        if not path.name.endswith("-report.html"):  # the report has its own test
            assert not re.search(r"(src|href)=[\"']?(https?:)?//", path.read_text()), path.name


def test_names_cannot_end_the_script(tmp_path) -> None:
    import json

    path = write_synthetic_run(tmp_path / "evil", tasks=2)
    record = json.loads((path / "run.json").read_text())
    record.pop("crc32", None)
    record["class_names"] = {str(c): "</script><img src=x onerror=alert(1)>" for task in record["tasks"] for c in task}
    (path / "run.json").write_text(json.dumps(record))
    text = (write_site([path], tmp_path / "out").parent / "evil.html").read_text()
    assert "<img src=x" not in text


def test_a_folder_without_runs_is_refused_in_a_line(tmp_path) -> None:
    with pytest.raises(InvalidRequestError, match="No run with a finished task"):
        write_site([tmp_path], tmp_path / "out")


def test_the_course_is_a_part_of_the_site(tmp_path) -> None:
    run, course = write_synthetic_run(tmp_path / "one", tasks=2), tmp_path / "gallery"
    with pytest.raises(InvalidRequestError, match="make gallery"):
        write_site([run], tmp_path / "out", course)
    course.mkdir()
    (course / "index.html").write_text("<h1>The course</h1>")
    text = write_site([run], tmp_path / "out", course).read_text()
    assert "href='course/index.html'" in text
    assert (tmp_path / "out" / "course" / "index.html").is_file()


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_cockpit_plays_from_disk(pages) -> None:
    pytest.importorskip("playwright.sync_api")
    with chromium() as browser:
        page = browser.new_context(viewport={"width": 1440, "height": 900}, offline=True).new_page()
        complaints = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto((pages / "first.html").as_uri())
        page.wait_for_selector(".cockpit[data-step='2']")
        page.keyboard.press("Home")
        page.wait_for_selector(".cockpit[data-step='0']")
        assert page.locator("[data-panel]").count() == 9
        assert page.evaluate("() => document.documentElement.scrollHeight - innerHeight") <= 0
        assert not complaints


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_every_page_fits_a_phone(pages) -> None:
    """A figure wider than the window is moved inside its own frame; a window of 390 px is one of 390 px (viewport)."""
    pytest.importorskip("playwright.sync_api")
    with chromium() as browser:
        phone = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
        page = browser.new_context(**phone, offline=True).new_page()
        for path in sorted(pages.glob("*.html")):
            page.goto(path.as_uri())
            page.wait_for_timeout(700)
            assert page.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [390, 390], path.name


def test_settings_of_a_report_are_words() -> None:
    fit = {"epochs": 3, "milestones": [], "clip": None, "cosine": True}
    assert _text({"noise_dim": 44, "fit": fit}) == "noise dim 44, fit (epochs 3, cosine yes)"
    assert (_text(False), _text([1, 2]), _text("pilot")) == ("no", "1, 2", "pilot")
