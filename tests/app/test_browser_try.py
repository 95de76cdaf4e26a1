"""More flows in a real browser: turning noise down, two runs in step, everything by keyboard, the dark theme."""

import re
from collections.abc import Iterator

import pytest

from cillab.lab import Lab, RunSpec
from tests.app.serving import CHROMIUM, MISSING, serve
from tests.app.test_browser import _WAIT_MS, browser, page, ready  # noqa: F401 (fixtures)

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install 'cillab[browser]'"
)
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason=MISSING)]
_PATIENT_MS = 180_000  # loading torch on a busy machine
# The element that has the keyboard, also inside a component.
_FOCUSED = """() => {
  let at = document.activeElement;
  while (at?.shadowRoot?.activeElement) at = at.shadowRoot.activeElement;
  return at ? at.tagName + " " + (at.textContent || "") : "";
}"""


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[str]:
    """A server over one real small run of a noise method, learnt fast enough for its noise to matter."""
    folder = tmp_path_factory.mktemp("runs")
    strong = {"noise_dim": 16, "expansion": 256, "augment": "none", "epochs": 6, "lr": 1.0}
    spec = RunSpec(data="digits", split="B0-Inc5", learner="min", out=str(folder / "strong"), params=strong)
    few = {"cams": True, "train_per_class": 8, "test_per_class": 10, "probe_points": 60, "train_probe_per_class": 5}
    for _ in Lab.from_spec(spec.with_(**few)):
        pass
    with serve({"CILLAB_RUNS": str(folder)}) as url:
        yield url


def changed(page) -> int:  # noqa: F811
    """The number under `Answers changed`."""
    fact = page.locator(".st-key-what-if-numbers dl div", has_text="Answers changed").locator("dd")
    found = re.match(r"\d+", fact.inner_text())
    assert found is not None
    return int(found.group())


def said(row) -> list[str]:
    """The maps of a row; of one below its noise floor, which is not drawn, its greatest value."""
    maps = [image.get_attribute("src") for image in row.locator("img").all()]
    return maps + re.findall(r"max \S+", row.inner_text())


def test_turning_noise_down_changes_predictions(page, address) -> None:  # noqa: F811
    ready(page, f"{address}/noise_mixing?run=strong&step=1&live=true")
    numbers = page.locator(".st-key-what-if-numbers")
    numbers.wait_for(timeout=_PATIENT_MS)
    assert changed(page) == 0
    assert "has added to all images alike" in page.locator(".stMain").inner_text()  # this learner recentres: it says so
    maps = page.locator(".ci-cams .ci-big")
    playwright.expect(maps).to_have_count(2, timeout=_PATIENT_MS)  # as learnt, and with this mixture
    assert said(maps.nth(0)) == said(maps.nth(1))
    slider = page.get_by_role("slider", name="Generator of task 1")
    slider.press("Home")
    page.wait_for_url("**w1=0*", timeout=_WAIT_MS)
    page.get_by_role("button", name="All off").click()
    page.wait_for_url("**w2=0*", timeout=_WAIT_MS)
    playwright.expect(numbers.locator("dl div", has_text="Answers changed").locator("dd")).not_to_have_text(
        re.compile(r"^0"), timeout=_WAIT_MS
    )
    assert changed(page) > 0
    page.locator(".ci-changes div").first.wait_for(timeout=_WAIT_MS)
    playwright.expect(maps.nth(1)).to_contain_text("With this mixture", timeout=_WAIT_MS)
    assert said(maps.nth(0)) != said(maps.nth(1)), "Grad-CAM does not respond"
    page.get_by_role("button", name="As learnt").click()
    playwright.expect(numbers.locator("dl div", has_text="Answers changed").locator("dd")).to_have_text(
        re.compile(r"^0"), timeout=_WAIT_MS
    )


