"""What the collector of cyclic garbage need not look at."""

import atexit
import gc

import streamlit as st


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
