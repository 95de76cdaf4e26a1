"""The report of a run as one file: written by the package, kept for as long as the run does not change."""

import tempfile
import threading
import time
from pathlib import Path

import streamlit as st

from app.learner import waking
from app.shell.store import Opened
from cillab.core.errors import one_line

PREVIEW_PX = 900
WANTED = "report-wanted"  # in the session: off when the visitor has stopped the drawing


class Drawing(waking.Waking):
    """A report on its way; it can be stopped between two figures."""

    def run(self) -> None:
        """Draw every figure, and say how many are done."""
        from cillab.report import write_report  # noqa: PLC0415 (loads plotly)

        self.words, self.unit, self.loaded = "Drawing every figure", "figures", time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="cillab-") as folder:
            out = Path(folder) / "report.html"
            try:
                write_report(self.path, out, self._tell)
                self.what_if, self.state = out.read_bytes(), "awake"
                waking.remember(self.key, time.perf_counter() - self.began)
            except _Stopped:
                pass
            except Exception as error:  # a thread has nobody else to tell
                self.state, self.words = "failed", one_line(error)

    def _tell(self, done: int, total: int) -> None:
        if self.stop.is_set():
            raise _Stopped
        self.done, self.total = done, total


class _Stopped(Exception):
    """The visitor does not want it any more."""


def report(run: Opened) -> bytes | str | None:
    """The page; one line on why there is none; None while it is being drawn, which the page says."""
    changed = tuple(
        (run.run.path / name).stat().st_mtime_ns
        for name in ("run.json", "status.json")
        if (run.run.path / name).exists()
    )
    place = _place(str(run.run.path), (*changed, len(run.steps)))
    there = place.get("job")
    if there is None or there.state == "stopped":
        there = place["job"] = Drawing(_key(run), str(run.run.path), -1)
        threading.Thread(target=there.run, daemon=True, name="report").start()
    return waking.outcome(there, WANTED)


@st.cache_resource(max_entries=4, show_spinner=False)
def _place(path: str, changed: tuple[int, ...]) -> dict[str, Drawing]:
    """Where the report of a run as it is on disk is kept."""
    return {}


def expected(run: Opened) -> str:
    """What drawing it took on this machine, if it was ever drawn."""
    return waking.before(_key(run)) or "How long it takes was never measured on this machine; it can be stopped."


def _key(run: Opened) -> str:
    return waking.place(str(run.run.path), len(run.steps), "report")


def file_name(run: Opened) -> str:
    """What the download is called: letters that every file system takes."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "-" for c in run.key).strip("-.")
    return f"cillab-{plain or 'run'}.html"
