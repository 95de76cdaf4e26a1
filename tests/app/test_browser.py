"""Flows in a real browser: the player plays, the link restores the step, nothing scrolls sideways or complains."""

import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cillab.player import source
from tests.app.conftest import ROOT, make
from tests.app.serving import CHROMIUM, MISSING, chromium, serve

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install 'cillab[browser]'"
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason=MISSING),
]
_WAIT_MS = 60_000


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[str]:
    """A server of its own on a free port, over one synthetic run."""
    with serve({"CILLAB_RUNS": str(make("noise", tmp_path_factory.mktemp("runs")))}) as url:
        yield url


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


# On a deep link such as /drift, Streamlit's own client cannot know whether /drift is a page or the base path of the
# server. It asks for the two below under the longer path first, takes a 404 for "a page", and asks again at the root.
_ASKED_TWICE = re.compile(r"^http://localhost:\d+/[\w/]+/_stcore/(health|host-config)$")


def _counts(said) -> bool:
    """Is this line of the console an error of ours?"""
    asked_twice = "404" in said.text and _ASKED_TWICE.match(said.location.get("url", ""))
    return said.type == "error" and not asked_twice


@pytest.fixture
def page(browser) -> Iterator:
    """A page whose console must stay free of errors."""
    context = browser.new_context(viewport={"width": 1000, "height": 900})
    opened, complaints = context.new_page(), []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda said: complaints.append(f"{said.text} {said.location}") if _counts(said) else None)
    yield opened
    context.close()
    assert not complaints


def ready(page, url: str) -> None:
    page.goto(url, timeout=_WAIT_MS)
    page.wait_for_selector("h1", timeout=_WAIT_MS)


def test_start_leads_to_the_player(page, address) -> None:
    ready(page, address)
    page.get_by_role("button", name="Step through it").click()
    page.wait_for_selector(".player[data-step='0']", timeout=_WAIT_MS)
    page.wait_for_url("**run=*", timeout=_WAIT_MS)


def test_playing_is_silent_and_pausing_tells_the_page(page, address) -> None:
    sent = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda frame: sent.append(frame)))  # noqa: PLW0108 (playwright refuses builtins)
    ready(page, f"{address}/step_through?run=first&step=0")
    page.wait_for_selector(".player[data-step='0']", timeout=_WAIT_MS)
    page.wait_for_timeout(2000)
    before = len(sent)
    page.get_by_role("button", name="Play (space)").click()
    page.wait_for_selector(".player[data-step='2']", timeout=_WAIT_MS)
    assert len(sent) == before
    page.get_by_role("button", name="Pause (space)").click()
    page.wait_for_url("**step=2*", timeout=_WAIT_MS)
    assert page.locator(".label b").inner_text() == "Task 3 of 5"


def test_a_deep_link_restores_the_step_and_keys_move_it(page, address) -> None:
    ready(page, f"{address}/step_through?run=first&step=3")
    player = page.locator(".player")
    player.wait_for(timeout=_WAIT_MS)
    assert player.get_attribute("data-step") == "3"
    page.locator(".pane canvas").focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector(".player[data-step='2']", timeout=_WAIT_MS)
    page.keyboard.press("Home")
    page.wait_for_selector(".player[data-step='0']", timeout=_WAIT_MS)
    page.keyboard.press("4")  # the fourth task
    page.wait_for_selector(".player[data-step='3']", timeout=_WAIT_MS)


def test_choosing_an_image_moves_the_maps(page, address) -> None:
    ready(page, f"{address}/grad_cam?run=first")
    picture = page.locator(".gallery button").nth(5)
    picture.wait_for(timeout=_WAIT_MS)
    picture.click()
    page.wait_for_url("**point=*", timeout=_WAIT_MS)
    page.locator(".ci-strip img").nth(5).wait_for(timeout=_WAIT_MS)


