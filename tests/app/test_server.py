"""What the process of the server is told."""

import json
import os
import subprocess
import sys
import time
from contextlib import nullcontext

import pytest

from app.shell import safety
from tests.app.conftest import ROOT

ASK = """
import json, numpy
from threadpoolctl import threadpool_info
from app.shell.server import one_thread_each
threads = lambda: [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
before = threads()
one_thread_each()
print(json.dumps([before, threads()]))
"""


def test_matrix_products_take_one_thread() -> None:
    env = os.environ | {"OPENBLAS_NUM_THREADS": "2", "MKL_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", ASK], cwd=ROOT, env=env, capture_output=True, text=True, check=True, timeout=120
    )
    before, after = json.loads(done.stdout.splitlines()[-1])
    assert max(before) == 2
    assert set(after) == {1}


@pytest.mark.parametrize(("address", "shown"), [(None, False), ("localhost", True), ("0.0.0.0", True)])
def test_a_server_that_nobody_told_where_to_listen_shows_nothing(address, shown, monkeypatch) -> None:
    class StoppedError(Exception):
        pass

    def stop():
        raise StoppedError

    said = []
    monkeypatch.setattr(safety.config, "get_option", lambda name: {"server.address": address}[name])
    monkeypatch.setattr(safety.html, "empty", lambda *texts: said.append(texts))
    monkeypatch.setattr(safety.st, "stop", stop)
    with nullcontext() if shown else pytest.raises(StoppedError):
        safety.must_be_local()
    assert bool(said) is not shown


def test_that_is_asked_first() -> None:
    text = (ROOT / "app" / "main.py").read_text()
    assert text.index("safety.must_be_local()") < text.index("st.navigation(")


def test_what_was_kept_goes_when_the_last_visitor_has_left_and_the_next_finds_a_page(folders, only_these_runs) -> None:
    from app.shell import kept, server
    from tests.app.test_pages import cockpit_of, opened

    only_these_runs(folders["noise"])
    asked: list[int] = []

    @kept.keep(1000, lambda value: 8, lambda number: number)
    def double(number: int) -> int:
        asked.append(number)
        return 2 * number

    visitors = server.Visitors(empty_s=0.2)
    before = cockpit_of(opened("step_through", run="first"))
    for _ in range(2):
        visitors.came()
    double(4)
    visitors.left()
    time.sleep(0.4)
    assert double(4) == 8 and asked == [4]  # somebody is still here
    visitors.left()
    visitors.came()
    time.sleep(0.4)
    assert double(4) == 8 and asked == [4]  # somebody came back in time
    visitors.left()
    time.sleep(1.5)
    assert double(4) == 8 and asked == [4, 4]
    assert cockpit_of(opened("step_through", run="first"))["token"] == before["token"]


def test_a_job_that_nobody_can_ask_any_more_is_stopped() -> None:
    from app.learner import waking

    job = waking.Waking("key", "run", 0)
    waking._end({"job": job})
    assert job.stop.is_set() and job.state == "stopped"
