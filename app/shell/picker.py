"""Choosing a run, the line that says what it is, and what to show when there is none or it cannot be read."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import streamlit as st

from app.shell import export, html, state
from app.shell.public import without_places
from app.shell.store import Broken, Entry, Opened, entries, opened, runs_folder

_STATES = {
    "finished": ("green", "finished"),
    "running": ("blue", "running now"),
    "paused": ("orange", "paused"),
    "queued": ("gray", "waiting to start"),
    "interrupted": ("orange", "interrupted: its process is gone; `cillab resume` goes on from the last finished task"),
    "failed": ("red", "failed"),
    "cancelled": ("gray", "cancelled; `cillab resume` goes on from the last finished task"),
}
_NO_RUN = "none"
_OFFERED = 6  # other runs, where the one that was asked for cannot be shown


def _label(found: dict[str, Entry], key: str) -> str:
    if key == _NO_RUN:
        return "No second run"
    return f"{key.removeprefix('demo-')} (recorded demo)" if found[key].kind == "demo" else key


def _keep(name: str) -> None:
    value = st.session_state[f"pick-{name}"]
    if value is not None:
        state.put(name, None if value == _NO_RUN else value)


def choose(name: str, label: str, found: dict[str, Entry], optional: bool = False, hidden: bool = False) -> str | None:
    """A select box over the runs whose value lives in the URL under `name`.

    A name that no run has stays in the URL and comes back as it is: the page says that it is not here.
    """
    options = ([_NO_RUN] if optional else []) + list(found)
    given = state.get(name)
    value = given or (_NO_RUN if optional else newest(list(found.values())).key)
    st.session_state[f"pick-{name}"] = value if value in options else None
    st.selectbox(
        label, options, key=f"pick-{name}", format_func=lambda key: _label(found, key), on_change=_keep, args=(name,),
        label_visibility="collapsed" if hidden else "visible",
        **({} if value in options else {"index": None, "placeholder": f"“{value}” is not here"}),
    )  # fmt: skip
    state.put(name, None if value == _NO_RUN else value)
    return None if value == _NO_RUN else value


def newest(found: Sequence[Entry]) -> Entry:
    """The first run that can be read and has something to show; of none, simply the first."""
    return next((e for e in found if isinstance(run := opened(e), Opened) and run.steps), found[0])


def absent(key: str, found: Mapping[str, Entry], name: str = "run") -> None:
    """What the page says about a run that its link names and that is not in the runs folder."""
    html.empty(
        f"There is no run “{key}” here",
        f"Nothing of that name lies in {runs_folder()}: it was deleted, renamed, or belongs to another folder. "
        "These are here:",
    )
    offer(found, name)


def offer(found: Mapping[str, Entry], name: str = "run", but: str = "") -> None:
    """Some runs that can be shown, a button each."""
    ready = [key for key, e in found.items() if key != but and isinstance(run := opened(e), Opened) and run.steps]
    with st.container(horizontal=True, gap="small", horizontal_alignment="center", key=f"offer-{name}"):
        for key in ready[:_OFFERED]:
            label = html.markdown(_label(dict(found), key))
            st.button(label, key=f"offer-{name}-{key}", on_click=state.put, args=(name, key))


def no_runs() -> None:
    """What the page says when there is nothing to show."""
    html.empty(
        "There is no run to show yet",
        f"Start one with: cillab run --data shields --learner simplecil --out {runs_folder() / 'first'}. "
        "It appears here while it is being written.",
    )


def broken(run: Broken) -> None:
    """What the page says about a folder that cannot be read."""
    html.empty(f"“{run.entry.key}” cannot be read", f"{run.reason} Other runs are not affected:")
    offer({entry.key: entry for entry in entries()}, but=run.entry.key)


def usable(entry: Entry, steps: int = 1) -> Opened | None:
    """The opened run, or None after saying why it cannot be shown."""
    run = opened(entry)
    if isinstance(run, Broken):
        broken(run)
        return None
    if len(run.steps) < steps:
        where = f"It is {_STATES[run.liveness][1]}." if run.liveness in _STATES else ""
        html.empty(
            "No snapshot yet", f"“{run.key}” has not finished its first task. {where} The first picture comes after it."
        )
        return None
    return run


def pick(*, second: bool = False, extra: int = 0) -> tuple[Opened | None, Opened | None, list]:
    """The row of choices on top of a page: run, second run if wanted, and `extra` free columns for the page's own."""
    there = found()
    if not there:
        no_runs()
        return None, None, []
    with st.container(key="choices"):
        shares = [1.25, *([1.25] if second else []), *([1] * extra)]
        columns = st.columns(shares, gap="medium", vertical_alignment="bottom")
    with columns[0]:
        key = choose("run", "Run", there)
    other = None
    if second:
        with columns[1]:
            other = choose("versus", "Compare with", there, optional=True)
    run, versus, *_ = [*shown(there, key, other), None, None]
    return run, versus, list(columns[1 + second :])


