"""Many viewers at once: sessions that step through the demo run, for minutes. Errors, memory of the server, latency.

    python benchmarks/app_viewers.py [--viewers 20] [--minutes 10] [--pause 2.0] [--browsers 1] [--in-step]

Viewers sit at machines of their own, so only few of them (`--browsers`) are real browsers here: they would measure each
other. The rest are sessions on the wire: each says to the server what a browser says (learnt from one at the start) and
waits until the server has answered all of it, figures included. Between two steps they pause half to one and a half
times `--pause`; with `--in-step` exactly as long, like a class that is told to press the key: those who ask together
are answered together, and so ask together again, for ever. JSON lines: memory every ten seconds, then the summary.
Memory is flat when the slope after the warm-up (the first third) is below 1 MB a minute for twenty viewers.
"""

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.app.serving import ARGUMENTS, CHROMIUM, MISSING, serve  # noqa: E402

import numpy as np  # noqa: E402
from playwright.async_api import Browser, Page, async_playwright  # noqa: E402
from streamlit.proto.BackMsg_pb2 import BackMsg  # noqa: E402
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg  # noqa: E402
from websockets.asyncio.client import connect  # noqa: E402

BUDGET_MS = 1000
SLOPE_MB = 1.0  # a minute
PATIENCE_S = 120
STEPS = 10  # of the demo run
PAGE = "step_through?run=demo-min&step=0"
_LABEL = (
    "([document, ...[...document.querySelectorAll('*')].map(n => n.shadowRoot).filter(Boolean)]"
    ".map(r => r.querySelector('.cockpit .label b')).find(Boolean)?.textContent ?? '')"
)
NOW = f"() => {_LABEL}"
CHANGED = f"before => {_LABEL} !== before"


class Tally:
    """What all viewers saw."""

    def __init__(self) -> None:
        self.wire_ms: list[float] = []  # from the message of a step to the end of the answer
        self.screen_ms: list[float] = []  # from the key to the new number on screen
        self.errors: list[str] = []
        self.memory: list[tuple[float, float]] = []  # seconds, MB


