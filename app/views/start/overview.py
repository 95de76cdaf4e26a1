"""The pieces of the Start page."""

import os
import platform
from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec

import streamlit as st

from app.images import images
from app.shell import html, theme, ways
from app.shell.store import Broken, Entry, Opened, look_for, runs_folder, signature
from app.shell.theme import task_colour
from cillab import __version__

_ROWS = 8  # runs listed on Start
_PAGE = "step_through"


def best(runs: Sequence[Opened]) -> Opened:
    """The run to greet with: a finished one that shows most, recorded demos first."""

    def most(run: Opened) -> tuple[bool, bool, bool, int]:
        return run.entry.kind == "demo", run.run.result is not None, bool(run.run.capabilities.shows), len(run.steps)

    return max(runs, key=most)


def hero(run: Opened) -> None:
    """A contact sheet of the run's images beside its numbers."""
    with st.container(border=True, key="hero"):
        left, right = st.columns([1.12, 1], gap="large", vertical_alignment="center")
        with left:
            contact_sheet(run)
        with right:
            kind = "Recorded run" if run.entry.kind == "demo" else "Latest run"
            p = run.run.protocol
            html.show(f"<p>{html.safe(kind)}</p>", "ci-kicker")
            st.header(f"{html.markdown(p.learner)} on {html.markdown(p.data)}", anchor=False)
            html.show(f"<p>{html.safe(_story(run))}</p>", "ci-sentence")
            html.show(html.facts(_numbers(run)))
            seen = [float(v) for v in run.scalar("accuracy/seen")]
            label = f"Accuracy on all classes seen, after each of {len(seen)} tasks"
            tall = html.bars(seen, [task_colour(s.task) for s in run.snapshots], label).replace(
                "ci-bars", "ci-bars tall"
            )
            html.show(f'<p class="ci-what">{html.safe(label)}</p>{tall}')
            with st.container(horizontal=True, gap="small"):
                if st.button("Step through it", type="primary", icon=":material/play_arrow:", key="hero-step"):
                    _open(_PAGE, run, 0)
                if images.has_sprites(run) and st.button(
                    "What it looks at", icon=":material/visibility:", key="hero-cam"
                ):
                    _open("grad_cam", run, None)


def _open(page: str, run: Opened, step: int | None) -> None:
    ways.go(page, run=run.key, step=step)


def _story(run: Opened) -> str:
    classes, tasks = len(run.run.order), run.tasks_total
    return (
        f"{classes} classes arrive in {tasks} tasks. After each task, {len(run.run.probe)} fixed test images are "
        "looked at again, also those whose classes are still to come."
    )


def _numbers(run: Opened) -> list[tuple[str, str, str]]:
    result = run.run.result
    if result is None:
        seen = run.scalar("accuracy/seen")
        return [
            ("Accuracy now", html.percent(float(seen[-1])), ""),
            ("Tasks done", str(len(run.steps)), f"of {run.tasks_total}"),
        ]
    seconds = result.seconds.get("total")
    rows = [("Last accuracy", html.percent(result.a_last), ""), ("Average accuracy", html.percent(result.a_avg), "")]
    if result.forgetting_chaudhry is not None:
        rows.append(("Forgetting", f"{100 * result.forgetting_chaudhry:.1f}", "points"))
    if seconds:
        rows.append(
            ("Took", f"{seconds / 60:.1f}" if seconds >= 90 else f"{seconds:.0f}", "min" if seconds >= 90 else "s")
        )
    return rows


def contact_sheet(run: Opened, per_task: int = 10, most: int = 10) -> None:
    """One row of probe images per task, each row marked in the task's colour."""
    if not images.has_sprites(run):
        html.empty("No pictures", "This run was written without thumbnails of its probe images.")
        return
    html.show(_sheet(run.key, (str(run.run.path), *signature(run.run.path)), theme.mode(), per_task, most, run))