@pytest.mark.parametrize("path", ["grad_cam", "explore"])
def test_the_atlas_of_a_run_is_sent_once(page, address, path) -> None:
    """Its base64 text has a piece of 200 letters in the middle that stands in no other message."""
    got: list[bytes] = []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: got.append(frame)))  # noqa: PLW0108
    ready(page, f"{address}/{path}?run=first")
    picture = page.locator(".gallery button").nth(5)
    picture.wait_for(timeout=_WAIT_MS)
    page.wait_for_timeout(2000)
    whole = b"".join(frame if isinstance(frame, bytes) else frame.encode() for frame in got)
    letters = re.search(rb"data:image/(?:webp|png);base64,([A-Za-z0-9+/]+)", whole)
    assert letters is not None
    piece = letters[1][len(letters[1]) // 2 :][:200]
    assert whole.count(piece) == 1
    got.clear()
    picture.click()
    page.wait_for_url("**point=*", timeout=_WAIT_MS)
    page.wait_for_timeout(1500)
    page.keyboard.press("ArrowRight")
    after = b"".join(frame if isinstance(frame, bytes) else frame.encode() for frame in got)
    assert after and piece not in after
    shown = "n => getComputedStyle(n.firstChild).backgroundImage"
    assert picture.evaluate(shown).startswith('url("blob:')


@pytest.mark.parametrize(
    "path",
    ["?tour=1", "collapse?run=first&collapse=Angles", "drift?run=first&drift=Who+is+taken+for+whom"],
)  # fmt: skip
def test_no_part_of_a_page_scrolls_sideways_at_1000_pixels_and_at_390(page, address, path) -> None:
    ready(page, f"{address}/{path}")
    for width in (1000, 390):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(1500)
        wide = page.evaluate(
            "() => [document.documentElement, document.querySelector('.stMain')]"
            ".map(n => n.scrollWidth - n.clientWidth)"
        )
        assert max(wide) <= 0, width


def test_a_figure_is_saved_as_numbers_and_as_picture(page, address) -> None:
    ready(page, f"{address}/collapse?run=first")
    page.locator(".js-plotly-plot").first.wait_for(timeout=_WAIT_MS)
    page.wait_for_timeout(1000)
    for label, start in (("CSV: the numbers", b"trace,panel,x,y,z"), ("PNG", b"\x89PNG"), ("SVG", b"<svg")):
        button = page.get_by_role("button", name=label, exact=True)
        if not button.is_visible():  # the menu closes when a picture is taken
            page.get_by_role("button", name="Export").first.click()
        with page.expect_download(timeout=_WAIT_MS) as caught:
            button.click()
        assert Path(caught.value.path()).read_bytes().startswith(start), label
        page.wait_for_timeout(500)


def test_the_tour_is_walked_with_the_keyboard(page, address) -> None:
    ready(page, f"{address}/?tour=1")
    page.get_by_text("1 of 11.").wait_for(timeout=_WAIT_MS)
    page.get_by_role("button", name="Next").wait_for(timeout=_WAIT_MS)  # its keys come with it
    page.keyboard.press("Alt+ArrowRight")
    page.wait_for_url(lambda url: "/step_through" in url and "tour=2" in url, timeout=_WAIT_MS)
    page.get_by_text("2 of 11.").wait_for(timeout=_WAIT_MS)
    page.keyboard.press("Escape")
    page.wait_for_function("() => !location.search.includes('tour')", timeout=_WAIT_MS)


def test_a_choice_sends_its_part_of_the_page_and_not_the_page(page, address) -> None:
    """The line under the heading stands outside of what a choice or a knob changes."""
    got: list[bytes] = []

    def sent(words: bytes) -> bool:
        return any(words in (frame if isinstance(frame, bytes) else frame.encode()) for frame in got)

    page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: got.append(frame)))  # noqa: PLW0108
    ready(page, f"{address}/grad_cam?run=first")
    page.locator(".gallery button").nth(5).wait_for(timeout=_WAIT_MS)
    page.wait_for_timeout(2000)
    assert sent(b"Which parts of an image speak")
    got.clear()
    page.locator(".gallery button").nth(5).click()
    page.wait_for_url("**point=*", timeout=_WAIT_MS)
    page.wait_for_timeout(1500)
    assert got and not sent(b"Which parts of an image speak")
    ready(page, f"{address}/toy_collapse")
    page.wait_for_selector(".toy[data-frame]", timeout=_WAIT_MS)
    page.wait_for_timeout(2000)
    assert sent(b"Train a classifier to the end")
    got.clear()
    page.get_by_role("slider", name=re.compile("^Classes")).press("ArrowRight")
    page.wait_for_url("**toy_classes=5*", timeout=_WAIT_MS)
    page.wait_for_timeout(1500)
    assert got and not sent(b"Train a classifier to the end")


