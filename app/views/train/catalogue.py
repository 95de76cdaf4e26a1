"""What the form is drawn from. The library is asked in a process of its own, so that this one never loads torch."""

import json
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Any

import streamlit as st

from cillab.core.errors import CillabError, one_line
from cillab.lab import offer

_LIMIT_S = 120.0


def catalogue() -> dict[str, Any] | str:
    """Learners, data sets and backbones as `cillab list schema` prints them, or one line on why there are none.

    After a change of the library the last answer serves until the new one is there.
    """
    if (found := offer.kept()) is not None:
        return found
    if (found := offer.last()) is not None:
        _refresh(offer.fingerprint())
        return found
    return _ask(offer.fingerprint())


@st.cache_resource(max_entries=4, ttl=60, show_spinner="Asking the library what there is …")
def _ask(fingerprint: str) -> dict[str, Any] | str:
    """At most once a minute, where the cache cannot be written or the library is broken."""
    try:
        return offer.keep(ask("list", "schema", limit_s=_LIMIT_S))
    except CillabError as error:
        return one_line(error)


@st.cache_resource(max_entries=4, ttl=60, show_spinner=False)
def _refresh(fingerprint: str) -> threading.Thread:
    """Ask again beside the page, at most once a minute; the next visit finds the new answer."""

    def work() -> None:
        with suppress(OSError, CillabError):
            offer.keep(ask("list", "schema", limit_s=_LIMIT_S))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def ask(*words: str, limit_s: float) -> Any:
    """The JSON that a `cillab` command prints.

    Raises:
        CillabError: its own last line, when it refuses or fails.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", "cillab", *words], capture_output=True, text=True, timeout=limit_s, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CillabError(f"cillab {words[0]} did not answer: {one_line(error)}") from error
    return answer(done.returncode, done.stdout, done.stderr)


def answer(code: int | None, out: str, errors: str) -> Any:
    """What a finished command said: its JSON, or its complaint as an error."""
    if code == 0:
        try:
            return json.loads(out.strip().splitlines()[-1])
        except (ValueError, IndexError) as error:
            raise CillabError("The library gave no answer that can be read.") from error
    lines = [line for line in errors.splitlines() if line.strip()]
    raise CillabError(lines[-1].removeprefix("cillab: ") if lines else "It ended without a word.")
