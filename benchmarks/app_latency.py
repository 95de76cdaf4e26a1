"""Latency of the app against its budgets: p50 and p95 of every action, on the demo run and on a large synthetic one.

    python benchmarks/app_latency.py [--repeats 30] [--large 100x10x2000] [--only step,choose]

One JSON line per action and run; `within` says whether p95 is inside the budget. Needs Chromium and playwright. For the
player it is the work in one frame; for what goes through the server, the time from the event to the last change on
screen; for what happens on the server alone, the time there.
"""

import argparse
import json
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from app.charts.curves import Tail  # noqa: E402
from app.images.saliency import collect  # noqa: E402
from app.shell.store import Entry, Opened  # noqa: E402
from cillab.cockpit import TARGETS  # noqa: E402
from cillab.core.errors import CillabError  # noqa: E402
from cillab.lab.jobs import start  # noqa: E402
from cillab.lab.spec import RunSpec  # noqa: E402
from cillab.protocol.specs import StreamSpec  # noqa: E402
from cillab.runs import Run, RunWriter  # noqa: E402
from tests.app.serving import ARGUMENTS, CHROMIUM, MISSING, serve  # noqa: E402
from tests.runs.synthetic import write_synthetic_run  # noqa: E402

import numpy as np  # noqa: E402
from playwright.sync_api import Page, sync_playwright  # noqa: E402

BUDGETS_MS = {
    "step in the player": 16,
    "hover card": 16,
    "click to primary image": 250,
    "head-lab slider": 200,
    "touch: another head": 300,
    "touch: a mixing weight": 300,
    "toy slider": 150,
    "another step": 500,
    "another part": 500,
    "Grad-CAM of one image": 100,
    "Grad-CAM, recorded": 30,
    "first paint": 2500,
    "open a run": 1000,
    "live poll, server": 20,
    "cancel": 2000,
}
GROUPS = ("step", "choose", "touch", "slide", "turn", "explain", "paint", "read", "cancel")
STEPPED = ("collapse", "drift", "method", "text_transport", "noise_mixing", "grad_cam", "head_lab")  # pages with a step
PATIENCE_MS = 120_000
GAMMA = "Ridge penalty gamma, power of ten"
FRAMES = """
window.frames_ms = [];
const wait = window.requestAnimationFrame.bind(window);
window.requestAnimationFrame = (act) => {
  const mine = window.tagging;
  return wait((at) => {
    const from = performance.now(), before = window.tagging;
    window.tagging = mine;
    try { return act(at); } finally {
      window.tagging = before;
      if (mine) window.frames_ms.push(performance.now() - from);
    }
  });
};
"""  # times the frames that an event asked for, and those that these asked for, but not those of other charts


def report(action: str, run: str, times: list[float], **more: Any) -> None:
    """One line of the result."""
    low, high = (float(np.quantile(times, q)) for q in (0.5, 0.95))
    line = {"action": action, "run": run, "unit": "ms", "budget": BUDGETS_MS[action], "n": len(times)}
    print(
        json.dumps({**line, "p50": round(low, 1), "p95": round(high, 1), "within": high <= BUDGETS_MS[action], **more})
    )
    sys.stdout.flush()


def failed(action: str, run: str, error: Exception) -> None:
    """A measurement that could not be made is a line too."""
    print(json.dumps({"action": action, "run": run, "problem": " ".join(str(error).split())[:200]}))
    sys.stdout.flush()


def opened(page: Page, url: str, ready: str) -> None:
    """Go there and wait for what the page is about."""
    page.goto(url, timeout=PATIENCE_MS)
    page.locator(ready).first.wait_for(timeout=PATIENCE_MS)
    page.add_script_tag(path=str(ROOT / "benchmarks" / "app_latency.js"))
    page.wait_for_timeout(2500)  # first drawings are not what is measured