def test_the_toy_plays_and_steps_without_the_server(page, address) -> None:
    ready(page, f"{address}/toy_collapse")
    page.wait_for_selector(".toy[data-frame]", timeout=_WAIT_MS)
    page.locator(".space canvas").focus()
    page.keyboard.press("End")
    slider = page.get_by_role("slider", name="Frame")
    last = int(slider.get_attribute("max") or 0)
    assert last > 40
    page.wait_for_selector(f".toy[data-frame='{last}']", timeout=_WAIT_MS)
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector(f".toy[data-frame='{last - 1}']", timeout=_WAIT_MS)


def test_a_frame_of_two_thousand_points_is_little_more_than_its_dots(page, address) -> None:
    """The player's own draw with 2,000 points and 20 steps against bare dots; the time is in `benchmarks/`."""
    page.goto("about:blank")
    text = source("player").replace("export function mount", "window.mount = function")
    page.add_script_tag(content=text.replace("export default function", "window.other = function"), type="module")
    ratio = page.evaluate((ROOT / "tests" / "app" / "frame.js").read_text())
    assert ratio < 10  # 3 where this was written


def ring(page, share: float = 0.42, points: int = 30) -> None:
    """Draw around the middle of the map with the mouse."""
    box = page.locator(".pane canvas").bounding_box()
    x, y, width, height = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, box["width"], box["height"])
    turn = [2 * math.pi * at / points for at in range(points)]
    path = [(x + share * width * math.cos(a), y + share * height * math.sin(a)) for a in turn]
    page.mouse.move(*path[0])
    page.mouse.down()
    for place in path[1:]:
        page.mouse.move(*place)
    page.mouse.up()


def count(page) -> int:
    return int(page.locator(".player").get_attribute("data-selected"))


def pictures(page) -> list[str]:
    """The images of the gallery, by id."""
    return page.locator(".gallery").first.locator("button").evaluate_all("nodes => nodes.map(n => n.dataset.id)")


def explore(page, address: str, query: str = "") -> None:
    ready(page, f"{address}/explore?run=first{query}")
    page.wait_for_selector(".player[data-step]", timeout=_WAIT_MS)
    page.locator(".gallery button").first.wait_for(timeout=_WAIT_MS)
    page.locator(".pane canvas").scroll_into_view_if_needed()


def test_a_lasso_fills_the_gallery_and_the_link(page, address) -> None:
    sent = []
    explore(page, address)
    page.get_by_role("button", name="Lasso (S)").click()
    ring(page)
    page.wait_for_url("**sel=*", timeout=_WAIT_MS)
    chosen = count(page)
    assert 0 < chosen < 120
    playwright.expect(page.locator(".gallery").first.locator("button")).to_have_count(chosen, timeout=_WAIT_MS)
    before = pictures(page)
    link = page.url
    page.goto("about:blank")
    page.on("websocket", lambda socket: socket.on("framesent", lambda frame: sent.append(frame)))  # noqa: PLW0108
    ready(page, link)
    page.wait_for_selector(f".player[data-selected='{chosen}']", timeout=_WAIT_MS)
    page.locator(".gallery button").first.wait_for(timeout=_WAIT_MS)
    assert pictures(page) == before
    page.locator(".pane canvas").scroll_into_view_if_needed()
    page.get_by_role("button", name="Lasso (S)").click()
    page.wait_for_timeout(1000)
    silent = len(sent)
    ring(page, share=0.2)
    page.wait_for_timeout(1500)
    assert len(sent) == silent + 1  # one message a gesture, however long its path


def test_only_what_is_shown_can_be_selected_and_filters_do_not_change_who_is_selected(page, address) -> None:
    explore(page, address, "&task=Task+2")
    page.locator(".pane canvas").focus()
    page.keyboard.press("a")  # all points shown
    page.wait_for_url("**sel=*", timeout=_WAIT_MS)
    chosen, link = count(page), page.url
    assert chosen == 24  # 120 images in 5 tasks
    only = pictures(page)
    explore(page, address, "&" + next(part for part in link.split("&") if part.startswith("sel=")))
    page.wait_for_selector(".player[data-selected='24']", timeout=_WAIT_MS)
    assert pictures(page) == only


