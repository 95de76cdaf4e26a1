"""Flows of Train, Bring your own and Report in a real browser, with a real small run in a process of its own."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install 'cillab[browser]'")

from PIL import Image

from cillab.lab import jobs, queue
from cillab.runs import Run
from tests.app.serving import CHROMIUM, MISSING, serve
from tests.app.test_browser import _WAIT_MS, browser, page, ready  # noqa: F401 (fixtures)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason=MISSING),
]
_FORM = (
    "train?spec-learner=finetune&spec-data=digits&spec-split=B0-Inc5&spec-train_per_class=5&spec-test_per_class=5"
    "&spec-probe_points=10&spec-train_probe_per_class=2&h-finetune-fit.epochs=150"
)
_PATIENT_MS = 180_000  # loading torch on a busy machine


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("runs")
    yield folder
    current = queue.current(folder)
    if current is not None:
        os.killpg(current.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def address(root) -> Iterator[str]:
    with serve({"CILLAB_RUNS": str(root)}) as url:
        yield url


def state(page, name: str) -> None:  # noqa: F811
    page.locator(f".ci-state.{name}").first.wait_for(timeout=_PATIENT_MS)


def test_train_watch_pause_cancel_resume(page, address, root) -> None:  # noqa: F811
    ready(page, f"{address}/{_FORM}")
    start = page.get_by_role("button", name="Start", exact=True)
    start.wait_for(timeout=_PATIENT_MS)
    start.click()
    state(page, "running")
    page.locator(".st-key-train-loss .js-plotly-plot").first.wait_for(timeout=_PATIENT_MS)
    page.get_by_role("button", name="Pause").click()
    state(page, "paused")
    page.get_by_role("button", name="Go on").click()
    state(page, "running")

    (name,) = [path.name for path in root.iterdir() if not path.name.startswith(".")]
    pid = Run(root / name).status.pid
    ordered = root / name / "control" / "cancel"
    clicked = time.monotonic()
    page.get_by_role("button", name="Cancel").click()
    while _lives(pid) and not ordered.exists():  # the way of the click takes what the machine has left
        assert time.monotonic() - clicked < 10
        time.sleep(0.02)
    began = time.monotonic()
    while _lives(pid):
        assert time.monotonic() - began < 10
        time.sleep(0.02)
    assert time.monotonic() - began < 2
    state(page, "cancelled")

    page.get_by_role("button", name="Resume").first.click()
    state(page, "running")
    page.close()  # nobody looks: it goes on
    run, deadline = Run(root / name), time.monotonic() + _PATIENT_MS / 1000
    before = run.status
    while (run.status.task, run.status.epoch) <= (before.task, before.epoch):
        assert run.liveness() in ("running", "finished") and time.monotonic() < deadline
        time.sleep(0.2)
    jobs.Job.at(root / name).cancel()


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_after_a_crash_the_page_says_so_and_goes_on(page, address, root) -> None:  # noqa: F811
    ready(page, f"{address}/{_FORM}")
    field = page.get_by_role("textbox", name="Name of the run")
    field.fill("crash")
    field.press("Enter")
    page.get_by_text("/crash").first.wait_for(timeout=_WAIT_MS)
    page.get_by_role("button", name="Start", exact=True).click()
    state(page, "running")
    os.kill(Run(root / "crash").status.pid, signal.SIGKILL)
    state(page, "interrupted")
    page.get_by_text("Its process is gone without a word").wait_for(timeout=_WAIT_MS)
    page.get_by_role("button", name="Resume").first.click()
    state(page, "running")
    page.get_by_role("button", name="Cancel").click()
    state(page, "cancelled")


def test_uploaded_images_get_an_answer_and_text_gets_a_reason(page, address, tmp_path) -> None:  # noqa: F811
    noise = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    (tmp_path / "text.png").write_text("I am text")
    ready(page, f"{address}/bring_your_own?run=demo-min")
    page.locator("input[type=file]").first.set_input_files([str(tmp_path / "noise.png"), str(tmp_path / "text.png")])
    page.get_by_text("text.png: not an image").wait_for(timeout=_WAIT_MS)
    page.get_by_text("Rebuild the learner and ask it").click()
    page.get_by_text("Nearest class means").wait_for(timeout=_PATIENT_MS)
    assert page.locator(".ci-near div").count() == 5
    assert page.locator(".ci-own img").count() >= 2


def test_the_report_opens_offline(page, address, browser, tmp_path) -> None:  # noqa: F811
    ready(page, f"{address}/report?run=demo-min")
    with page.expect_download(timeout=_PATIENT_MS) as waiting:
        page.get_by_role("button", name="Download").click(timeout=_PATIENT_MS)
    waiting.value.save_as(tmp_path / "report.html")
    asked: list[str] = []
    context = browser.new_context(offline=True)
    offline = context.new_page()
    offline.on("request", lambda request: asked.append(request.url))
    offline.goto(f"file://{tmp_path}/report.html")
    offline.locator(".js-plotly-plot .main-svg").nth(8).wait_for(timeout=_WAIT_MS)
    context.close()
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []


@pytest.mark.parametrize("path", ["train", "bring_your_own?run=demo-min", "report?run=demo-min"])
def test_nothing_scrolls_sideways_at_1000_pixels_and_at_390(page, address, path) -> None:  # noqa: F811
    ready(page, f"{address}/{path}")
    for width in (1000, 390):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(2500)
        wide = page.evaluate(
            "() => [document.documentElement, document.querySelector('.stMain')]"
            ".map(n => n.scrollWidth - n.clientWidth)"
        )
        assert max(wide) <= 0, width
