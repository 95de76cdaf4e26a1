"""The cockpit in a real browser: one screen, all of it of the step that the map shows, also while it plays."""

import math
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install 'cillab[browser]'")

from cillab import cockpit
from cillab.demo import demo_runs
from cillab.figures.angles import read_angles
from cillab.figures.collapse import PANELS as COLLAPSE, read_collapse
from cillab.figures.drift import read_drift
from cillab.player import Blob
from cillab.runs import Run
from tests.app.serving import CHROMIUM, MISSING, serve
from tests.app.test_browser import _WAIT_MS, browser, page, ready  # noqa: F401 (fixtures)
from tests.runs.synthetic import write_synthetic_run

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason=MISSING),
]
PANELS = ("nc1", "nc2", "nc3", "nc4", "angles", "drift", "matrix", "own", "cams")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    write_synthetic_run(folder / "first", noise=True, cams=True)
    second = write_synthetic_run(folder / "second", noise=False)
    (second / "checkpoints").mkdir(exist_ok=True)
    (second / "checkpoints" / "t04.safetensors").touch()  # it could be asked: nobody does so here
    return folder


@pytest.fixture(scope="module")
def address(runs) -> Iterator[str]:
    with serve({"CILLAB_RUNS": str(runs)}) as url:
        yield url


@pytest.mark.parametrize("query", ["run=first", "run=first&versus=second"])
@pytest.mark.parametrize(("width", "height"), [(1440, 900), (1920, 1080)])
def test_all_of_it_is_on_one_screen(page, address, width, height, query) -> None:  # noqa: F811
    page.set_viewport_size({"width": width, "height": height})
    ready(page, f"{address}/step_through?{query}")
    page.wait_for_selector(".player[data-step]", timeout=_WAIT_MS)
    page.wait_for_timeout(500)
    over = "n => [n.scrollHeight - n.clientHeight, n.scrollWidth - n.clientWidth]"
    assert max(page.locator(".stMain").evaluate(over)) <= 0
    for name in PANELS:
        box = page.locator(f"[data-panel={name}]").bounding_box()
        assert box["width"] > 150 and box["height"] > 60, name
        assert box["y"] + box["height"] <= height and box["x"] + box["width"] <= width, name
    panes = page.locator(".panes").bounding_box()
    assert 0.5 < panes["width"] / width < 0.7


_NOW = """node => {
  const text = name => node.querySelector(`[data-panel=${name}] output`).textContent;
  return {
    step: Number(node.dataset.step), label: node.querySelector('.label b').textContent,
    ...Object.fromEntries([...node.querySelectorAll('[data-panel]')].map(n => n.dataset.panel).map(n => [n, text(n)])),
    cells: [...node.querySelectorAll('.facts td')].map(n => n.textContent),
  };
}"""


class Expected:
    """What every panel must say at a step, worked out from the run folder by the figures' own readers."""

    def __init__(self, run: Run) -> None:
        self.run, self.blob = run, Blob()
        metrics = run.metrics()
        self.seen = metrics.over("accuracy/seen", run.steps)
        series, nothing = read_collapse(run).series, np.full(len(run.steps), math.nan)
        self.nc = {
            panel: next((v for name in scalars if np.isfinite(v := series[f"train/{name}"]).any()), nothing)
            for panel, (_, _, scalars) in zip(("nc1", "nc2", "nc3", "nc4"), COLLAPSE, strict=True)
        }
        self.angles, self.drift = read_angles(run), read_drift(run).mean
        shots = [run.snapshot(step) for step in run.steps]
        self.own, self.image = cockpit.own(run, shots, self.blob)[0], cockpit.clearest(shots)

    def check(self, now: dict, at: int) -> None:
        """Every text of a moment against the step that it says it is of."""
        run, shot = self.run, self.run.snapshot(self.run.steps[at])
        assert now["label"] == run_label(run, at)
        assert now["matrix"] == now["cells"][0]
        assert math.isclose(number(now["matrix"]), 100 * self.seen[at], abs_tol=0.06)
        for panel, values in self.nc.items():
            same(now[panel], values[at] * (100 if panel == "nc4" else 1))
        found = self.angles.steps[run.steps[at]]
        weights = np.asarray(found.pairs, dtype=float)
        same(now["angles"], float(np.nansum(weights * np.nan_to_num(found.means)) / weights.sum()))
        row = self.drift[at][np.isfinite(self.drift[at])]
        same(now["drift"], float(row.mean()) if len(row) else math.nan)
        place = self.own["steps"][at]["at"]
        values = np.frombuffer(bytes(self.blob.data[place[0] : sum(place)]), np.float32)
        low, high = now["own"].split(" to ")
        same(low, float(np.nanmin(values)))
        same(high, float(np.nanmax(values)))
        label, answer = int(run.probe.labels[self.image]), int(shot["predictions"][self.image])
        right = "✓ answered rightly" if label == answer else f"✗ {run.info.name_of(answer)}"
        assert now["cams"] == (right if label in shot["seen"] else "class still to come")