@st.cache_resource(max_entries=24, show_spinner=False)
def _sheet(key: str, changed: tuple, mode: str, per_task: int, most: int, _run: Opened) -> str:
    run, probe = _run, _run.run.probe
    rows: list[list[int]] = []
    for classes in run.run.info.tasks[:most]:
        first: list[int] = []
        for repeat in range(per_task):  # one image of every class before a second of any
            for class_id in classes:
                mine = [i for i, label in enumerate(probe.labels) if label == class_id]
                if repeat < len(mine):
                    first.append(mine[repeat])
        rows.append(first[:per_task])
    width = max(map(len, rows))
    flat = [index for row in rows for index in row + [row[0]] * (width - len(row))]
    url = images.crop_atlas(run, flat, width)
    cells = []
    for at, row in enumerate(rows):
        names = [run.run.info.name_of(int(probe.labels[index])) for index in row]
        tiles = "".join(images.tile(at * width + i, width, len(rows), name) for i, name in enumerate(names))
        mark = f'<i style="background:{task_colour(at)}" title="Task {at + 1}"></i>'
        cells.append(f'<div style="grid-template-columns:5px repeat({width},minmax(0,1fr))">{mark}{tiles}</div>')
    return f'<div class="ci-sheet" style="--atlas:url({url})">{"".join(cells)}</div>'


def readable_first(runs: Sequence[tuple[Entry, Opened | Broken]]) -> list[tuple[Entry, Opened | Broken]]:
    """The same order, but for runs that cannot be read: they stand last, so that they hide no other."""
    return sorted(runs, key=lambda one: isinstance(one[1], Broken))


def table(runs: Sequence[tuple[Entry, Opened | Broken]]) -> None:
    """Runs, newest first, unreadable ones last: what, how well over the tasks, and a way in."""
    for entry, run in readable_first(runs)[:_ROWS]:
        with st.container(border=True, key=f"row-{entry.key}"):
            left, right = st.columns([5.2, 1], vertical_alignment="center")
            with left:
                html.show(_row(entry, run))
            with right:
                ready = isinstance(run, Opened) and bool(run.steps)
                if st.button("Open", key=f"open-{entry.key}", disabled=not ready, width="stretch") and isinstance(
                    run, Opened
                ):
                    _open(_PAGE, run, None)
    if len(runs) > _ROWS:
        html.note(f"{len(runs) - _ROWS} more can be chosen on the other pages.")


def _row(entry: Entry, run: Opened | Broken) -> str:
    name = entry.key.removeprefix("demo-") if entry.kind == "demo" else entry.key
    if isinstance(run, Broken):
        return (
            f'<div class="ci-row" style="grid-template-columns:1fr"><div><div class="name">{html.safe(name)}</div>'
            f'<div class="what">Cannot be read: {html.safe(run.reason)}</div></div></div>'
        )
    p, seen = run.run.protocol, [float(v) for v in run.scalar("accuracy/seen")]
    kind = "recorded demo" if entry.kind == "demo" else run.liveness
    what = " · ".join(str(v) for v in (p.learner, p.data, p.split, p.backbone, kind) if v)
    look = look_for(name) if entry.kind == "demo" else ""
    look = f'<div class="what">{html.safe(look)}</div>' if look else ""
    average = run.run.result.a_avg if run.run.result else None
    label = f"Accuracy on the classes seen, after each of {len(seen)} tasks"
    return (
        f'<div class="ci-row"><div><div class="name">{html.safe(name)}</div>'
        f'<div class="what">{html.safe(what)}</div>{look}</div>'
        f"<div>{html.bars(seen, [task_colour(s.task) for s in run.snapshots], label)}</div>"
        f'<div class="n">{html.percent(seen[-1] if seen else None)}<small>last</small></div>'
        f'<div class="n">{html.percent(average)}<small>average</small></div></div>'
    )


def environment() -> None:
    """What is installed, without importing any of it."""
    rows = [
        ("cillab", __version__),
        ("Python", platform.python_version()),
        ("Streamlit", st.__version__),
        ("torch", _version("torch") or "not installed: recorded pictures work, live what-ifs do not"),
        ("GPU", "NVIDIA driver found" if os.path.exists("/proc/driver/nvidia/version") else "none found, not needed"),  # noqa: PTH110
        ("Cores", str(os.cpu_count())),
        ("Runs folder", f"{runs_folder()} (set CILLAB_RUNS to change it)"),
    ]
    cells = "".join(f"<dt>{html.safe(k)}</dt><dd>{html.safe(v)}</dd>" for k, v in rows)
    html.show(f'<dl class="ci-table">{cells}</dl>')


def _version(package: str) -> str | None:
    if find_spec(package) is None:
        return None
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
