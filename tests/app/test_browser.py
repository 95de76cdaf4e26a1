"""Flows in a real browser: the player plays, the link restores the step, nothing scrolls sideways or complains."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import pytest

from tests.app.conftest import ROOT, make

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install 'cillab[browser]'"
)
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt install chromium"),
]
_WAIT_MS = 60_000


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[str]:
    """A server of its own on a free port, over one synthetic run."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "CILLAB_RUNS": str(make("noise", tmp_path_factory.mktemp("runs")))}
    command = [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        "app/main.py",
        "--server.port",
        str(port),
        "--server.headless",
        "true",
    ]
    server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://localhost:{port}"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{url}/_stcore/health", timeout=1).read()
                break
            except OSError:
                assert server.poll() is None, "the server ended"
                time.sleep(0.25)
        yield url
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


@pytest.fixture
def page(browser) -> Iterator:
    """A page whose console must stay free of errors."""
    context = browser.new_context(viewport={"width": 1000, "height": 900})
    opened, complaints = context.new_page(), []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    # Streamlit looks for its own endpoints below the path of a deep link first; the answer 404 is part of its protocol.
    opened.on(
        "console",
        lambda m: (
            complaints.append(m.text) if m.type == "error" and "/_stcore/" not in m.location.get("url", "") else None
        ),
    )
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
    page.wait_for_selector(".js-plotly-plot", timeout=_WAIT_MS)
    page.wait_for_timeout(1000)
    before = len(sent)
    page.get_by_role("button", name="Play (space)").click()
    page.wait_for_selector(".player[data-step='2']", timeout=_WAIT_MS)
    assert len(sent) == before
    page.get_by_role("button", name="Pause (space)").click()
    page.wait_for_url("**step=2*", timeout=_WAIT_MS)
    page.get_by_role("heading", name="Task 3 of 5").wait_for(timeout=_WAIT_MS)


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


def test_choosing_an_image_moves_the_maps(page, address) -> None:
    ready(page, f"{address}/grad_cam?run=first")
    picture = page.locator(".gallery button").nth(5)
    picture.wait_for(timeout=_WAIT_MS)
    picture.click()
    page.wait_for_url("**point=*", timeout=_WAIT_MS)
    page.locator(".ci-strip img").nth(5).wait_for(timeout=_WAIT_MS)


@pytest.mark.parametrize("path", ["", "step_through?run=first", "noise_mixing?run=first", "grad_cam?run=first"])
def test_nothing_scrolls_sideways_at_1000_pixels(page, address, path) -> None:
    ready(page, f"{address}/{path}")
    page.wait_for_timeout(1500)
    wide = page.evaluate(
        "() => [document.documentElement, document.querySelector('.stMain')].map(n => n.scrollWidth - n.clientWidth)"
    )
    assert max(wide) <= 0


def test_a_frame_of_two_thousand_points_takes_less_than_a_frame(page, address) -> None:
    """The player's own draw with 2,000 points and 20 steps; twice a frame as slack for slow machines."""
    page.goto("about:blank")
    source = (
        (ROOT / "app" / "ui" / "player.js")
        .read_text()
        .replace("export function mount", "window.mount = function")
        .replace("export default function", "window.other = function")
    )
    page.add_script_tag(content=source, type="module")
    milliseconds = page.evaluate((ROOT / "tests" / "app" / "frame.js").read_text())
    assert milliseconds < 33