def test_the_keys_alone_select_and_choose(page, address) -> None:
    explore(page, address)
    page.locator(".pane canvas").focus()
    page.keyboard.press("b")
    for key, times in (("Shift+ArrowLeft", 12), ("Enter", 1), ("Shift+ArrowRight", 24), ("Shift+ArrowDown", 14)):
        for _ in range(times):
            page.keyboard.press(key)
    page.keyboard.press("Enter")
    page.wait_for_url("**sel=*", timeout=_WAIT_MS)
    assert 0 < count(page) < 120
    page.keyboard.press("Escape")  # the cross goes
    page.keyboard.press("Escape")  # and then the selection
    page.wait_for_selector(".player[data-selected='0']", timeout=_WAIT_MS)
    page.wait_for_url(lambda url: "sel=" not in url, timeout=_WAIT_MS)
    page.wait_for_timeout(500)  # the gallery of all images comes with it: a button that has the focus now would go
    page.locator(".gallery button").nth(3).focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**point=*", timeout=_WAIT_MS)


def test_a_glossary_link_opens_the_part_that_shows_the_quantity(page, address) -> None:
    ready(page, f"{address}/glossary?run=first&term=procrustes_distance")
    page.get_by_role("link", name="Drift and forgetting: Change or rotation").click()
    page.locator("h1", has_text="Drift and forgetting").wait_for(timeout=_WAIT_MS)
    page.get_by_role("heading", name="Features of the probe images").wait_for(timeout=_WAIT_MS)


# For every line with points: its values, and where they are drawn, in the units of the axis.
_LINES = r"""() => {
  const plot = document.querySelector(".st-key-growing .js-plotly-plot");
  const says = plot.closest(".stPlotlyChart").getAttribute("aria-label");
  const lines = plot._fullData.map((trace) => {
    const axis = plot._fullLayout[(trace.yaxis || "y").replace("y", "yaxis")];
    const drawn = plot.querySelector(`.scatterlayer .trace${trace.uid}`);
    const path = drawn.querySelector(".js-line").getAttribute("d").slice(1).split("L");
    const marks = [...drawn.querySelectorAll(".points .point")].map((mark) => mark.getAttribute("transform"));
    const height = (text) => axis.p2r(Number(text.match(/,\s*([-\d.e]+)/)[1]));
    return { name: trace.name, kept: [...trace.y], path: path.map(height), marks: marks.map(height) };
  });
  return { here: Boolean(plot.here), says, lines };
}"""


def test_the_way_to_all_classes_moves_with_the_head(page, address) -> None:
    ready(page, f"{address}/head_lab?run=first&head=Ridge")
    page.locator(".st-key-growing .js-plotly-plot").wait_for(timeout=_WAIT_MS)
    page.wait_for_timeout(1000)
    page.evaluate("() => { document.querySelector('.st-key-growing .js-plotly-plot').here = true; }")
    before = page.evaluate(_LINES)
    slider = page.get_by_role("slider", name="Ridge penalty gamma")
    slider.press("End")
    page.wait_for_function(
        "said => document.querySelector('.st-key-growing .stPlotlyChart').getAttribute('aria-label') !== said",
        arg=before["says"], timeout=_WAIT_MS,
    )  # fmt: skip
    after = page.evaluate(_LINES)
    assert after["here"]
    assert before["lines"][2]["kept"] != after["lines"][2]["kept"]
    assert before["lines"][1]["kept"][1:] == after["lines"][1]["kept"][1:]  # how a frame turns knows no gamma
    for line in (after["lines"][0], after["lines"][2]):
        assert len(line["kept"]) == 5
        assert line["path"] == pytest.approx(line["kept"], abs=0.01)
        assert line["marks"] == pytest.approx(line["kept"], abs=0.01)
    page.set_viewport_size({"width": 1180, "height": 900})  # plotly draws all of it anew
    page.wait_for_timeout(1500)
    again = page.evaluate(_LINES)
    assert again["lines"][2]["path"] == pytest.approx(after["lines"][2]["kept"], abs=0.01)
