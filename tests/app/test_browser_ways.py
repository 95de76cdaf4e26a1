"""Ways between pages in a real browser, with options off their defaults: each arrives, and Back leads back."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install 'cillab[browser]'")

from tests.app.conftest import make
from tests.app.serving import CHROMIUM, MISSING, serve
from tests.app.test_browser import _WAIT_MS, browser, page, ready  # noqa: F401 (fixtures)
from tests.runs.synthetic import write_synthetic_run

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason=MISSING),
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    folder = make("noise", tmp_path_factory.mktemp("runs"))
    write_synthetic_run(folder / "second", noise=False, tasks=3)
    return folder


@pytest.fixture(scope="module")
def address(runs, tmp_path_factory) -> Iterator[str]:
    data = tmp_path_factory.mktemp("data")
    with serve({"CILLAB_RUNS": str(runs), "CILLAB_DATA": str(data)}) as url:
        yield url


def choose(page, label: str, option: str) -> None:  # noqa: F811
    """Take another option of a select box."""
    page.get_by_role("combobox", name=label, exact=True).click()
    page.get_by_role("option", name=option, exact=True).click()


def on_screen(page, path: str) -> None:  # noqa: F811
    page.wait_for_url(lambda url: f"/{path}" in url, timeout=_WAIT_MS)
    page.wait_for_selector("h1", timeout=_WAIT_MS)


def test_another_run_plane_or_map_makes_a_new_player(page, address) -> None:  # noqa: F811
    ready(page, f"{address}/step_through?run=first&step=1")
    page.wait_for_selector(".player[data-step='1']", timeout=_WAIT_MS)
    page.get_by_role("button", name="Trails").click()
    page.locator(".player").evaluate("node => { node.dataset.old = true; }")
    choose(page, "Plane", "Plane: largest variance")
    page.wait_for_selector(".player:not([data-old])", timeout=_WAIT_MS)
    assert page.locator(".player").get_attribute("data-step") == "1"
    assert page.get_by_role("button", name="Trails").get_attribute("aria-pressed") == "true"  # a habit is kept
    choose(page, "Run", "second")
    page.locator(".timeline input[max='2']").wait_for(timeout=_WAIT_MS)
    ready(page, f"{address}/explore?run=first")
    page.wait_for_selector(".player[data-step]", timeout=_WAIT_MS)
    page.locator(".player").evaluate("node => { node.dataset.old = true; }")
    choose(page, "Map", "Largest variance")
    page.wait_for_selector(".player:not([data-old])", timeout=_WAIT_MS)
    assert not page.get_by_text("BidiComponent").count()


# Where one starts, with an option off its default in the address; the button; the page that it leads to.
WAYS = {
    "a panel": (
        "step_through?run=first&plane=Largest+variance&point=test%2F00007",
        "Drift of class means",
        "drift",
    ),
    "compared runs": ("compare?by=Average+accuracy", "Step through", "step_through"),
    "the tour": ("step_through?run=first&tour=9&plane=Plane%3A+largest+variance", "Next", "toy_collapse"),
    "the tour from a lab": ("head_lab?run=first&tour=7&head=Ridge", "Next", "step_through"),
}  # fmt: skip


@pytest.mark.parametrize("name", WAYS)
def test_buttons_that_lead_away_arrive_and_one_press_of_back_returns(page, address, name) -> None:  # noqa: F811
    start, button, there = WAYS[name]
    first = start.partition("?")[0]
    page.goto(f"{address}/glossary", timeout=_WAIT_MS)
    ready(page, f"{address}/{start}")
    way = page.get_by_role("button", name=button, exact=False).last
    way.wait_for(timeout=_WAIT_MS)
    page.wait_for_timeout(1500)  # the page writes its address
    if name == "a panel":
        way.click()  # it grows
    address_before = page.url
    way.click()
    on_screen(page, there)
    page.wait_for_timeout(2000)
    assert not page.locator(".stException").count()
    page.go_back()
    on_screen(page, first)
    page.wait_for_timeout(1000)
    before, after = (parse_qs(urlsplit(url).query) for url in (address_before, page.url))
    assert {name: after.get(name) for name in before} == before


def test_steps_leave_no_trail_in_the_history(page, address) -> None:  # noqa: F811
    ready(page, address)
    page.get_by_role("button", name="Step through it").click()
    page.wait_for_selector(".player[data-step='0']", timeout=_WAIT_MS)
    page.locator(".pane canvas").focus()
    for step in (1, 2):
        page.keyboard.press("ArrowRight")
        page.wait_for_url(f"**step={step}*", timeout=_WAIT_MS)
    page.go_back()
    page.get_by_role("button", name="Step through it").wait_for(timeout=_WAIT_MS)


def test_a_link_to_what_is_not_here_says_so_and_offers_the_others(page, address, runs) -> None:  # noqa: F811
    write_synthetic_run(runs / "third", noise=False, tasks=3)
    ready(page, f"{address}/collapse?run=elsewhere")
    page.get_by_text("There is no run “elsewhere” here").first.wait_for(timeout=_WAIT_MS)
    assert "run=elsewhere" in page.url
    page.get_by_role("button", name="second", exact=True).click()
    page.locator(".js-plotly-plot").first.wait_for(timeout=_WAIT_MS)
    ready(page, f"{address}/step_through?run=third&step=0")
    page.wait_for_selector(".player[data-step='0']", timeout=_WAIT_MS)
    page.wait_for_timeout(1000)
    page.locator(".pane canvas").focus()
    shutil.rmtree(runs / "third")  # deleted while it is open
    page.keyboard.press("End")
    page.get_by_text("There is no run “third” here").first.wait_for(timeout=_WAIT_MS)
    assert not page.locator(".stException").count()
