"""Before a run starts: the library checks the request and times a few batches, in a process of its own."""

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from app.shell import html, safety
from app.views.train import catalogue
from cillab.core.errors import CillabError, one_line
from cillab.lab.spec import RunSpec

_PATIENCE_S = 300.0
_POLL_S = 0.5
_KEPT = "estimates"  # in the session: digest of the request -> what was found
_ASKED = "estimate-asked"


@dataclass
class Asked:
    """A question under way."""

    digest: str
    process: subprocess.Popen
    folder: tempfile.TemporaryDirectory
    since: float

    def said(self) -> dict[str, Any] | str | None:
        """The estimate, a complaint, or None while it is still being worked out."""
        if self.process.poll() is None:
            if time.monotonic() - self.since < _PATIENCE_S:
                return None
            self.process.kill()
            return "The check took more than five minutes and was stopped; the run itself may still work."
        out, errors = (
            (Path(self.folder.name) / name).read_text(encoding="utf-8", errors="replace") for name in ("out", "err")
        )
        try:
            return catalogue.answer(self.process.returncode, out, errors)
        except CillabError as error:
            return one_line(error)


def ask(spec: RunSpec) -> None:
    """Start the check of a request; a check under way is dropped."""
    safety.must_be_writable()
    safety.spec_must_be_declared(spec)
    drop()
    folder = tempfile.TemporaryDirectory(prefix="cillab-")
    path = Path(folder.name)
    spec.write(path / "spec.yaml")
    with (path / "out").open("wb") as out, (path / "err").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "cillab", "estimate", str(path / "spec.yaml"), "--format", "json"],
            stdin=subprocess.DEVNULL, stdout=out, stderr=errors,
        )  # fmt: skip
    st.session_state[_ASKED] = Asked(spec.digest(), process, folder, time.monotonic())


def drop() -> None:
    """Stop a check under way."""
    asked = st.session_state.pop(_ASKED, None)
    if asked is not None and asked.process.poll() is None:
        asked.process.kill()
        asked.process.wait(5)


def known(spec: RunSpec) -> dict[str, Any] | str | None:
    """What was found out about this very request, if it was asked before."""
    return st.session_state.get(_KEPT, {}).get(spec.digest())


def show(spec: RunSpec) -> None:
    """The answer, or that it is being worked out; asks again by itself until it is there."""
    asked = st.session_state.get(_ASKED)
    waiting = asked is not None and asked.digest == spec.digest()
    st.fragment(_show, run_every=_POLL_S if waiting else None)(spec, waiting)


def _show(spec: RunSpec, waiting: bool) -> None:
    asked = st.session_state.get(_ASKED)
    if waiting and asked is not None:
        said = asked.said()
        if said is None:
            html.show("<p>Checking the request and timing a few batches …</p>", "ci-note")
            return
        st.session_state.setdefault(_KEPT, {})[asked.digest] = said
        st.session_state.pop(_ASKED)
        st.rerun()  # the whole page: the timer has to go
    found = known(spec)
    if isinstance(found, str):
        html.refused("Refused", f"<p>{html.safe(found)}</p>")
    elif found is not None:
        _numbers(found)


def _numbers(found: dict[str, Any]) -> None:
    rows = [
        ("Estimated time", html.duration(found["total_s"]), ""),
        ("Learning", html.duration(found["learn_s"]), ""),
        ("Looking after each task", html.duration(found["look_s"]), ""),
        ("Tasks / classes", f"{found['tasks']} / {found['classes']}", ""),
        ("Training images", f"{found['train_images']:,}", ""),
    ]
    html.show(html.facts(rows, "small"))
    for note in found.get("notes", ()):
        html.note(note)
    html.note(
        f"From a few batches of the first task on {found['device']}. A method that looks back at earlier tasks takes "
        "longer than its first task tells; loading adds some seconds."
    )
    with st.expander("Every hyper-parameter as it will be used", icon=":material/list:"):
        cells = "".join(f"<dt>{html.safe(k)}</dt><dd>{html.safe(v)}</dd>" for k, v in found["params"].items())
        html.show(f'<dl class="ci-table">{cells}</dl>')
