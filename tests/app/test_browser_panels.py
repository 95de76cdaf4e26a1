"""Panels of the cockpit in a real browser: heads that can be read, what can be taken along, and runs at the edges."""

import csv
import io
import json
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install 'cillab[browser]'")

from cillab.runs import Run
from tests.app.serving import CHROMIUM, MISSING, serve
from tests.app.test_browser import _WAIT_MS, browser, page, ready  # noqa: F401 (fixtures)
from tests.runs.synthetic import write_synthetic_run

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason=MISSING)]
_LONG = "a very long name of a class " * 7  # 196 characters
_NAME = "long" * 49


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    write_synthetic_run(folder / "first", noise=True, cams=True)
    write_synthetic_run(folder / "pair", tasks=1, classes_per_task=2, noise=False)
    write_synthetic_run(folder / "three", tasks=3, noise=False, cams=True)
    long = write_synthetic_run(folder / _NAME, noise=False, cams=True)
    record = json.loads((long / "run.json").read_text())
    record.pop("crc32", None)
    record["class_names"] = {str(c): f"={_LONG}{c}" for task in record["tasks"] for c in task}
    (long / "run.json").write_text(json.dumps(record))
    return folder


@pytest.fixture(scope="module")
def address(runs) -> Iterator[str]:
    with serve({"CILLAB_RUNS": str(runs)}) as url:
        yield url


_OVER = """() => [document.documentElement, document.querySelector('.stMain')]
  .map(n => n.scrollWidth - n.clientWidth)"""


def cockpit(page, url: str) -> None:  # noqa: F811
    ready(page, url)
    page.wait_for_selector(".player[data-step]", timeout=_WAIT_MS)
    page.wait_for_timeout(600)


_CUT = """() => {
  const root = [...document.querySelectorAll('*')].map(n => n.shadowRoot).find(r => r?.querySelector('.cockpit'));
  return [...root.querySelectorAll('.panel:not(.panel-cams) output, .facts td, .label b')]
    .filter(n => n.scrollWidth > n.clientWidth + 1).map(n => n.textContent);
}"""


@pytest.mark.parametrize("query", ["run=demo-min", "run=demo-ncptm&versus=demo-finetune"])
@pytest.mark.parametrize("keys", ["", "f"])
def test_no_number_is_cut_at_any_width(page, address, query, keys) -> None:  # noqa: F811
    page.set_viewport_size({"width": 1440, "height": 900})
    cockpit(page, f"{address}/step_through?{query}&step=8")
    for key in keys:
        page.keyboard.press(key)
    for width, height in ((1920, 1080), (1440, 900), (1000, 900), (390, 844)):
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_timeout(500)
        assert page.evaluate(_CUT) == [], width
        if keys and width > 1000:  # a lecture does not scroll
            assert page.locator(".stMain").evaluate("n => n.scrollHeight - n.clientHeight") <= 0, width


# Heads of panels whose name is cut or stands on a second line.
_HEADS = """() => {
  const root = [...document.querySelectorAll('*')].map(n => n.shadowRoot).find(r => r?.querySelector('.cockpit'));
  return [...root.querySelectorAll('.panel .caption b')]
    .filter(n => n.scrollWidth > n.clientWidth + 1 || n.parentElement.clientHeight > 26).map(n => n.textContent);
}"""


@pytest.mark.parametrize("run", ["demo-ncptm", "demo-dmc-ot", "demo-slca"])  # `gaussian: mean against mean before`
def test_the_names_of_panels_stand_whole_on_one_line_at_every_width(page, address, run) -> None:  # noqa: F811
    page.set_viewport_size({"width": 1440, "height": 900})
    cockpit(page, f"{address}/step_through?run={run}&step=8")
    for width, height in ((1920, 1080), (1440, 900), (1000, 900), (390, 844)):
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_timeout(500)
        assert page.evaluate(_HEADS) == [], width
    said = page.locator(".panel .face").evaluate_all("nodes => nodes.map(n => n.getAttribute('aria-label'))")
    assert len(said) == 9
    assert all(one and ": " in one for one in said)


