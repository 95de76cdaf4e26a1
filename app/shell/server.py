"""What the process of the server is told: how many threads, what its collector need not look at, what to let go."""

import atexit
import ctypes
import gc
import sys
from importlib import import_module
from threading import Lock, Thread, Timer

import streamlit as st
from threadpoolctl import threadpool_limits

from app.shell import kept

_EMPTY_S = 180.0  # without a visitor until memory is let go: who reloads, or loses the line, finds all as it was
_LATE = ("cillab.figures", "plotly.graph_objects", "plotly.io", "scipy.sparse")  # the last for sums over classes


@st.cache_resource(show_spinner=False)
def one_thread_each() -> None:
    """Matrix products of a session take one thread.

    They are small, and on few cores a second thread has to wait for its turn behind the browser or another session:
    the first then waits for it. One thread answers the Head lab at 1,000 classes in 118 ms, two in 150 to 200.
    """
    threadpool_limits(limits=1, user_api="blas")


@st.cache_resource(show_spinner=False)
def warm() -> None:
    """Load what figures need while the first visitor still reads: a second that no page then waits for."""
    Thread(target=lambda: [import_module(name) for name in _LATE], daemon=True).start()


@st.cache_resource(show_spinner=False)
def settle(page: str) -> None:
    """Take everything that the first run of a page has loaded out of the collector's sight, once per page and server.

    Streamlit collects garbage after every run of a page, and a full collection walks through every object there is:
    modules, schemas, cached runs and figures, 60 to 100 ms each time while nobody else is served. What is frozen is
    still freed when its last reference goes; only cycles among it would stay, and there is a bounded number of freezes.
    """
    out_of_sight()


def out_of_sight() -> None:
    """The same for whatever is there now."""
    gc.collect()
    gc.freeze()


class Visitors:
    """How many sessions there are. When the last one has left, what was kept for all is let go."""

    def __init__(self, empty_s: float = _EMPTY_S) -> None:
        self.empty_s, self.count = empty_s, 0
        self._lock, self._timer = Lock(), None

    def came(self) -> None:
        """One more."""
        with self._lock:
            self.count += 1
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def left(self) -> None:
        """One less."""
        with self._lock:
            self.count -= 1
            if self.count == 0:
                self._timer = Timer(self.empty_s, self._empty)
                self._timer.daemon = True
                self._timer.start()

    def _empty(self) -> None:
        if self.count == 0:
            let_go()


VISITORS = Visitors()


@st.cache_resource(scope="session", on_release=lambda visitors: visitors.left(), show_spinner=False)
def count_visitor() -> Visitors:
    """Once per session; Streamlit releases it when the browser has gone."""
    VISITORS.came()
    return VISITORS


def let_go() -> None:
    """Forget runs, figures, arrays and learners, and give their memory back to the machine.

    Freed memory stays with the allocator, in one arena per thread, until it is told to return it.
    """
    kept.forget()
    st.cache_data.clear()
    st.cache_resource.clear()
    gc.unfreeze()
    out_of_sight()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None  # glibc alone has it
    if trim is not None:
        trim(0)


atexit.register(gc.unfreeze)  # at its end the interpreter is to find everything: libraries report what it does not
