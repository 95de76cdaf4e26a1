"""The widget drawn by a browser, as anywidget calls it: steps go both ways, keys count inside it and nowhere else."""

import json

import pytest

pytest.importorskip("anywidget")

from cillab.runs import Run
from cillab.teaching import player
from tests.app.serving import CHROMIUM, MISSING, chromium
from tests.runs.synthetic import write_synthetic_run

pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install 'cillab[browser]'")
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason=MISSING)]

_MODEL = """
window.state = STATE; window.heard = {};
const model = { get: (key) => state[key], save_changes() {}, off() {},
  set: (key, value) => { state[key] = value; }, on: (name, call) => { heard[name] = call; } };
const module = await import(URL.createObjectURL(new Blob([CODE], { type: "text/javascript" })));
module.default().render({ model, el: document.getElementById("here") });
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    run = Run(write_synthetic_run(tmp_path_factory.mktemp("runs") / "one", probe=60))
    widget = player(run, step=0)
    state = json.dumps({"data": widget.data, "step": widget.step, "picked": None})
    script = _MODEL.replace("STATE", state).replace("CODE", json.dumps(widget._esm))
    with chromium() as browser:
        page = browser.new_page()
        page.set_content(f"<style>{widget._css}</style><button id='other'>other</button><div id='here'></div>")
        page.add_script_tag(content=script, type="module")
        page.wait_for_selector(".player[data-step='0']")
        yield page


def shown(page) -> str:
    return page.locator(".player").get_attribute("data-step")


def test_keys_count_inside_the_widget_alone(page) -> None:
    page.locator("#other").focus()
    page.keyboard.press("ArrowRight")
    page.mouse.click(5, 500)
    page.keyboard.press("ArrowRight")
    assert shown(page) == "0"
    page.locator(".pane canvas").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(".player[data-step='1']")
    assert page.evaluate("document.activeElement.dataset.lmSuppressShortcuts") == "true"  # JupyterLab keeps off


def test_the_step_goes_to_the_kernel_and_comes_from_it(page) -> None:
    page.locator(".pane canvas").focus()
    page.keyboard.press("End")
    page.wait_for_function("() => state.step === 4")
    page.evaluate("() => { state.step = 2; heard['change:step'](); }")
    page.wait_for_selector(".player[data-step='2']")


def test_the_style_reaches_the_widget_and_stops_there(page) -> None:
    look = "node => getComputedStyle(document.querySelector(node)).borderRadius"
    assert page.evaluate(look, ".transport .primary") == "50%"
    assert page.evaluate(look, "#other") != "8px"
    assert page.locator(".pane canvas").bounding_box()["height"] > 200