# What the panels leave free of the place that they share, as a fraction, without the gaps between them.
_FREE = """() => {
  const root = [...document.querySelectorAll('*')].map(n => n.shadowRoot).find(r => r?.querySelector('.cockpit'));
  const box = root.querySelector('.panels').getBoundingClientRect(), gap = 6;
  const area = ({width, height}) => (width + gap) * (height + gap);
  const panels = [...root.querySelectorAll('.panel:not([hidden])')].map(n => n.getBoundingClientRect());
  return 1 - panels.reduce((sum, one) => sum + area(one), 0) / area(box);
}"""


@pytest.mark.parametrize("run", ["demo-min", "demo-finetune", "first", "three", "pair"])
def test_panels_fill_their_place_whatever_a_run_lacks(page, address, run) -> None:  # noqa: F811
    page.set_viewport_size({"width": 1440, "height": 900})
    cockpit(page, f"{address}/step_through?run={run}")
    assert abs(page.evaluate(_FREE)) < 0.01


def test_nothing_lies_over_the_numbers_of_a_panel(page, address) -> None:  # noqa: F811
    page.set_viewport_size({"width": 1440, "height": 900})
    cockpit(page, f"{address}/step_through?run=demo-min&step=6")
    button, canvas = (page.locator(f".panel-own {what}").bounding_box() for what in (".more", "canvas"))
    value = page.locator(".panel-own output").bounding_box()
    assert button["y"] + button["height"] <= canvas["y"] + 1
    assert value["x"] + value["width"] <= button["x"]


# How often each canvas was wiped, which is where every drawing begins. Panels by name, the map as "map".
_WIPES = """() => {
  const wipe = CanvasRenderingContext2D.prototype.clearRect;
  window.wiped = {};
  CanvasRenderingContext2D.prototype.clearRect = function (...box) {
    const here = this.canvas.closest("[data-panel], .pane"), name = here?.dataset.panel ?? (here ? "map" : "other");
    const sizes = [this.canvas.width, this.canvas.height];
    const whole = sizes.every((size, at) => box[2 + at] * devicePixelRatio >= size - 1);
    if (whole) window.wiped[name] = (window.wiped[name] ?? 0) + 1;
    return wipe.apply(this, box);
  };
}"""


def wiped(page, act) -> dict[str, int]:  # noqa: F811
    page.evaluate("() => { window.wiped = {}; }")
    act()
    page.wait_for_timeout(1500)
    return page.evaluate("window.wiped")


def test_a_panel_is_drawn_when_what_it_shows_has_changed(page, address) -> None:  # noqa: F811
    cockpit(page, f"{address}/step_through?run=first&step=1")
    canvas = page.locator(".pane canvas")
    canvas.focus()
    page.mouse.move(2, 2)
    page.wait_for_timeout(2500)  # until pictures are there and the server is silent
    page.evaluate(_WIPES)
    step = wiped(page, lambda: page.keyboard.press("ArrowRight"))
    assert step["map"] > 2, step  # it glides
    for name in ("angles", "matrix", "own", "cams"):  # once; again if the words below take another line: sizes change
        assert 1 <= step.get(name, 0) <= 2, step
    assert step["nc1"] > 2 and step["drift"] > 2  # their cursor glides too
    view = wiped(page, lambda: page.keyboard.press("+"))
    assert set(view) <= {"map", "other"} and view["map"] >= 1, view
    box = canvas.bounding_box()

    def point() -> None:
        for share in np.linspace(0.2, 0.8, 30):
            page.mouse.move(box["x"] + share * box["width"], box["y"] + share * box["height"])

    over = wiped(page, point)
    assert set(over) <= {"map", "other", "cams"} and over["cams"] >= 1, over  # maps are of the image at the pointer


def test_the_timeline_keeps_its_width_while_it_plays(page, address) -> None:  # noqa: F811
    cockpit(page, f"{address}/step_through?run=demo-min&step=0")
    page.get_by_role("button", name="Play (space)").click()
    wide = set()
    for _ in range(25):
        wide.add(page.locator(".timeline").bounding_box()["width"])
        page.wait_for_timeout(120)
    assert len(wide) == 1, wide


