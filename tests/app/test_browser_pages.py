"""Every page in a real browser, behind a path prefix: it opens without a complaint, and nothing on it jumps."""

from collections.abc import Iterator

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install 'cillab[browser]'")

from tests.app.conftest import ROOT, make
from tests.app.serving import CHROMIUM, MISSING, serve
from tests.app.test_browser import _WAIT_MS, browser, page, ready  # noqa: F401 (fixtures)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason=MISSING),
]
PAGES = sorted(one.name for one in (ROOT / "app" / "views").iterdir() if (one / f"{one.name}.py").is_file())
SHIFT = 0.1  # "good" of the Web Vitals


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[str]:
    """A server as it stands behind a proxy that gives it one path of a host."""
    data = tmp_path_factory.mktemp("data")
    runs = make("noise", tmp_path_factory.mktemp("runs"))
    prefix = {"STREAMLIT_SERVER_BASE_URL_PATH": "lab/cil"}
    with serve({"CILLAB_RUNS": str(runs), "CILLAB_DATA": str(data), **prefix}) as url:
        yield url


_OVER = (
    """() => [document.documentElement, document.querySelector('.stMain')].map(n => n.scrollWidth - n.clientWidth)"""
)


_CELLS = """() => Math.min(50, ...[...document.querySelectorAll('.ci-strip figure, .ci-strip .void, .ci-margins > div')]
  .map(n => n.getBoundingClientRect().width))"""


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_below_a_prefix_does_not_jump_and_fits_every_width(page, address, name) -> None:  # noqa: F811
    page.set_viewport_size({"width": 1440, "height": 900})
    page.add_init_script(path=ROOT / "tests" / "app" / "shift.js")
    ready(page, f"{address}/{'' if name == 'start' else name}?run=first")
    page.wait_for_selector("[data-test-script-state=notRunning]", timeout=_WAIT_MS)
    page.wait_for_timeout(1500)
    assert not page.locator("[data-testid=stException]").count()
    jumps = page.evaluate("shifts.filter((one) => one.value > 0.005)")
    assert page.evaluate("layoutShift()") < SHIFT, jumps
    for width, height in ((1920, 1080), (1000, 900), (390, 844)):
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_timeout(1200)
        assert max(page.evaluate(_OVER)) <= 0, width
    assert page.evaluate(_CELLS) >= 50  # of less, words stand letter below letter


def test_a_page_opens_at_its_top_with_the_chosen_image_in_sight(page, address) -> None:  # noqa: F811
    page.set_viewport_size({"width": 1440, "height": 500})
    for name in ("grad_cam", "explore"):
        ready(page, f"{address}/{name}?run=demo-ncptm&step=9")
        page.wait_for_selector("[data-test-script-state=notRunning]", timeout=_WAIT_MS)
        assert page.evaluate("document.querySelector('.stMain').scrollTop") == 0
    ready(page, f"{address}/grad_cam?run=demo-ncptm&step=9")
    page.locator(".gallery button").last.dispatch_event("click")
    page.wait_for_timeout(800)
    page.reload()
    page.wait_for_selector(".gallery [aria-pressed=true]", timeout=_WAIT_MS)
    page.wait_for_timeout(800)
    assert page.evaluate("document.querySelector('.stMain').scrollTop") == 0
    last, box = (page.locator(where).bounding_box() for where in (".gallery [aria-pressed=true]", ".gallery"))
    assert last["y"] + last["height"] <= box["y"] + box["height"]


_COLUMNS = """() => Math.max(...[...document.querySelectorAll('.js-plotly-plot')].map(plot =>
  new Set([...plot.querySelectorAll('.nsewdrag')].map(n => Math.round(n.getBoundingClientRect().x / 20))).size))"""


def test_panels_stand_below_each_other_where_the_window_is_narrow(page, address) -> None:  # noqa: F811
    page.set_viewport_size({"width": 390, "height": 844})
    ready(page, f"{address}/collapse?run=first")
    page.locator(".js-plotly-plot .nsewdrag").nth(3).wait_for(timeout=_WAIT_MS)
    page.wait_for_function(f"() => ({_COLUMNS})() === 1", timeout=_WAIT_MS)
    page.set_viewport_size({"width": 1440, "height": 900})
    page.wait_for_function(f"() => ({_COLUMNS})() === 2", timeout=_WAIT_MS)