def at_step() -> tuple[Opened, int] | None:
    """A run and one of its steps, both in the address: the top of a page that shows them; None if there is no run."""
    run, _, columns = pick(extra=1)
    if run is None:
        return None
    step = step_control(run, columns[0])
    state.mirror("run", "step")
    badge(run)
    return run, step


def step_control(run: Opened, column: Any) -> int:
    """The step that the page shows, shared with the other pages through the URL."""
    count = len(run.steps)
    step = state.step(count)
    if count > 1:
        st.session_state["pick-step"] = step
        with column:
            st.select_slider(
                "After task", list(range(count)), key="pick-step", on_change=_keep_step,
                format_func=lambda i: run.label(i).removeprefix("Task ").partition(" of")[0],
            )  # fmt: skip
    return step


def _keep_step() -> None:
    state.put("step", st.session_state["pick-step"])


def found() -> dict[str, Entry]:
    """All runs by their keys."""
    return {entry.key: entry for entry in entries()}


def shown(there: Mapping[str, Entry], key: str | None, other: str | None = None) -> list[Opened]:
    """The chosen runs that can be shown, none to two, after saying of each of the others why it cannot."""
    for name, asked in (("run", key), ("versus", other)):
        if asked and asked not in there:
            absent(asked, there, name)
    run = usable(there[key]) if key and key in there else None
    versus = usable(there[other]) if run and other and other in there and other != key else None
    return [one for one in (run, versus) if one is not None]


def badge(run: Opened) -> None:
    """What a number of this run means: data, split, seed, weights, code, device, and whether it is still going."""
    p, info = run.run.protocol, run.run.info
    rows = [
        ("data", p.data),
        ("split", p.split),
        ("order", p.order),
        ("seed", p.seed),
        ("backbone", p.backbone),
        ("transform", p.transform),
        ("shown", _probe(run)),
        ("data digest", (p.data_digest or "")[:8]),
        ("commit", _short(info.versions.get("commit", ""))),
        ("device", info.device),
    ]
    body = "".join(f"<span><b>{html.safe(k)}</b>{html.safe(v)}</span>" for k, v in rows if v not in (None, ""))
    with st.container(horizontal=True, gap="small", vertical_alignment="center", key=f"badge-{run.key}"):
        html.show(body, "ci-badge")
        export.command(run)
    if run.liveness != "finished":
        tell(run)


def _probe(run: Opened) -> str:
    """How many images every page shows, and of how many: that is known once all classes have been tested."""
    count, last = len(run.run.probe), run.snapshots[-1] if run.snapshots else None
    if last is None or "confusion" not in last or len(last["seen"]) < len(run.run.order):
        return f"{count} probe images"
    return f"{count} of {int(np.asarray(last['confusion']).sum())} test images"


def _short(commit: str) -> str:
    """Eight digits, and whether files had been changed since."""
    digits, _, changed = commit.partition("-")
    return digits[:8] + (", changed" if changed else "")


def tell(run: Opened) -> None:
    """The state of a run that is not finished, and how far it is."""
    status, (colour, words) = run.status, _STATES.get(run.liveness, ("gray", run.liveness))
    parts = [f":{colour}[**●**] {words}"]
    if run.liveness == "running":
        if status.task is not None:
            parts.append(f"task {status.task + 1} of {status.tasks or run.tasks_total}")
        if status.epochs:
            parts.append(f"epoch {status.epoch} of {status.epochs}")
        if status.eta_s:
            parts.append(
                f"about {status.eta_s / 60:.0f} min left" if status.eta_s > 90 else f"about {status.eta_s:.0f} s left"
            )
    st.caption(" · ".join(parts))
    if status.error:
        st.code(without_places(status.error[-2000:]), language=None)