def resident_mb(pid: int) -> float:
    """Memory of a process that is really in use (Linux)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def opened(browser: Browser, url: str, sent: list[bytes] | None = None) -> Page:
    """A page of its own session, ready to step; what it says to the server is kept in `sent`."""
    page = await (await browser.new_context(viewport={"width": 1280, "height": 900})).new_page()
    if sent is not None:
        page.on("websocket", lambda socket: socket.on("framesent", lambda frame: sent.append(frame)))  # pyright: ignore  # noqa: PLW0108
    await page.goto(f"{url}/{PAGE}", timeout=1000 * PATIENCE_S)
    await page.locator("[data-step]").first.wait_for(timeout=1000 * PATIENCE_S)
    await page.wait_for_function(f"({NOW})() !== ''", timeout=1000 * PATIENCE_S)
    await page.wait_for_timeout(3000)
    return page


async def learn(browser: Browser, url: str) -> tuple[list[BackMsg], BackMsg]:
    """The messages with which a browser opens the page (it asks, then says how wide it is), and that of a step."""
    sent: list[bytes] = []
    page = await opened(browser, url, sent)
    told = len(sent)
    await page.locator(".pane canvas").first.focus()
    await page.keyboard.press("ArrowRight")
    await page.wait_for_timeout(3000)
    await page.context.close()
    *opening, step = (BackMsg.FromString(frame) for frame in sent[: told + 1])
    assert any('"step"' in widget.json_value for widget in step.rerun_script.widget_states.widgets), "not understood"
    return opening, step


def said(step: BackMsg, at: int, address: int) -> bytes:
    """The message of a step, for another step, from a browser whose address says `address`."""
    message = BackMsg()
    message.CopyFrom(step)
    message.rerun_script.query_string = message.rerun_script.query_string.replace("step=0", f"step={address}")
    for widget in message.rerun_script.widget_states.widgets:
        if '"step"' in widget.json_value:
            widget.json_value = json.dumps({**json.loads(widget.json_value), "step": at})
    return forgetful(message)


def forgetful(message: BackMsg) -> bytes:
    """The message of a browser that has kept nothing: the server sends all of its answer."""
    del message.rerun_script.cached_message_hashes[:]
    return message.SerializeToString()


async def answer(socket: Any, step: int | None) -> None:
    """Read until the server is done; it must put the step into the address, and show no exception."""
    addresses: list[str] = []
    while True:
        message = ForwardMsg()
        message.ParseFromString(await asyncio.wait_for(socket.recv(), PATIENCE_S))
        kind = message.WhichOneof("type")
        if kind == "delta" and message.delta.WhichOneof("type") == "new_element":
            element = message.delta.new_element
            if element.WhichOneof("type") == "exception":
                raise RuntimeError(element.exception.message)
        elif kind == "page_info_changed":
            addresses.append(message.page_info_changed.query_string)
        elif kind == "script_finished":
            if step is not None and not any(f"step={step}" in address.split("&") for address in addresses):
                raise RuntimeError(f"told of step {step}, the address became {addresses}")
            return


async def on_the_wire(
    url: str,
    messages: tuple[list[BackMsg], BackMsg],
    number: int,
    until: float,
    pause: Callable[[], float],
    tally: Tally,
) -> None:
    """A session that steps forth and back."""
    opening, step = messages
    try:
        address = url.replace("http", "ws", 1) + "/_stcore/stream"
        async with connect(address, subprotocols=["streamlit"], origin=url, max_size=None) as socket:  # pyright: ignore
            for message in opening:
                await socket.send(forgetful(message))
                await answer(socket, None)
            await asyncio.sleep(pause() * (number % 7) / 7)  # not all in one beat
            at, way = 0, 1
            while time.monotonic() < until:
                before, at = at, at + way
                way = -1 if at == STEPS - 1 else 1 if at == 0 else way
                began = time.perf_counter()
                await socket.send(said(step, at, before))
                await answer(socket, at)
                tally.wire_ms.append(1000 * (time.perf_counter() - began))
                await asyncio.sleep(pause())
    except Exception as error:
        tally.errors.append(" ".join(f"{type(error).__name__} {error}".split())[:200])


async def on_screen(browser: Browser, url: str, until: float, pause: Callable[[], float], tally: Tally) -> None:
    """A real browser that steps forth and back."""
    try:
        page = await opened(browser, url)
        page.on("pageerror", lambda error: tally.errors.append(str(error)[:200]))
        forward = True
        while time.monotonic() < until:
            before = await page.evaluate(NOW)
            await page.locator(".pane canvas").first.focus()
            began = time.perf_counter()
            await page.keyboard.press("ArrowRight" if forward else "ArrowLeft")
            await page.wait_for_function(CHANGED, arg=before, timeout=30_000)
            tally.screen_ms.append(1000 * (time.perf_counter() - began))
            at, _, last = (await page.evaluate(NOW)).removeprefix("Task ").partition(" of ")
            forward = False if at == last else True if at == "1" else forward
            await asyncio.sleep(pause())
        if await page.locator("[data-testid=stException]").count():
            tally.errors.append("the page shows an exception")
    except Exception as error:
        tally.errors.append(" ".join(str(error).split())[:200])


async def watch(pid: int, until: float, tally: Tally) -> None:
    """Memory of the server, every ten seconds."""
    began = time.monotonic()
    while time.monotonic() < until:
        tally.memory.append((time.monotonic() - began, resident_mb(pid)))
        print(json.dumps({"seconds": round(tally.memory[-1][0]), "server_mb": round(tally.memory[-1][1])}))
        sys.stdout.flush()
        await asyncio.sleep(min(10, max(0.1, until - time.monotonic())))


async def all_of_them(url: str, pid: int, given: argparse.Namespace) -> tuple[Tally, float]:
    """Start everybody, and wait for the last; also the share of one core that the server took."""
    tally = Tally()
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        messages = await learn(browser, url)
        until, began, used = time.monotonic() + 60 * given.minutes, time.monotonic(), cpu_seconds(pid)
        draw = np.random.default_rng(0)

        def pause() -> float:
            return given.pause * (1 if given.in_step else draw.uniform(0.5, 1.5))

        people = [
            on_the_wire(url, messages, number, until, pause, tally) for number in range(given.viewers - given.browsers)
        ]
        screens = [on_screen(browser, url, until, pause, tally) for _ in range(given.browsers)]
        await asyncio.gather(watch(pid, until, tally), *people, *screens)
        share = (cpu_seconds(pid) - used) / (time.monotonic() - began)
        await browser.close()
    return tally, share


def quantiles(times_ms: list[float], name: str) -> dict[str, float]:
    """Median and 95 % of some times."""
    if not times_ms:
        return {}
    return {
        f"{name}_p50_ms": round(float(np.median(times_ms))),
        f"{name}_p95_ms": round(float(np.quantile(times_ms, 0.95))),
    }


def summary(tally: Tally, share: float, given: argparse.Namespace) -> dict:
    """The verdict, as one record."""
    seconds, megabytes = (np.array(column) for column in zip(*tally.memory, strict=True))
    late = seconds >= seconds[-1] / 3
    slope = float(np.polyfit(seconds[late] / 60, megabytes[late], 1)[0]) if late.sum() > 1 else float("nan")
    times = {**quantiles(tally.wire_ms, "answer"), **quantiles(tally.screen_ms, "screen")}
    slowest = max((value for name, value in times.items() if "p95" in name), default=float("inf"))
    return {
        "viewers": given.viewers, "browsers": given.browsers, "minutes": given.minutes, "pause_s": given.pause,
        "in_step": given.in_step, "steps": len(tally.wire_ms) + len(tally.screen_ms), "errors": len(tally.errors),
        "first_errors": tally.errors[:3], **times, "budget_ms": BUDGET_MS, "within": slowest <= BUDGET_MS,
        "first_mb": round(megabytes[0]), "last_mb": round(megabytes[-1]), "mb_per_minute": round(slope, 2),
        "flat": slope < SLOPE_MB, "server_cores": round(share, 2), "load": os.getloadavg()[0],
        "processor": platform.processor() or platform.machine(), "cores": os.cpu_count(),
    }  # fmt: skip


def main() -> None:
    """Serve the demo runs and let the viewers in."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--viewers", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--pause", type=float, default=2.0, help="seconds between two steps of one viewer")
    parser.add_argument("--browsers", type=int, default=1, help="how many of the viewers are real browsers")
    parser.add_argument("--in-step", action="store_true", help="pauses of one length: all viewers end up in one beat")
    given = parser.parse_args()
    if CHROMIUM is None:
        sys.exit(MISSING)
    pids: list[int] = []
    with tempfile.TemporaryDirectory() as folder, serve({"CILLAB_RUNS": folder}, pids) as url:
        tally, share = asyncio.run(all_of_them(url, pids[0], given))
    print(json.dumps(summary(tally, share, given)))


if __name__ == "__main__":
    main()