@pytest.mark.parametrize("path", ["grad_cam?run=first", "explore?run=first"])
def test_nothing_jumps_on_a_phone_where_pictures_come_late(page, address, path) -> None:  # noqa: F811
    page.set_viewport_size({"width": 390, "height": 844})
    page.add_init_script(path=ROOT / "tests" / "app" / "shift.js")
    ready(page, f"{address}/{path}")
    page.locator(".gallery button").first.wait_for(timeout=_WAIT_MS)
    page.wait_for_timeout(2500)
    assert page.evaluate("layoutShift()") < SHIFT, page.evaluate("shifts.filter((one) => one.value > 0.005)")


def test_ways_lead_on_and_back_below_a_prefix(page, address) -> None:  # noqa: F811
    ready(page, address)
    page.get_by_role("button", name="Step through it").click()
    page.wait_for_url("**/lab/cil/step_through?*", timeout=_WAIT_MS)
    page.wait_for_selector(".player[data-step]", timeout=_WAIT_MS)
    page.go_back()
    page.get_by_role("button", name="Step through it").wait_for(timeout=_WAIT_MS)
    ready(page, f"{address}/glossary?run=first")
    page.locator(".ci-lexicon summary").first.click()
    page.locator(".ci-lexicon details[open] nav a").first.click()
    page.wait_for_url(lambda url: "/lab/cil/" in url and "glossary" not in url, timeout=_WAIT_MS)
    page.wait_for_selector("h1", timeout=_WAIT_MS)


def test_the_card_of_a_point_is_not_cut_at_the_edge_of_a_narrow_window(page, address) -> None:  # noqa: F811
    page.set_viewport_size({"width": 390, "height": 900})
    ready(page, f"{address}/drift?run=first")
    page.locator(".js-plotly-plot .nsewdrag").nth(1).wait_for(timeout=_WAIT_MS)
    plot = page.locator(".js-plotly-plot .nsewdrag").nth(1)  # a matrix: every place of it is a cell with a card
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    seen = 0
    for across in (0.02, 0.25, 0.5, 0.75, 0.98):
        for down in (0.3, 0.5, 0.7):
            page.mouse.move(box["x"] + across * box["width"], box["y"] + down * box["height"])
            page.wait_for_timeout(150)
            for card in page.locator(".hoverlayer g.hovertext").all():
                place = card.bounding_box()
                assert place["x"] >= 0 and place["x"] + place["width"] <= 390
                seen += 1
    assert seen


_HIGHEST = """() => new Promise((done) => {
  let most = 0, stale = 0;
  const look = setInterval(() => {
    stale += document.querySelectorAll('[data-stale=true] .modebar-group').length;
    for (const bar of document.querySelectorAll('.modebar-group'))
      most = Math.max(most, +getComputedStyle(bar).opacity);
  }, 40);
  setTimeout(() => { clearInterval(look); done([most, stale]); }, 4000);
})"""


def test_a_page_that_polls_keeps_the_tools_of_its_charts_hidden(page, tmp_path) -> None:  # noqa: F811
    """What must not dim while it is asked for was shown in full, and so were the tools of charts: a grey bar."""
    with serve({"CILLAB_RUNS": str(make("live", tmp_path))}) as url:
        ready(page, f"{url}/train")
        page.wait_for_selector(".modebar-group", state="attached", timeout=_WAIT_MS)
        page.mouse.move(2, 2)
        page.wait_for_timeout(1500)
        most, stale = page.evaluate(_HIGHEST)
        assert most == 0
        assert stale  # it did poll
        page.goto("about:blank")  # before the server goes


# What stands between the first time that Plotly has drawn a chart and the second, when it has Streamlit's copy.
_REDRAWN = """
window.redrawn = [];
Object.defineProperty(HTMLElement.prototype, 'emit', {configurable: true, set(emit) {
  const chart = this;
  let drawn = 0, added = 0;
  new MutationObserver((seen) => { for (const one of seen) added += one.addedNodes.length; })
    .observe(chart, {childList: true, subtree: true});
  Object.defineProperty(chart, 'emit', {configurable: true, writable: true, value(name, ...more) {
    if (name === 'plotly_react') queueMicrotask(() => { if (++drawn === 2) window.redrawn.push(added); added = 0; });
    return emit.call(chart, name, ...more);
  }});
}});
"""


def test_a_chart_is_drawn_once(page, address) -> None:  # noqa: F811
    page.add_init_script(_REDRAWN)
    ready(page, f"{address}/drift?run=first&drift=Drift+of+means")
    page.wait_for_function("window.redrawn.length >= 2", timeout=_WAIT_MS)
    assert not any(page.evaluate("window.redrawn"))  # 80 and 176 elements where all is drawn anew