def same(text: str, value: float) -> None:
    """A text of the browser says a number to three digits, a dash for none."""
    if math.isnan(value):
        assert text == "\N{EN DASH}"
    else:
        assert math.isclose(number(text), value, rel_tol=6e-3, abs_tol=0.06 if "%" in text else 1e-9), (text, value)


def test_every_panel_is_of_the_step_on_the_map_by_hand_and_while_it_plays(page, address, runs) -> None:  # noqa: F811
    run = Run(runs / "first")
    expected = Expected(run)
    ready(page, f"{address}/step_through?run=first&step=0")
    page.wait_for_selector(".player[data-step='0']", timeout=_WAIT_MS)
    page.get_by_role("button", name="Play (space)").click()
    steps, last = set(), len(run.steps) - 1
    while max(steps, default=0) < last:
        now = page.locator(".cockpit").evaluate(_NOW)
        steps.add(now["step"])
        expected.check(now, now["step"])
        page.wait_for_timeout(25)
    assert len(steps) > 1  # a busy machine may miss some while it plays; by hand none is missed
    for at in reversed(range(last)):
        page.keyboard.press("ArrowLeft")
        page.wait_for_selector(f".player[data-step='{at}']", timeout=_WAIT_MS)
        page.wait_for_timeout(450)  # the glide
        expected.check(page.locator(".cockpit").evaluate(_NOW), at)


def run_label(run: Run, at: int) -> str:
    return f"Task {run.snapshot(run.steps[at]).task + 1} of {len(run.info.tasks)}"


def test_a_panel_grows_and_then_leads_to_the_page_that_explains_it(page, address) -> None:  # noqa: F811
    page.set_viewport_size({"width": 1440, "height": 900})
    ready(page, f"{address}/step_through?run=first&step=2")
    page.wait_for_selector(".player[data-step='2']", timeout=_WAIT_MS)
    face = page.locator("[data-panel=own] .face")
    small = face.bounding_box()["width"]
    face.click()
    page.wait_for_selector("[data-grown=own]", timeout=_WAIT_MS)
    assert face.bounding_box()["width"] > 1.8 * small
    page.keyboard.press("Escape")
    page.wait_for_selector("[data-grown='']", timeout=_WAIT_MS)
    face.click()
    face.click()
    page.locator("h1", has_text="Noise mixing").wait_for(timeout=_WAIT_MS)
    page.wait_for_url("**step=2*", timeout=_WAIT_MS)


def test_two_runs_share_axes_and_say_how_they_differ(page, address) -> None:  # noqa: F811
    ready(page, f"{address}/step_through?run=first&versus=second")
    page.wait_for_selector(".player[data-step]", timeout=_WAIT_MS)
    rows = page.locator(".facts tr")
    assert rows.count() == 4
    first, second, difference = (number(rows.nth(at).locator("td").first.inner_text()) for at in (1, 2, 3))
    assert math.isclose(difference, second - first, abs_tol=0.11)


def number(text: str) -> float:
    """The number of a cell: `+1.2 points`."""
    return float(text.split(maxsplit=1)[0].replace("\u2212", "-"))


def test_a_lecture_sets_step_and_panel_and_keys_turn_it(page, address, runs) -> None:  # noqa: F811
    (runs / "lectures").mkdir(exist_ok=True)
    (runs / "lectures" / "monday.yaml").write_text(
        "title: Monday\nstops:\n"
        "- {page: step_through, title: One, view: {run: first, step: 1, panel: angles}}\n"
        "- {page: step_through, title: Two, view: {run: first, step: 3, panel: null}}\n"
    )
    page.set_viewport_size({"width": 1440, "height": 900})
    ready(page, f"{address}/step_through?run=first&step=1&tour=monday.1")
    page.wait_for_selector(".player[data-step='1']", timeout=_WAIT_MS)
    page.wait_for_selector("[data-grown=angles]", timeout=_WAIT_MS)
    page.wait_for_timeout(1000)
    over = "n => n.scrollHeight - n.clientHeight"
    assert page.locator(".stMain").evaluate(over) <= 0
    page.keyboard.press("PageDown")
    page.wait_for_selector(".player[data-step='3']", timeout=_WAIT_MS)
    page.wait_for_selector("[data-grown='']", timeout=_WAIT_MS)
    small = page.locator(".player").evaluate("n => parseFloat(getComputedStyle(n).fontSize)")
    page.keyboard.press("f")
    page.wait_for_selector("html[data-lecture]", state="attached", timeout=_WAIT_MS)
    assert page.locator(".player").evaluate("n => parseFloat(getComputedStyle(n).fontSize)") > 1.2 * small
    page.keyboard.press("PageUp")
    page.wait_for_selector(".player[data-step='1']", timeout=_WAIT_MS)


