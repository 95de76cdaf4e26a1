"""Waking a learner: stopped, the page is free at once; what fails is said; what it took is told to the next visitor."""

import base64
import gc
import json
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("streamlit")
import streamlit as st
from streamlit.testing.v1 import AppTest

from app.learner import waking
from app.player import touching
from app.shell.store import Entry, Opened
from cillab.core.errors import RunError
from cillab.plane import Plane, lay, quantise, square
from cillab.runs import Run
from tests.app.conftest import ROOT
from tests.runs.edit import unsealed
from tests.runs.synthetic import write_synthetic_run

pytestmark = pytest.mark.app


class Found:
    """A what-if of two batches, and three more once it can be asked; events hold it after the first and the third."""

    count, agreement, batches = 3, 1.0, 2

    def __init__(self, gate: threading.Event, later: threading.Event) -> None:
        self.gate, self.later = gate, later

    def floors(self) -> dict[str, float]:
        return {"predicted": 0.5}

    def measure(self):
        yield 1, 5
        self.gate.wait(10)
        yield 2, 5
        yield 3, 5
        self.later.wait(10)
        yield 4, 5
        yield 5, 5


@pytest.fixture
def job(tmp_path, monkeypatch: pytest.MonkeyPatch):
    class Reopened:
        learner = None

        class probe_images:
            images = labels = None

    gate, later = threading.Event(), threading.Event()
    monkeypatch.setenv("CILLAB_CACHE", str(tmp_path))
    monkeypatch.setattr("cillab.lab.reopen.reopen", lambda path, task: Reopened)
    monkeypatch.setattr("cillab.lab.whatif.WhatIf", lambda *_: Found(gate, later))
    yield waking.Waking("key", "run", 0), gate, later
    gate.set()
    later.set()
    for thread in threading.enumerate():  # its last deed is a note of what it took: not in the next test's cache
        if thread.name == "measuring":
            thread.join(10)


def test_it_wakes_and_the_next_visitor_is_told_how_long_it_took(job) -> None:
    mine, gate, later = job
    gc.unfreeze()
    assert waking.before("key") == ""
    gate.set()
    later.set()
    mine.run()
    assert (mine.state, mine.share, mine.floors) == ("awake", 1.0, {"predicted": 0.5})
    assert waking.before("key").startswith("It took 0 s on this machine the last time")
    for name, took in (("slow", 7), ("slow whole", 52)):
        waking.remember(name, took)
    assert waking.before("slow").endswith("the last time, and 52 s until mixtures were answered at once.")
    assert gc.get_freeze_count() > 0  # torch is not walked through after every answer: 284 ms each


def test_it_is_awake_before_all_is_measured_which_can_be_stopped_and_taken_up_again(job) -> None:
    mine, gate, later = job
    gate.set()
    thread = threading.Thread(target=mine.run)
    thread.start()
    while mine.done < 3:
        time.sleep(0.001)
    assert mine.state == "awake" and mine.what_if is not None and mine.measuring
    assert "3 of 5 batches" in mine.said()
    assert "until mixtures" not in waking.before("key")
    mine.end()
    later.set()
    thread.join(10)
    assert mine.state == "awake" and mine.halted and not mine.measuring  # only the measuring has ended
    mine.resume()
    while mine.done < 5:
        time.sleep(0.001)
    assert mine.state == "awake" and not mine.halted and not mine.measuring


def test_stopped_the_page_is_free_at_once_and_stays_so(job) -> None:
    mine, gate, _ = job
    thread = threading.Thread(target=mine.run)
    thread.start()
    while mine.done < 1:
        time.sleep(0.001)
    assert "1 of 2 batches" in mine.said()
    mine.end()
    assert mine.state == "stopped"
    gate.set()
    thread.join(10)
    assert mine.state == "stopped" and mine.what_if is None
    assert waking.before("key") == ""  # what was not finished took no time that could be told


def test_a_stop_between_the_last_look_and_awake_is_not_overwritten(job) -> None:
    mine, gate, later = job
    gate.set()
    later.set()
    said: list[str] = []

    def stop() -> None:
        mine.end()
        said.append(mine.state)

    class Late(threading.Event):
        """Says that nobody has stopped, and then somebody does."""

        looks = 0

        def is_set(self) -> bool:
            answer, self.looks = super().is_set(), self.looks + 1
            if self.looks == 4:  # after loading, after each of two batches, and before it is awake
                stopping.start()
                stopping.join(0.5)
            return answer

    stopping = threading.Thread(target=stop)
    mine.stop = Late()
    mine.run()
    stopping.join(60)
    assert said == [mine.state] and (mine.what_if is None) == (mine.state == "stopped")