def taken(page, button) -> bytes:  # noqa: F811
    """What a button of ours hands to the browser to keep."""
    with page.expect_download(timeout=_WAIT_MS) as waiting:
        button.click()
    return waiting.value.path().read_bytes()


def table(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode())))


def test_panels_and_map_are_taken_along_as_numbers_and_as_pictures(page, address, runs) -> None:  # noqa: F811
    run = Run(runs / "first")
    page.set_viewport_size({"width": 1440, "height": 900})
    cockpit(page, f"{address}/step_through?run=first&step=2")
    for name in ("nc1", "angles", "drift", "matrix", "own", "cams"):
        page.locator(f"[data-panel={name}] .face").click()
        page.wait_for_selector(f"[data-grown={name}]", timeout=_WAIT_MS)
        panel = page.locator(f"[data-panel={name}]")
        assert taken(page, panel.locator("[data-take=png]")).startswith(b"\x89PNG")
        rows = table(taken(page, panel.locator("[data-take=csv]")))
        assert rows and {row["run"] for row in rows} == {"min · first"}
        page.keyboard.press("Escape")
        values = [float(row["value"]) for row in rows]
        if name == "nc1":
            mine = [float(row["value"]) for row in rows if row["series"].endswith("train")]
            np.testing.assert_allclose(mine, run.metrics().over("nc/train/nc1", run.steps), rtol=1e-6)
        elif name == "matrix":
            wanted = run.accuracy_matrix()
            np.testing.assert_allclose(values, wanted[np.isfinite(wanted)], rtol=1e-6)
        elif name == "own":
            quantity = f"internals/{rows[0]['series'].replace(': ', '/')}"
            wanted = np.concatenate([np.ravel(run.snapshot(s)[quantity]) for s in run.steps])
            np.testing.assert_allclose(values, wanted, rtol=1e-6)
    page.locator("[data-menu]").click()
    points = table(taken(page, page.locator(".menu [data-take=csv]")))
    assert [row["image"] for row in points] == [str(one) for one in run.probe.ids]
    assert [row["class"] for row in points] == [run.info.name_of(int(c)) for c in run.probe.labels]
    assert taken(page, page.locator(".menu [data-take=png]")).startswith(b"\x89PNG")


def test_a_table_holds_no_formula(page, address) -> None:  # noqa: F811
    page.set_viewport_size({"width": 1440, "height": 900})
    cockpit(page, f"{address}/step_through?run={_NAME}")
    page.locator("[data-menu]").click()
    rows = table(taken(page, page.locator(".menu [data-take=csv]")))
    assert all(row["class"].startswith("'=") for row in rows)


def test_what_a_quantity_is_stands_behind_the_head_of_its_panel(page, address) -> None:  # noqa: F811
    cockpit(page, f"{address}/step_through?run=first")
    said = page.locator("[data-panel=nc1] .face").get_attribute("title")
    assert "tr(Sigma_W Sigma_B^+)" in said and "Lower is better." in said


def test_two_classes_have_a_map(page, address) -> None:  # noqa: F811
    cockpit(page, f"{address}/step_through?run=pair")
    assert not page.get_by_text("do not share one plane").count()


def test_the_strip_of_three_tasks_has_small_tiles(page, address) -> None:  # noqa: F811
    page.set_viewport_size({"width": 1440, "height": 900})
    ready(page, f"{address}/grad_cam?run=three")
    tile = page.locator(".ci-strip img, .ci-strip .void").first
    tile.wait_for(timeout=_WAIT_MS)
    assert tile.bounding_box()["width"] <= 145


@pytest.mark.parametrize("path", ["", "step_through", "explore", "grad_cam", "collapse", "drift", "compare", "report"])
def test_names_of_200_characters_push_nothing_aside(page, address, path) -> None:  # noqa: F811
    ready(page, f"{address}/{path}{f'?run={_NAME}' if path else ''}")
    for width in (1000, 390):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(1500)
        assert max(page.evaluate(_OVER)) <= 0, width
