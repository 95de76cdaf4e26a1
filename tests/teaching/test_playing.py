"""The player in a notebook: the widget holds the arrays of the run, and its module is the one that the app mounts."""

import base64
import json
import shutil
import subprocess
from functools import partial

import numpy as np
import pytest

pytest.importorskip("anywidget")

from cillab.core.errors import InvalidRequestError, UnknownNameError
from cillab.plane import lay, quantise, square
from cillab.player import CSS, name, source
from cillab.runs import Run
from cillab.teaching import player
from tests.runs.synthetic import write_synthetic_run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return Run(write_synthetic_run(tmp_path_factory.mktemp("runs") / "one", probe=90))


def read(blob: str, place: tuple[int, int], dtype: type) -> np.ndarray:
    offset, length = place
    return np.frombuffer(base64.b64decode(blob)[offset : offset + length], dtype)


def test_the_state_holds_every_probe_point_at_every_step(run) -> None:
    state = player(run).get_state()
    (packed,) = state["data"]["runs"]
    decoded = partial(read, state["data"]["blob"])
    steps = len(run.steps)
    assert state["step"] == steps - 1
    points = lay(run, name(run).snapshots).points
    np.testing.assert_array_equal(
        decoded(packed["xy"], np.int16).reshape(steps, 90, 2), quantise(points, square(points))
    )
    answers = decoded(packed["predicted"], np.uint16).reshape(steps, 90)
    order = np.array(run.order)
    for at, step in enumerate(run.steps):
        np.testing.assert_array_equal(order[answers[at]], run.snapshot(step)["predictions"])
    np.testing.assert_array_equal(order[decoded(packed["cls"], np.uint16)], run.probe.labels)
    np.testing.assert_allclose(packed["accuracy"], run.metrics().over("accuracy/seen", run.steps))
    assert run.probe.sprites is not None
    assert decoded(packed["sprites"]["at"], np.uint8).tobytes() == run.probe.sprites.read_bytes()
    assert packed["steps"][0]["label"] == f"Task 1 of {len(run.info.tasks)}"
    assert str(run.path.parent) not in str(state["data"])  # nothing of this machine


def test_options_and_a_second_run_come_along(run) -> None:
    widget = player(run, run, step=1, plane="variance", trails=True)
    assert len(widget.data["runs"]) == 2
    assert widget.step == 1
    assert widget.data["show"] == {"trails": True}
    assert widget.data["token"] != player(run, run).data["token"]


def test_what_cannot_be_shown_is_said(run) -> None:
    with pytest.raises(InvalidRequestError, match="one or two runs, got 0"):
        player()
    with pytest.raises(UnknownNameError, match="Valid: classes, variance"):
        player(run, plane="umap")


def test_the_style_stays_inside_the_widget(run) -> None:
    css = player(run)._css
    assert css.startswith(".cillab-player {")
    assert CSS.read_text() in css
    assert css.count("{") == css.count("}")


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node to load an ES module")
def test_the_modules_serve_all_hosts_alone_and_in_one_text(tmp_path) -> None:
    home = CSS.parent / "js"
    (tmp_path / "one.mjs").write_text(source("player"))
    (tmp_path / "toy.mjs").write_text(source("toy"))
    for path in (home / "player.js", tmp_path / "one.mjs"):
        ask = f"const m = await import({str(path)!r}); console.log(typeof m.default().render, typeof m.mount)"
        done = subprocess.run(["node", "--input-type=module", "-e", ask], capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["function", "function"]
    ask = f"console.log(typeof (await import({str(tmp_path / 'toy.mjs')!r})).default)"
    done = subprocess.run(["node", "--input-type=module", "-e", ask], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["function"]
    assert "import " not in source("player").split("\nexport", 1)[0].replace("// ", "")


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node to load an ES module")
def test_the_card_of_a_point_is_never_cut() -> None:
    """Wherever the pointer is and however tall the card, all of it lies in what the window shows of the player."""
    module = str(CSS.parent / "js" / "selecting.js")
    ask = f"""const {{ cardAt }} = await import({module!r}); const out = [];
        const room = {{ left: 40, top: 100, right: 700, bottom: 520 }};
        for (const x of [40, 300, 500, 699]) for (const y of [100, 300, 519]) for (const height of [112, 260])
          out.push([...cardAt(x, y, {{ width: 258, height }}, room), x, height]);
        console.log(JSON.stringify(out));"""
    done = subprocess.run(["node", "--input-type=module", "-e", ask], capture_output=True, text=True, check=True)
    for left, top, x, height in json.loads(done.stdout):
        assert left >= 40 and left + 258 <= 700 and top >= 100 and top + height <= 520
        assert left > x or left + 258 < x  # not over the point either


def test_no_module_is_longer_than_four_hundred_lines() -> None:
    for path in (CSS.parent / "js").glob("*.js"):
        assert len(path.read_text().splitlines()) < 400, path.name