def test_the_learner_is_woken_in_the_cockpit_and_its_mixture_answers(page, address) -> None:  # noqa: F811
    page.set_viewport_size({"width": 1440, "height": 900})
    ready(page, f"{address}/step_through?run=strong&step=1")
    page.wait_for_selector(".player[data-step='1']", timeout=_WAIT_MS)
    page.locator("[data-wake]").click(timeout=_PATIENT_MS)
    page.locator("[data-stop]").click(timeout=_PATIENT_MS)
    page.wait_for_selector(".mixer[data-state=stopped]", timeout=_PATIENT_MS)
    page.locator("[data-wake]").click()
    page.wait_for_selector(".mixer[data-state=awake]", timeout=_PATIENT_MS)
    line, cells = page.locator(".mixer .line"), page.locator(".facts td")
    page.locator("[data-off='0']").click()
    playwright.expect(line).to_contain_text("Measured", timeout=_WAIT_MS)
    playwright.expect(page.locator("[data-panel=cams] .caption span")).to_contain_text(
        "scale of its own", timeout=_WAIT_MS
    )
    page.locator("[data-preset='All off']").click()
    playwright.expect(cells.nth(9)).not_to_have_text(re.compile("^0 of"), timeout=_WAIT_MS)
    page.locator("[data-stop]").wait_for(state="hidden", timeout=_PATIENT_MS)  # all mixtures are measured
    page.locator("[data-term='0']").fill("0.35")
    playwright.expect(line).to_contain_text("interpolated", timeout=_WAIT_MS)
    page.locator("[data-head=ridge]").click()
    page.wait_for_url("**by=ridge*", timeout=_WAIT_MS)
    page.locator("[data-preset='As learnt']").click()
    page.wait_for_selector(".cockpit[data-head=ridge]", timeout=_WAIT_MS)


def test_maps_from_attention_stand_beside_gradcam(page, address) -> None:  # noqa: F811
    ready(page, f"{address}/grad_cam?run=strong&step=1&live=true")
    page.get_by_text("From attention").wait_for(timeout=_PATIENT_MS)
    named = page.locator(".ci-cams .ci-big").last.locator("figcaption")
    playwright.expect(named).to_contain_text(["Task 2", "gradient", "gradient", "rollout"], timeout=_WAIT_MS)


def test_two_runs_move_in_step(page, address) -> None:  # noqa: F811
    ready(page, f"{address}/step_through?run=demo-min&versus=demo-finetune&step=0")
    page.wait_for_selector(".player[data-step='0']", timeout=_WAIT_MS)
    assert page.locator(".pane canvas").count() == 2
    before = page.locator(".pane .title b").all_inner_texts()
    page.locator(".pane canvas").nth(1).focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(".player[data-step='1']", timeout=_WAIT_MS)
    after = page.locator(".pane .title b").all_inner_texts()
    assert all(one != other for one, other in zip(before, after, strict=True))


def tab_to(page, wanted: str, most: int = 60) -> None:  # noqa: F811
    """Press the tab key until something that starts with `wanted` has the keyboard."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate(_FOCUSED).startswith(wanted):
            return
    raise AssertionError(f"{wanted!r} is not reached by tab")


def test_from_start_to_a_step_and_an_image_by_keyboard_alone(page, address) -> None:  # noqa: F811
    ready(page, address)
    page.get_by_role("button", name="Step through it").wait_for(timeout=_WAIT_MS)
    tab_to(page, "BUTTON play_arrowStep through it")
    page.keyboard.press("Enter")
    page.wait_for_selector(".player[data-step]", timeout=_WAIT_MS)
    page.wait_for_timeout(1500)  # the page is still being drawn: focus would be lost
    tab_to(page, "CANVAS")
    page.keyboard.press("Home")
    page.wait_for_selector(".player[data-step='0']", timeout=_WAIT_MS)
    page.keyboard.press("]")
    page.wait_for_selector(".player[data-step='1']", timeout=_WAIT_MS)
    page.keyboard.press(" ")
    page.wait_for_selector(".player[data-playing='true']", timeout=_WAIT_MS)
    page.keyboard.press(" ")
    page.wait_for_selector(".player[data-playing='false']", timeout=_WAIT_MS)
    page.wait_for_url("**step=*", timeout=_WAIT_MS)


def test_the_dark_theme_reaches_pages_figures_and_components(browser, address) -> None:  # noqa: F811
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="dark")
    dark = context.new_page()
    ready(dark, f"{address}/step_through?run=demo-min")
    dark.wait_for_selector(".player[data-theme='dark']", timeout=_WAIT_MS)
    ready(dark, f"{address}/collapse?run=demo-min")
    ink = dark.locator(".js-plotly-plot .xtick text").first
    ink.wait_for(timeout=_WAIT_MS)
    for node, name, bright in ((dark.locator(".stApp"), "background-color", False), (ink, "fill", True)):
        colour = node.evaluate("(node, name) => getComputedStyle(node).getPropertyValue(name)", name)
        level = sum(map(int, re.findall(r"\d+", colour)[:3])) / 3
        assert (level > 128) == bright, (name, colour)
    context.close()