def test_a_run_in_training_opens_and_grows(page, address, runs) -> None:  # noqa: F811
    source = write_synthetic_run(runs.parent / "elsewhere", noise=True, cams=True, finished=False)
    late = sorted((source / "steps").glob("*.safetensors"))[-1]
    kept = late.read_bytes()
    late.unlink()
    source.rename(runs / "going")
    ready(page, f"{address}/step_through?run=going")
    page.locator(".st-key-live-strip").wait_for(timeout=_WAIT_MS)
    before = page.locator(".timeline input").get_attribute("max")
    page.wait_for_timeout(1500)
    (runs / "going" / "steps" / late.name).write_bytes(kept)
    page.locator(f".timeline input[max='{int(before) + 1}']").wait_for(timeout=_WAIT_MS)
    page.wait_for_selector(f".player[data-step='{int(before) + 1}']", timeout=_WAIT_MS)
    page.wait_for_timeout(500)
    Expected(Run(runs / "going")).check(page.locator(".cockpit").evaluate(_NOW), int(before) + 1)
    page.get_by_role("button", name="Train").click()
    page.locator("h1", has_text="Train").wait_for(timeout=_WAIT_MS)


_SAID = """node => ({
  step: Number(node.dataset.step), head: node.dataset.head, title: node.querySelector('.pane .title b').textContent,
  matrix: node.querySelector('[data-panel=matrix] output').textContent,
  cells: [...node.querySelectorAll('.facts td')].map(n => n.textContent),
})"""


def test_another_head_answers_at_once_and_at_every_step(page, address, runs) -> None:  # noqa: F811
    from cillab.player import head_answers

    run = Run(runs / "first")
    shots = [run.snapshot(step) for step in run.steps]
    ridge = head_answers(run, shots)["ridge"]
    ready(page, f"{address}/step_through?run=first&step=2")
    page.wait_for_selector(".player[data-step='2']", timeout=_WAIT_MS)
    page.locator("[data-head=ridge]").click()
    page.wait_for_url("**by=ridge*", timeout=_WAIT_MS)
    for step in (2, 1):
        page.wait_for_selector(f".player[data-step='{step}']", timeout=_WAIT_MS)
        said, seen = page.locator(".cockpit").evaluate(_SAID), run.probe.tasks <= shots[step].task
        right = 100 * (ridge[step] == run.probe.labels)[seen].mean()
        changed = int((ridge[step] != shots[step]["predictions"])[seen].sum())
        assert said["head"] == "ridge"
        for text in (said["title"], said["matrix"], said["cells"][6]):
            assert math.isclose(number(text), right, abs_tol=0.06), said
        assert said["cells"][9] == f"{changed} of {int(seen.sum())}"
        page.keyboard.press("ArrowLeft")
    page.reload()
    page.wait_for_selector(".player[data-head=ridge]", timeout=_WAIT_MS)
    page.locator("[data-head=learned]").click()
    page.wait_for_url(lambda url: "by=" not in url, timeout=_WAIT_MS)
    assert "probe" not in page.locator(".pane .title b").inner_text()


_PICTURE = "node => node.toDataURL()"


def test_the_frame_in_space_is_chosen_turned_and_follows_the_step(page, address, runs) -> None:  # noqa: F811
    from cillab.geometry.rows import centre, unit

    run = Run(runs / "first")

    def cosines(step: int, classes: tuple[int, ...]) -> list[float]:
        shot = run.snapshot(run.steps[step])
        at = [shot["seen"].tolist().index(run.order[c]) for c in classes]
        rows = unit(centre(shot["means/now"].astype(float)))[at]
        return [float(rows[a] @ rows[b]) for a in range(len(classes)) for b in range(a + 1, len(classes))]

    def told() -> list[float]:
        text = page.locator(".said b").inner_text().partition(";")[0].removeprefix("cosines ")
        return [number(one) for one in text.split(", ")]

    page.set_viewport_size({"width": 1440, "height": 900})
    ready(page, f"{address}/step_through?run=first&step=4")
    page.wait_for_selector(".player[data-step='4']", timeout=_WAIT_MS)
    page.get_by_role("button", name="Frame", exact=True).click()
    page.wait_for_url("**frame=0.1.2*", timeout=_WAIT_MS)
    space = page.locator("canvas.space")
    assert all(math.isclose(a, b, abs_tol=6e-3) for a, b in zip(told(), cosines(4, (0, 1, 2)), strict=True))
    before, box = space.evaluate(_PICTURE), space.bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 320, box["y"] + 240, steps=4)
    page.mouse.up()
    assert space.evaluate(_PICTURE) != before
    page.locator("[data-class='3']").select_option("5")
    page.wait_for_url("**frame=0.1.2.5*", timeout=_WAIT_MS)
    assert all(math.isclose(a, b, abs_tol=6e-3) for a, b in zip(told(), cosines(4, (0, 1, 2, 5)), strict=True))
    page.keyboard.press("Escape")
    page.get_by_role("button", name="First step (Home)").click()
    page.wait_for_selector(".player[data-step='0']", timeout=_WAIT_MS)
    assert len(told()) == 3  # the fourth class is still to come
    page.reload()
    page.wait_for_selector(".pane[data-view=frame]", timeout=_WAIT_MS)
    over = "n => n.scrollHeight - n.clientHeight"
    assert page.locator(".stMain").evaluate(over) <= 0


