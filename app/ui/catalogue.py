"""What the form is drawn from. The library is asked in a process of its own, so that this one never loads torch."""

import hashlib
import json
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import streamlit as st

import cillab
from cillab.core.errors import CillabError, one_line
from cillab.core.places import cache_dir
from cillab.lab.catalogue import FORMAT
from cillab.runs.files import write_json

_LIMIT_S = 120.0
_SOURCES = ("learners", "parts", "streams", "backbones", "core", "lab")  # folders that decide what is offered


def catalogue() -> dict[str, Any] | str:
    """Learners, data sets and backbones as `cillab list schema` prints them, or one line on why there are none.

    After a change of the library the last answer serves until the new one is there.
    """
    kept = _place(_fingerprint())
    if kept.is_file():
        return _read(str(kept), kept.stat().st_mtime_ns) or _ask_and_keep(str(kept))
    for old in sorted(kept.parent.glob("catalogue-*.json"), key=lambda path: -path.stat().st_mtime):
        if found := _read(str(old), old.stat().st_mtime_ns):
            _refresh(str(kept))
            return found
    return _ask_and_keep(str(kept))


def _place(fingerprint: str) -> Path:
    return cache_dir() / "app" / f"catalogue-{fingerprint}.json"


@st.cache_resource(max_entries=2, show_spinner=False)
def _read(path: str, changed: int) -> dict[str, Any] | None:
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("format_version") == FORMAT else None


@st.cache_resource(max_entries=4, ttl=60, show_spinner="Asking the library what there is …")
def _ask_and_keep(path: str) -> dict[str, Any] | str:
    kept = Path(path)
    try:
        found = ask("list", "schema", limit_s=_LIMIT_S)
    except CillabError as error:
        return one_line(error)
    with suppress(OSError, CillabError):  # a cache folder that cannot be written costs some seconds per minute, no more
        write_json(kept, found)
        for old in kept.parent.glob("catalogue-*.json"):
            if old != kept:
                old.unlink(missing_ok=True)
    return found


@st.cache_resource(max_entries=4, ttl=60, show_spinner=False)
def _refresh(kept: str) -> threading.Thread:
    """Ask again beside the page, at most once a minute; the next visit finds the new answer."""

    def work() -> None:
        with suppress(OSError, CillabError):
            write_json(Path(kept), ask("list", "schema", limit_s=_LIMIT_S))

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


def _fingerprint() -> str:
    """Changes when a file of the library does: a method that was just written appears at the next visit."""
    root = Path(cillab.__file__).parent
    state = hashlib.blake2b(f"{cillab.__version__} {sys.version}".encode(), digest_size=8)
    for folder in _SOURCES:
        for path in sorted((root / folder).glob("*.py")):
            stat = path.stat()
            state.update(f"{path.name} {stat.st_mtime_ns} {stat.st_size}".encode())
    return state.hexdigest()