def test_what_fails_is_said_in_a_line(job, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path, task):
        raise RunError("the weights are gone.")

    monkeypatch.setattr("cillab.lab.reopen.reopen", broken)
    job[0].run()
    assert (job[0].state, job[0].said()) == ("failed", "the weights are gone.")


def test_features_of_a_mixture_lie_where_the_map_puts_those_of_the_run(tmp_path) -> None:
    run = Run(write_synthetic_run(tmp_path / "run", tasks=2))
    plane, features = lay(run), np.asarray(run.snapshot(run.steps[-1])["features"], np.float32)
    found = touching._places(plane, features)
    assert found is not None
    places = np.frombuffer(base64.b64decode(found), "<i2").reshape(-1, 2)
    np.testing.assert_allclose(places, quantise(plane.points[-1], square(plane.points)), atol=1)
    assert touching._places(Plane(plane.steps, plane.points), features) is None  # a layout that is no linear map


def page(view):
    import streamlit as st

    from app.learner import waking

    if st.toggle("Rebuild", key="live"):
        found = waking.awake(view, 0, waking.Waking)
        st.write("on its way" if found is None else found if isinstance(found, str) else "awake")
        st.write("the rest of the page")


def test_a_page_goes_on_while_a_learner_wakes_and_can_stop_it(job, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, gate, later = job
    later.set()
    (tmp_path / "state").touch()
    run = SimpleNamespace(path=tmp_path, checkpoint=lambda task: tmp_path / "state", probe=[1])
    view = SimpleNamespace(run=run, entry=SimpleNamespace(kind="demo"))
    test = AppTest.from_function(page, args=(view,), default_timeout=20).run()
    monkeypatch.setattr(type(st.context), "headers", {"a": "browser"})
    test.toggle(key="live").set_value(True).run()
    assert {"on its way", "the rest of the page"} <= {one.value for one in test.markdown}
    (stop,) = (button for button in test.button if button.label == "Stop")
    stop.click().run()
    assert not test.toggle(key="live").value
    assert not test.exception
    gate.set()
    test.toggle(key="live").set_value(True).run()
    assert "awake" in [one.value for one in test.markdown]  # asked again it is woken anew, and done at once


@pytest.mark.parametrize("outside", ["folder:{}/elsewhere", "parquet:{}/elsewhere", "hf:{}/elsewhere", "weights"])
@pytest.mark.parametrize("page", ["noise_mixing", "grad_cam", "the player"])
def test_an_address_wakes_no_run_that_names_files_outside_the_data_folder(
    page, outside, tmp_path, only_these_runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_synthetic_run(tmp_path / "runs" / "sent", tasks=2, noise=True, cams=True)
    info = json.loads(unsealed((path / "run.json").read_text()))
    (tmp_path / "elsewhere").mkdir()
    info["spec"] |= {"weights": str(tmp_path / "w")} if outside == "weights" else {"data": outside.format(tmp_path)}
    (path / "run.json").write_text(json.dumps(info))
    (path / "checkpoints").mkdir(exist_ok=True)
    for task in range(2):
        (path / "checkpoints" / f"t{task:02}.safetensors").touch()
    opened: list[str] = []
    monkeypatch.setattr("cillab.lab.reopen.reopen", lambda run, task: opened.append(run))
    monkeypatch.setenv("CILLAB_DATA", str(tmp_path / "declared"))
    monkeypatch.setenv("CILLAB_CACHE", str(tmp_path / "cache"))
    only_these_runs(tmp_path / "runs")
    waking._jobs.clear()
    if page == "the player":
        view = Opened(Entry("sent", path, "run"), Run(path))
        monkeypatch.setattr(touching, "possible", lambda: True)
        touching.listen(view, {"ask": "wake", "step": 1})
        job = waking.job(view, view.snapshots[1].task)
        assert job is not None and job.state == "failed"
        said = job.said()
    else:
        test = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=60)
        test.query_params["run"], test.query_params["live"] = "sent", "true"
        test.switch_page(f"views/{page}/{page}.py").run()
        assert not test.exception
        said = " ".join(element.proto.body for element in test.get("html"))
        said += " ".join(element.value for element in (*test.markdown, *test.caption, *test.warning, *test.info))
    assert not opened and "data folder" in said and "outside this app" in said