def test_what_changed_names_classes_that_light_up(page, address) -> None:  # noqa: F811
    run = Run(demo_runs()["finetune"])  # it forgets at every step
    before, now = (run.snapshot(run.steps[at])["predictions"] for at in (8, 9))
    labels, old = run.probe.labels, run.probe.tasks <= 8
    right = {c: [int((one[labels == c] == c).sum()) for one in (before, now)] for c in set(labels[old].tolist())}
    worse = [c for c, (a, b) in right.items() if b < a]
    page.set_viewport_size({"width": 1440, "height": 900})
    ready(page, f"{address}/step_through?run=demo-finetune&step=9")
    page.wait_for_selector(".player[data-step='9']", timeout=_WAIT_MS)
    line = page.locator(".changes")
    assert f"{len(worse)} {'classes' if len(worse) > 1 else 'class'} lost answers" in line.inner_text()
    chip = line.locator("button").first
    cls = run.order[int(chip.get_attribute("data-lit"))]
    a, b = right[cls]
    assert chip.inner_text() == f"{a} → {b} {run.info.name_of(cls)}"
    assert f"{a} of {int((labels == cls).sum())} right before, {b} now" in chip.get_attribute("title")
    canvas = page.locator(".pane canvas").first
    dark = canvas.evaluate(_PICTURE)
    chip.hover()
    page.wait_for_timeout(100)
    assert canvas.evaluate(_PICTURE) != dark
    page.mouse.move(5, 5)
    page.wait_for_timeout(100)
    assert canvas.evaluate(_PICTURE) == dark


def test_maps_below_their_noise_floor_are_named_and_not_drawn(page, address, runs) -> None:  # noqa: F811
    run = Run(runs / "first")
    shot = run.snapshot(run.steps[-1])
    weak = int((shot["cam_scale/true"] < shot["cam_floor/true"]).argmax())
    ready(page, f"{address}/grad_cam?run=first&step=4&point={run.probe.ids[weak]}")
    page.locator(".ci-big .void", has_text="below the noise floor").first.wait_for(timeout=_WAIT_MS)
    ready(page, f"{address}/step_through?run=first&step=4&point={run.probe.ids[weak]}")
    page.wait_for_selector(".player[data-step='4']", timeout=_WAIT_MS)
    assert "noise floor" in page.locator("[data-panel=cams] .caption span").inner_text()


# A server whose learner is awake, answering with two maps: one reaches above the floor.
_AWAKE = """() => {
  const pack = (array) => btoa(String.fromCharCode(...new Uint8Array(array.buffer)));
  const { token, step } = window.cillabTouched;
  const awake = { token, step, state: "awake", words: "", terms: 0, floors: [0.2, 0.2, null], answer: null };
  const tell = (more) => window.dispatchEvent(new CustomEvent("cillab-touched", { detail: { ...awake, ...more } }));
  window.addEventListener("cillab-ask", (event) => {
    event.stopImmediatePropagation();
    const { at, head, index } = event.detail, map = (top) => pack(new Float32Array([top, 0, 0, 0]));
    const cam = { index, grid: [2, 2], maps: { true: map(0.9), predicted: map(0.1) } };
    tell({ answer: { at, head, cam, exact: true, ms: 1, xy: null, predicted: pack(new Uint16Array(1)) } });
  }, true);
  tell({});
}"""


def test_a_run_without_maps_has_them_once_its_learner_is_awake(page, address) -> None:  # noqa: F811
    page.set_viewport_size({"width": 1440, "height": 900})
    ready(page, f"{address}/step_through?run=second&step=4")
    page.locator("[data-wake]").wait_for(timeout=_WAIT_MS)
    canvas = page.locator("[data-panel=cams] canvas")
    before = canvas.evaluate(_PICTURE)
    page.evaluate(_AWAKE)
    said = page.locator("[data-panel=cams] .caption span", has_text="woken learner")
    said.wait_for(timeout=_WAIT_MS)
    assert said.inner_text() == "computed by the woken learner, up to 0.9, noise floor 0.2"
    assert canvas.evaluate(_PICTURE) != before
