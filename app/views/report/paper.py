"""The report of a run as one file: written by the package, kept for as long as the run does not change."""

import tempfile
from pathlib import Path

import streamlit as st

from app.shell.store import Opened
from cillab.core.errors import CillabError, one_line

PREVIEW_PX = 900


def report(run: Opened) -> bytes | str:
    """The page, or one line on why there is none."""
    changed = tuple(
        (run.run.path / name).stat().st_mtime_ns
        for name in ("run.json", "status.json")
        if (run.run.path / name).exists()
    )
    return _report(str(run.run.path), (*changed, len(run.steps)))


@st.cache_resource(max_entries=4, show_spinner="Drawing every figure …")
def _report(path: str, changed: tuple[int, ...]) -> bytes | str:
    from cillab.report import write_report  # noqa: PLC0415 (loads plotly)

    with tempfile.TemporaryDirectory(prefix="cillab-") as folder:
        out = Path(folder) / "report.html"
        try:
            write_report(path, out)
        except (CillabError, KeyError, ValueError, OSError) as error:
            return one_line(error)
        return out.read_bytes()


def file_name(run: Opened) -> str:
    """What the download is called: letters that every file system takes."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "-" for c in run.key).strip("-.")
    return f"cillab-{plain or 'run'}.html"
