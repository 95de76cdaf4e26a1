"""What the process of the server is told: how many threads, and what its garbage collector need not look at."""

import atexit
import gc
from importlib import import_module
from threading import Thread

import streamlit as st
from threadpoolctl import threadpool_limits


@st.cache_resource(show_spinner=False)
def one_thread_each() -> None:
    """Matrix products of a session take one thread.

    They are small, and on few cores a second thread has to wait for its turn behind the browser or another session:
    the first then waits for it. One thread answers the Head lab at 1,000 classes in 118 ms, two in 150 to 200.
    """
    threadpool_limits(limits=1, user_api="blas")


@st.cache_resource(show_spinner=False)
def warm() -> None:
    """Load what figures need while the first visitor still reads: half a second that no page then waits for."""
    Thread(target=import_module, args=("cillab.figures",), daemon=True).start()


@st.cache_resource(show_spinner=False)
def settle(page: str) -> None:
    """Take everything that the first run of a page has loaded out of the collector's sight, once per page and server.

    Streamlit collects garbage after every run of a page, and a full collection walks through every object there is:
    modules, schemas, cached runs and figures, 60 to 100 ms each time while nobody else is served. What is frozen is
    still freed when its last reference goes; only cycles among it would stay, and there is a bounded number of freezes.
    """
    gc.collect()
    gc.freeze()


atexit.register(gc.unfreeze)  # at its end the interpreter is to find everything: libraries report what it does not