def stepping(page: Page, url: str, run: str, steps: int, repeats: int) -> None:
    """A step in the cockpit, map and panels, at the first tasks and late in a long run; the hover card."""
    keys = ["ArrowRight", "ArrowLeft"]
    for first in (0, steps - 14)[: 1 + (steps > 28)]:
        opened(page, f"{url}/step_through?run={run}&step={first}", "[data-step]")
        times = [page.evaluate("k => clocks.step(k)", keys[i % 2]) for i in range(repeats)]
        report("step in the player", run, times, from_step=first)
    page.wait_for_timeout(1500)
    rng = np.random.default_rng(0)
    spots = [
        page.evaluate("([x, y]) => clocks.hover(x, y)", rng.uniform(0.2, 0.8, 2).tolist()) for _ in range(8 * repeats)
    ]
    if hits := [t for t in spots if t is not None]:
        report("hover card", run, hits[:repeats], asked=len(spots))


def choosing(page: Page, url: str, run: str, repeats: int) -> None:
    """A click on a thumbnail until the large image and its maps are there."""
    opened(page, f"{url}/grad_cam?run={run}", ".gallery button")
    count = min(page.locator(".gallery button").count(), 20)
    report(
        "click to primary image",
        run,
        [page.evaluate("i => clocks.click('.gallery button', i)", i % count) for i in range(1, repeats + 1)],
    )


def touching(page: Page, url: str, run: str, repeats: int) -> None:
    """Another head in the cockpit; and, where the learner mixes something, a fader, its answers and maps."""
    opened(page, f"{url}/step_through?run={run}", "[data-step]")
    heads = page.locator("[data-head].toggle")
    if (count := heads.count()) > 1:
        names = [str(heads.nth(at).get_attribute("data-head")) for at in range(count)]
        times = [page.evaluate("name => clocks.head(name)", names[at % count]) for at in range(1, repeats + 1)]
        report("touch: another head", run, times)
    page.evaluate("clocks.head('learned')")
    wake = page.locator("[data-wake]")
    if not wake.count():
        return
    began = time.perf_counter()
    wake.click()
    page.wait_for_selector(".mixer[data-state=awake]", timeout=10 * PATIENCE_MS)
    took = time.perf_counter() - began
    if page.locator("[data-term]").count():
        values = np.random.default_rng(0).uniform(0, 2, repeats + 3).round(2).tolist()
        early = page.evaluate("v => clocks.fader(v)", values[0])  # the learner itself answers: nothing is measured yet
        page.locator("[data-stop]").wait_for(state="hidden", timeout=10 * PATIENCE_MS)
        whole = time.perf_counter() - began
        times = [page.evaluate("v => clocks.fader(v)", value) for value in values[1:]]
        more = {"woken_in_s": round(took, 1), "first_answer_ms": round(early), "all_measured_in_s": round(whole, 1)}
        report("touch: a mixing weight", run, times[2:], **more, images=len(opened_probe(run)))


def opened_probe(run: str) -> list[str]:
    """Ids of the probe images of a recorded run."""
    path = ROOT / "cillab" / "demo" / run.removeprefix("demo-")
    return [str(one) for one in Run(path).probe.ids] if path.is_dir() else []


def sliding(page: Page, url: str, path: str, slider: str, action: str, run: str, repeats: int) -> None:
    """An arrow key on a slider until nothing changes any more."""
    opened(page, f"{url}/{path}", "[data-testid=stSlider]")
    times = []
    for index in range(repeats):
        page.evaluate("void (window.moved = clocks.pressed())")
        page.get_by_role("slider", name=re.compile(slider)).press("ArrowRight" if index % 2 == 0 else "ArrowLeft")
        times.append(page.evaluate("window.moved"))
    report(action, run, times)


