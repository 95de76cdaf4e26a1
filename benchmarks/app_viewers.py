"""Many viewers at once: sessions that step through the demo run, for minutes. Errors, memory of the server, latency.

    python benchmarks/app_viewers.py [--viewers 20] [--minutes 10] [--pause 2.0]

Every viewer is a browser context of its own (its own session on the server) that presses the arrow key and waits until
the numbers of the step have changed on screen. JSON lines: memory every ten seconds, then the summary. Memory is flat
when the slope after the warm-up (the first third) is below 1 MB a minute for each viewer.
"""

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from playwright.async_api import Browser, Page, async_playwright  # noqa: E402

from tests.app.serving import ARGUMENTS, CHROMIUM, serve  # noqa: E402

BUDGET_MS = 1000
PATIENCE_MS = 180_000
NOW = "() => document.querySelector('[class*=st-key-now-] h3')?.textContent ?? ''"
CHANGED = "before => (document.querySelector('[class*=st-key-now-] h3')?.textContent ?? '') !== before"


class Tally:
    """What all viewers saw."""

    def __init__(self) -> None:
        self.times_ms: list[float] = []
        self.errors: list[str] = []
        self.memory: list[tuple[float, float]] = []  # seconds, MB


def resident_mb(pid: int) -> float:
    """Memory of a process that is really in use (Linux)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def viewer(browser: Browser, url: str, number: int, until: float, pause: float, tally: Tally) -> None:
    """One person who steps forth and back."""
    context = await browser.new_context(viewport={"width": 1280, "height": 900})
    page = await context.new_page()
    page.on("pageerror", lambda error: tally.errors.append(str(error)[:200]))
    try:
        await page.goto(f"{url}/step_through?run=demo-min&step=0", timeout=PATIENCE_MS)
        await page.locator("[data-step]").first.wait_for(timeout=PATIENCE_MS)
        await page.wait_for_function(f"({NOW})() !== ''", timeout=PATIENCE_MS)
        await asyncio.sleep(pause * (number % 7) / 7)  # not all in one beat
        forward = True
        while time.monotonic() < until:
            forward = await _step(page, forward, tally)
            await asyncio.sleep(pause)
        if await page.locator("[data-testid=stException]").count():
            tally.errors.append("the page shows an exception")
    except Exception as error:
        tally.errors.append(" ".join(str(error).split())[:200])
    finally:
        await context.close()


async def _step(page: Page, forward: bool, tally: Tally) -> bool:
    """One press of the key; turns round at the ends of the run."""
    before = await page.evaluate(NOW)
    await page.locator(".pane canvas").first.focus()
    began = time.perf_counter()
    await page.keyboard.press("ArrowRight" if forward else "ArrowLeft")
    await page.wait_for_function(CHANGED, arg=before, timeout=30_000)
    tally.times_ms.append(1000 * (time.perf_counter() - began))
    after = await page.evaluate(NOW)
    at, _, last = after.removeprefix("Task ").partition(" of ")
    return False if at == last else True if at == "1" else forward


async def watch(pid: int, until: float, tally: Tally) -> None:
    """Memory of the server, every ten seconds."""
    began = time.monotonic()
    while time.monotonic() < until:
        tally.memory.append((time.monotonic() - began, resident_mb(pid)))
        print(json.dumps({"seconds": round(tally.memory[-1][0]), "server_mb": round(tally.memory[-1][1])}))
        sys.stdout.flush()
        await asyncio.sleep(min(10, max(0.1, until - time.monotonic())))


async def all_of_them(url: str, pid: int, viewers: int, minutes: float, pause: float) -> Tally:
    """Start everybody, and wait for the last."""
    tally, until = Tally(), time.monotonic() + 60 * minutes
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        people = [viewer(browser, url, number, until, pause, tally) for number in range(viewers)]
        await asyncio.gather(watch(pid, until, tally), *people)
        await browser.close()
    return tally


def summary(tally: Tally, viewers: int, minutes: float) -> dict:
    """The verdict, as one record."""
    seconds, megabytes = (np.array(column) for column in zip(*tally.memory, strict=True))
    late = seconds >= seconds[-1] / 3
    slope = float(np.polyfit(seconds[late] / 60, megabytes[late], 1)[0]) if late.sum() > 1 else float("nan")
    steps = np.array(tally.times_ms) if tally.times_ms else np.array([np.nan])
    p50, p95 = (float(np.quantile(steps, q)) for q in (0.5, 0.95))
    return {
        "viewers": viewers, "minutes": minutes, "steps": len(tally.times_ms), "errors": len(tally.errors),
        "first_errors": tally.errors[:3], "p50_ms": round(p50), "p95_ms": round(p95), "budget_ms": BUDGET_MS,
        "within": p95 <= BUDGET_MS, "first_mb": round(megabytes[0]), "last_mb": round(megabytes[-1]),
        "mb_per_minute": round(slope, 2), "flat": slope < viewers, "load": os.getloadavg()[0],
        "processor": platform.processor() or platform.machine(), "cores": os.cpu_count(),
    }  # fmt: skip


def main() -> None:
    """Serve the demo runs and let the viewers in."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--viewers", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--pause", type=float, default=2.0, help="seconds between two steps of one viewer")
    given = parser.parse_args()
    if CHROMIUM is None:
        sys.exit("no Chromium on this machine: apt install chromium")
    pids: list[int] = []
    with tempfile.TemporaryDirectory() as folder, serve({"CILLAB_RUNS": folder}, pids) as url:
        tally = asyncio.run(all_of_them(url, pids[0], given.viewers, given.minutes, given.pause))
    print(json.dumps(summary(tally, given.viewers, given.minutes)))


if __name__ == "__main__":
    main()
