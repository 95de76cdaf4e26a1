"""Waking a learner in the background: how far it is, how long it took here, and a way to stop it.

Loading torch, a checkpoint and the data takes a minute on a slow machine. It happens in a thread, so that the page
answers meanwhile; what it took is remembered per run on this machine, so that the next visitor is told. A learner is
awake as soon as it can be asked. What makes its answers fast is measured afterwards, and can be stopped as well.
"""

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import streamlit as st

from app.shell import html, safety, server
from app.shell.store import Opened
from cillab.core.errors import CillabError, one_line
from cillab.core.places import cache_dir
from cillab.lab.spec import RunSpec

_AT_ONCE_S, _POLL_S = 0.3, 0.7  # what is done so soon is not worth a word; how often the page looks
_LOADING = 0.0  # share that is shown until the first pass is timed


@dataclass
class Waking:
    """One learner on its way. A thread writes, pages read."""

    key: str
    path: str
    task: int
    state: str = "waking"  # waking, awake, stopped, failed
    words: str = "Loading torch, the checkpoint and the data"
    done: int = 0
    total: int = 0
    began: float = field(default_factory=time.perf_counter)
    loaded: float | None = None  # when the learner itself was there
    what_if: Any = None
    floors: dict[str, float] = field(default_factory=dict)  # of its maps, by target
    unit: str = "batches"
    # Work for when it is awake: how much of it is done, and of how much.
    rest: Iterator[tuple[int, int]] = field(default_factory=lambda: iter(()))
    stop: threading.Event = field(default_factory=threading.Event)
    _one: Any = field(default_factory=threading.Lock)  # thread that measures
    _turn: Any = field(default_factory=threading.Lock)  # from waking to awake or to stopped, not to both

    def run(self) -> None:
        """The work: load, then measure."""
        self._safely(self._wake)

    def _safely(self, work: Callable[[], None]) -> None:
        """Whatever happens, the state says so: a thread that dies would leave the page waiting for ever."""
        try:
            work()
        except Exception as error:
            if not self.stop.is_set():
                self.state, self.words = "failed", one_line(error)

    def _wake(self) -> None:
        from cillab.lab.reopen import reopen  # noqa: PLC0415 (torch is loaded only when somebody asks)

        reopened = reopen(self.path, self.task)
        found = None if self.stop.is_set() else self.prepared(reopened)
        with self._turn:
            if self.stop.is_set():
                return
            self.what_if, self.state = found, "awake"
        remember(self.key, time.perf_counter() - self.began)
        server.out_of_sight()  # torch is half a million objects, walked through after every answer
        self.go_on()

    def prepared(self, reopened: Any) -> Any:
        """What is asked later, from the learner that was reopened: here whatever touching the cockpit may ask."""
        from cillab.lab.whatif import WhatIf  # noqa: PLC0415

        images = reopened.probe_images
        found = WhatIf(reopened.learner, images.images, images.labels)
        self.loaded, self.words, self.total = time.perf_counter(), "Asking it once", found.batches
        self.rest, whole = found.measure(), 0
        while self.done < found.batches:
            self.done, whole = next(self.rest)
            if self.stop.is_set():
                return None
        self.floors = found.floors()
        self.total = whole
        return found

    def go_on(self) -> None:
        """What makes answers fast, once it is awake: measure the mixtures, as far as nobody stops it."""
        self.words = "Measuring mixtures"
        with self._one:  # one that was stopped and taken up again at once is still at its batch
            for done, total in self.rest:
                self.done, self.total = done, total
                if self.stop.is_set():
                    return
        if self.loaded is not None:
            remember(f"{self.key} whole", time.perf_counter() - self.began)

    def resume(self) -> None:
        """Measure on where it was stopped."""
        if self.halted:
            self.stop.clear()
            threading.Thread(target=self._safely, args=(self.go_on,), daemon=True, name="measuring").start()

    @property
    def measuring(self) -> bool:
        """Awake, and still measuring?"""
        return self.state == "awake" and self.done < self.total and not self.stop.is_set()

    @property
    def halted(self) -> bool:
        """Awake, and stopped before everything was measured?"""
        return self.state == "awake" and self.done < self.total and self.stop.is_set()

    def end(self) -> None:
        """Stop. The page is free at once; the thread ends at its next look, after loading or a batch.

        One that is awake stays so, and only stops measuring.
        """
        with self._turn:
            self.stop.set()
            if self.state == "waking":
                self.state, self.what_if = "stopped", None

    @property
    def share(self) -> float:
        """How much of the measuring is done."""
        return self.done / self.total if self.total else _LOADING

    def said(self) -> str:
        """What it does, and for how long still: by the pace of this very measurement."""
        if self.state != "waking" and not self.measuring:
            return self.words if self.state == "failed" else ""
        spent = time.perf_counter() - self.began
        if self.loaded is None or not self.done:
            return f"{self.words}: {spent:.0f} s so far. {before(self.key)}".strip()
        left = (time.perf_counter() - self.loaded) / self.done * (self.total - self.done)
        return f"{self.words}: {self.done} of {self.total} {self.unit}, {seconds(left)} left at this pace."