def turning(page: Page, url: str, run: str, steps: int, repeats: int) -> None:
    """On every page with a step: an arrow key on it, and another part of the page, until nothing changes any more."""
    for name in STEPPED:
        opened(page, f"{url}/{name}?run={run}&step={steps // 2}", "h1")
        slider = page.get_by_role("slider", name=re.compile("^After task"))
        parts = page.get_by_role("radiogroup").first.get_by_role("radio")
        if not page.locator(".stPlotlyChart, .ci-strip, .ci-cams, .ci-facts").count() or not slider.count():
            continue
        times = []
        for index in range(repeats):
            page.evaluate("void (window.moved = clocks.pressed())")
            slider.press("ArrowRight" if index % 2 == 0 else "ArrowLeft")
            times.append(page.evaluate("window.moved"))
        report("another step", run, times, page=name)
        if name in ("collapse", "drift") and (count := parts.count()) > 1:
            times = []
            for index in range(1, max(repeats // 3, count) + 1):
                page.evaluate("void (window.moved = clocks.clicked())")
                parts.nth(index % count).click()
                times.append(page.evaluate("window.moved"))
            report("another part", run, times, page=name)


def painting(browser: Any, url: str, run: str, path: Path, repeats: int) -> None:
    """A fresh browser session on a warm server, from the request to the last thing the page is about."""
    opened_run = Run(path)
    stored_maps = "cam/true" in opened_run.snapshot(opened_run.steps[-1])
    maps = ".ci-strip" if stored_maps else ".gallery button"  # a run without maps has none to wait for
    for place, ready in (("", "h1"), (f"step_through?run={run}", "[data-step]"), (f"grad_cam?run={run}", maps)):
        times = []
        for index in range(max(3, repeats // 6) + 1):
            context = browser.new_context(viewport={"width": 1280, "height": 900})
            page = context.new_page()
            began = time.perf_counter()
            page.goto(f"{url}/{place}", timeout=PATIENCE_MS, wait_until="commit")
            page.locator(ready).first.wait_for(timeout=PATIENCE_MS)
            if index:  # the first visit warms the server up
                times.append(1000 * (time.perf_counter() - began))
            context.close()
        report("first paint", run, times, page=place.partition("?")[0] or "start")


def reading(path: Path, run: str, repeats: int, folder: Path) -> None:
    """What the server does: opening a run with all its steps, and one look at a run that is being written."""

    def open_it() -> None:
        view = Opened(Entry("x", path, "run"), Run(path))
        _ = view.metrics, len(view.run.probe), view.liveness

    report("open a run", run, timed([open_it] * repeats), steps=len(Run(path).steps))
    live = write_synthetic_run(folder / f"live-{run}", tasks=4, finished=False)
    writer, tail, reader = RunWriter.resume(live), Tail(live / "metrics.jsonl"), Run(live)
    for _ in range(5000):
        writer.log("t03", {"train/loss": 1.0}, task=3)
    tail.read()

    def look() -> None:
        writer.log("t03", {"train/loss": 1.0}, task=3)
        _ = reader.status, reader.liveness(), reader.task_steps, tail.read()

    report("live poll, server", run, timed([look] * repeats))


def explaining(path: Path, run: str, repeats: int) -> None:
    """Grad-CAM of one image for its three targets by the newest learner kept, and the maps of one image as recorded."""
    view = Opened(Entry("x", path, "run"), Run(path))
    rng = np.random.default_rng(0)
    places = rng.integers(len(view.run.probe), size=repeats).tolist()
    if "cam/true" in view.snapshots[-1]:
        report("Grad-CAM, recorded", run, timed([lambda at=at: collect(view, at) for at in places]))
    if not view.run.checkpoints:
        return
    from cillab.explain.gradcam import gradcam  # noqa: PLC0415 (torch, only where a learner is asked)
    from cillab.lab.reopen import reopen  # noqa: PLC0415

    found = reopen(path, max(view.run.checkpoints))
    images, labels = found.probe_images.images, found.probe_images.labels

    def one(at: int) -> Any:
        return gradcam(found.learner, images[at : at + 1], TARGETS, labels=labels[at : at + 1])

    one(0)  # the first pass warms up
    report("Grad-CAM of one image", run, timed([lambda at=at: one(at) for at in places]))


def timed(works: Iterable[Callable[[], Any]]) -> list[float]:
    """Milliseconds of each."""
    times = []
    for work in works:
        began = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - began))
    return times


def cancelling(folder: Path) -> None:
    """A real run in its own process, from the order to its end."""
    spec = RunSpec(
        stream=StreamSpec(data="digits", split="B0-Inc5", train_per_class=20), learner="finetune",
        params={"epochs": 5000}, probe_points=10,
    )  # fmt: skip
    times = []
    for index in range(3):
        job = start(spec.with_(out=str(folder / f"cancel-{index}")))
        while job.status.state != "running":
            if not job.alive:
                raise CillabError(job.log()[-300:])
            time.sleep(0.1)
        time.sleep(1.0)
        began = time.perf_counter()
        job.cancel()
        times.append(1000 * (time.perf_counter() - began))
        assert not job.alive
    report("cancel", "digits", times)


def main() -> None:
    """Everything, or what --only names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument(
        "--large",
        default="100x10x2000",
        help="tasks x classes per task x probe points, a folder called large with such a run, or none",
    )
    parser.add_argument("--only", default=",".join(GROUPS), help="any of the default")
    given = parser.parse_args()
    wanted = set(given.only.split(","))
    if not wanted <= set(GROUPS):
        parser.error(f"--only {given.only}: choose among {', '.join(GROUPS)}")
    if CHROMIUM is None:
        sys.exit(MISSING)
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
    }
    print(json.dumps({"machine": machine, "python": platform.python_version()}))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        runs = {"demo-min": ROOT / "cillab" / "demo" / "min"}
        store = folder / "runs"
        store.mkdir()
        if Path(given.large).is_dir():
            Run(given.large)  # another folder would show, and measure, the recorded run
            runs["large"], store = Path(given.large), Path(given.large).parent
        elif given.large != "none":
            tasks, each, points = map(int, given.large.split("x"))
            began = time.perf_counter()
            runs["large"] = write_synthetic_run(store / "large", tasks, each, points, noise=False, cams=False)
            print(json.dumps({"large_run": given.large, "written_in_s": round(time.perf_counter() - began)}))
        for name, work in measurements(folder, store, runs, given.repeats, wanted):
            try:
                work()
            except Exception as error:
                failed(name, "", error)


def measurements(
    folder: Path, store: Path, runs: dict[str, Path], repeats: int, wanted: set[str]
) -> Iterator[tuple[str, Callable]]:
    """Each with its name; the server and the browser live as long as they are needed."""
    here = {
        "read": lambda run, path: reading(path, run, repeats, folder),
        "explain": lambda run, path: explaining(path, run, repeats),
    }
    for name, work in here.items():
        for run, path in runs.items() if name in wanted else ():
            yield name, partial(work, run, path)
    if "cancel" in wanted:
        yield "cancel", lambda: cancelling(folder)
    if wanted <= {*here, "cancel"}:
        return
    with serve({"CILLAB_RUNS": str(store)}) as url, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.add_init_script(FRAMES)

        def slide(run: str, path: Path) -> None:
            sliding(page, url, f"head_lab?run={run}&head=Ridge", GAMMA, "head-lab slider", run, repeats)

        on_screen = {
            "step": lambda run, path: stepping(page, url, run, len(Run(path).steps), repeats),
            "choose": lambda run, path: choosing(page, url, run, repeats),
            "touch": lambda run, path: touching(page, url, run, repeats),
            "slide": slide,
            "turn": lambda run, path: turning(page, url, run, len(Run(path).steps), repeats),
            "paint": lambda run, path: painting(browser, url, run, path, repeats),
        }
        for run, path in runs.items():
            for name, work in on_screen.items():
                if name in wanted:
                    yield name, partial(work, run, path)
        if "slide" in wanted:
            yield "slide", lambda: sliding(page, url, "toy_collapse", "^Classes", "toy slider", "toy", repeats)
        browser.close()


if __name__ == "__main__":
    main()