def _end(slot: dict[str, Waking]) -> None:
    """Nobody asks any more: a job on its way stops."""
    if "job" in slot:
        slot["job"].end()


@st.cache_resource(max_entries=2, show_spinner=False, on_release=_end)
def _jobs(kind: type[Waking], path: str, task: int, changed: float) -> dict[str, Waking]:
    """A place for the one job of a checkpoint and kind; at most two learners are kept, as models are large."""
    return {}


def _slot(view: Opened, task: int, kind: type[Waking]) -> dict[str, Waking] | None:
    path = view.run.checkpoint(task)
    return None if path is None else _jobs(kind, str(Path(view.run.path)), task, path.stat().st_mtime)


def job(view: Opened, task: int, kind: type[Waking] = Waking) -> Waking | None:
    """The job of the learner after `task`, if somebody has started one."""
    slot = _slot(view, task, kind)
    return None if slot is None else slot.get("job")


def start(view: Opened, task: int, kind: type[Waking] = Waking) -> Waking | None:
    """Wake the learner after `task`; the one that is on its way or awake if there is one. None without a checkpoint."""
    slot = _slot(view, task, kind)
    if slot is None:
        return None
    there = slot.get("job")
    if there is None or there.state in ("stopped", "failed"):
        there = slot["job"] = kind(_key(view, task, kind), str(Path(view.run.path)), task)
        if why := _refused(view):
            there.state, there.words = "failed", why
        else:
            threading.Thread(target=there.run, daemon=True, name="waking").start()
    there.resume()
    return there


def _refused(view: Opened) -> str:
    """Why nothing of what this run names may be read: it came from somebody, and an address is enough to wake it."""
    if view.entry.kind == "demo":
        return ""
    try:
        safety.spec_must_be_declared(RunSpec.of(view.run.spec, owner=view.key))
    except CillabError as error:
        return one_line(error)
    return ""


def awake(view: Opened, task: int, kind: type[Waking], option: str = "live") -> Any:
    """What the job of the learner after `task` has made, as `outcome` says it."""
    there = start(view, task, kind)
    return f"The learner after task {task + 1} was not kept." if there is None else outcome(there, option)


def outcome(there: Waking, option: str) -> Any:
    """What a job has made; one line on why there is nothing; None while it is on its way.

    Meanwhile the page shows how far it is and a way to stop it, which turns the `option` of the page off, and is drawn
    again when it is done. Where nobody's browser has asked, as in a script, it simply waits.
    """
    until = time.perf_counter() + (_AT_ONCE_S if st.context.headers else float("inf"))
    while there.state == "waking" and time.perf_counter() < until:
        time.sleep(0.02)
    if there.state == "awake":
        return there.what_if
    if there.state == "failed":
        return there.words
    _wait(there, option)
    return None


@st.fragment(run_every=_POLL_S)
def _wait(there: Waking, option: str) -> None:
    if there.state != "waking":
        st.rerun()
    with st.container(border=True, key=f"waking-{there.key}", horizontal=True, vertical_alignment="center"):
        html.note(there.said())
        st.button("Stop", key=f"waking-stop-{there.key}", icon=":material/stop:", on_click=_stop, args=(there, option))


def _stop(there: Waking, option: str) -> None:
    there.end()
    st.session_state[option] = False


def expected(view: Opened, task: int, kind: type[Waking] = Waking) -> str:
    """What waking will take, as far as that is known: what it took here, or that nobody has measured it."""
    return before(_key(view, task, kind)) or "How long it takes was never measured on this machine; it can be stopped."


def seconds(value: float) -> str:
    """`12 s`, or `3 min` above two minutes."""
    return f"{value:.0f} s" if value < 120 else f"{value / 60:.0f} min"


def place(path: str, task: int, what: str) -> str:
    """Where the time of one kind of work on one checkpoint is kept."""
    return hashlib.blake2b(f"{path}|{task}|{what}".encode(), digest_size=8).hexdigest()


def _key(view: Opened, task: int, kind: type[Waking]) -> str:
    return place(str(Path(view.run.path)), task, f"{kind.__name__} {len(view.run.probe)}")


def _ledger() -> Path:
    return cache_dir() / "waking.json"


def _taken() -> dict[str, float]:
    try:
        values = json.loads(_ledger().read_text(encoding="utf-8"))
        return {str(k): float(v) for k, v in values.items()} if isinstance(values, dict) else {}
    except (OSError, ValueError, TypeError):
        return {}


def before(key: str) -> str:
    """What it took here the last time, as a sentence; empty if it was never measured."""
    took, whole = _taken().get(key), _taken().get(f"{key} whole")
    if took is None:
        return ""
    more = "" if whole is None or whole < took + 1 else f", and {seconds(whole)} until mixtures were answered at once"
    return f"It took {seconds(took)} on this machine the last time{more}."


def remember(key: str, took: float) -> None:
    """Keep what a work took on this machine, in seconds, for the next visitor."""
    values = {**_taken(), key: round(took, 1)}
    target = _ledger()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
        aside.write_text(json.dumps(dict(list(values.items())[-200:])), encoding="utf-8")
        aside.replace(target)
    except OSError:
        pass  # a read-only cache: the next visitor is not told
