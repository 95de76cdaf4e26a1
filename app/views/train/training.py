"""Watching and steering runs: everything is read from files, and every order is a file or a signal to a process."""

import time
from pathlib import Path

import streamlit as st

from app.charts import charts, curves
from app.shell import html, safety, ways
from app.shell.store import changed, runs_folder
from cillab.core.errors import CillabError, one_line
from cillab.lab import jobs, queue
from cillab.lab.spec import RunSpec
from cillab.runs import Run
from cillab.runs.index import listed
from cillab.runs.schema import Status

_POLL_S, _GEOMETRY_S = 1.0, 3.0
_WATCHED, _BUSY, _SAID = "train-watched", "train-busy", "train-said"
_MOST = 8  # stopped runs listed
_LOG_LINES = 12
_FACES = {"running": ("Pause", "pause", "pause"), "paused": ("Go on", "play_arrow", "resume")}
_WORDS = {
    "queued": ("loading", "Python, weights and images are being loaded"),
    "running": ("running", ""),
    "paused": ("paused", "Its process waits; nothing is lost, and other runs wait behind it."),
    "finished": ("finished", ""),
    "cancelled": ("cancelled", "What was finished is on disk; it can go on from there."),
    "failed": ("failed", "What was finished before is on disk; it can go on from there once the cause is gone."),
    "interrupted": (
        "interrupted",
        "Its process is gone without a word: the machine was switched off, memory ran out, or somebody ended it.",
    ),
}


def watch() -> None:
    """The run that is going on, or the last one that was watched, and what waits. Polls while something happens."""
    root = runs_folder()
    name = _watched(root)
    busy = bool(queue.waiting(root)) or queue.current(root) is not None or _alive(root, name)
    st.session_state[_BUSY] = busy
    if said := st.session_state.pop(_SAID, ""):
        html.refused("That did not work", f"<p>{html.safe(said)}</p>")
    with st.container(key="live"):
        st.fragment(_now, run_every=_POLL_S if busy else None)(root)
        if name is not None:
            st.fragment(_geometry, run_every=_GEOMETRY_S if busy else None)(root / name)


def _watched(root: Path) -> str | None:
    """What is being worked on; else a run of this folder that somebody started elsewhere; else the last one watched."""
    current = queue.current(root)
    if current is not None:
        st.session_state[_WATCHED] = current.name
    kept = st.session_state.get(_WATCHED)
    if kept is not None and _alive(root, kept):
        return kept
    if current is None:
        for path, state in _states(root):
            if state in ("running", "paused"):
                st.session_state[_WATCHED] = path.relative_to(root).as_posix()
                break
    return st.session_state.get(_WATCHED)


def _states(root: Path) -> list[tuple[Path, str]]:
    """Every run below the root with its state, from the kept rows: ten thousand runs are not read at every click."""
    return [(path, row["state"]) for row in listed(root) if (path := Path(row["path"])) != root]


def _liveness(path: Path) -> str | None:
    try:
        return Run(path).liveness()
    except (CillabError, OSError):
        return None


def _alive(root: Path, name: str | None) -> bool:
    if name is None:
        return False
    current = queue.current(root)
    return (current is not None and current.name == name) or _liveness(root / name) in ("running", "paused")


def _now(root: Path) -> None:
    """One look, once a second: status, loss, queue. Reads three small files."""
    queue.ensure_worker(root)
    name, before = st.session_state.get(_WATCHED), st.session_state.get(_BUSY)
    current = queue.current(root)
    busy = current is not None or bool(queue.waiting(root)) or _alive(root, name)
    if busy != before or (current is not None and current.name != name):
        st.rerun()  # something began or ended: timers and the rest of the page have to follow
    if name is not None:
        _card(root, name)
    _queue(root)
    _refused(root)


def _card(root: Path, name: str) -> None:
    """How far a run is, and what can be done with it."""
    path = root / name
    try:
        run = Run(path) if (path / "run.json").is_file() else None
        status = run.status if run is not None else Status()
        live = run.liveness() if run is not None else "queued"
    except (CillabError, OSError) as error:
        html.empty(f"“{name}” cannot be read", one_line(error))
        return
    current = queue.current(root)
    if any(one.name == name for one in queue.waiting(root)):
        return  # it stands in the list below
    if current is not None and current.name == name and live not in ("running", "paused", "finished"):
        live = "queued"  # being loaded again: what its status says is of the process before
    elif run is None:
        return  # it never became a run; the list below says why
    with st.container(border=True, key="train-card"):
        word, sentence = _WORDS[live]
        left, right = st.columns([1.6, 1], vertical_alignment="center")
        with left:
            html.show(f'<p class="ci-state {html.safe(live)}"><i></i>{html.safe(word)}</p>')
            st.header(html.markdown(name), anchor=False)
        with right, st.container(horizontal=True, horizontal_alignment="right", gap="small"):
            _buttons(name, live)
        if run is None or live == "queued":
            waited = time.time() - (current.since if current else time.time())
            html.note(f"{sentence} ({waited:.0f} s). The first numbers come with the first task.")
            return
        _progress(run, status, live)
        if sentence:
            html.note(sentence)
        if live in ("failed", "interrupted"):
            _what_happened(path, status)
        _loss(path)


def _buttons(name: str, live: str) -> None:
    if live in ("running", "paused") and st.button("Watch", key="train-watch", icon=":material/play_circle:"):
        ways.go("step_through", run=name, versus=None, step=None)
    if live in ("queued", "running", "paused"):
        if live != "queued":  # one button with two faces: two would change places under a click
            label, face, order = _FACES[live]
            st.button(label, key="train-turn", icon=f":material/{face}:", on_click=_order, args=(order, name))
        st.button("Cancel", key="train-cancel", icon=":material/stop:", on_click=_order, args=("cancel", name))
        return
    if live in ("cancelled", "interrupted", "failed"):
        st.button(
            "Resume", key="train-resume", type="primary", icon=":material/play_arrow:", on_click=_resume, args=(name,)
        )
    if st.button("Step through it", key="train-open", icon=":material/open_in_new:"):
        ways.go("step_through", run=name, step=None)


def _progress(run: Run, status: Status, live: str) -> None:
    tasks, done = len(run.info.tasks), len(run.task_steps)
    share = min(status.done / status.total, 1.0) if status.total and live in ("running", "paused") else 0.0
    st.progress(1.0 if live == "finished" else min((done + 0.9 * share) / tasks, 1.0))
    rows = [("Tasks on disk", str(done), f"of {tasks}")]
    if live in ("running", "paused"):
        rows.append(("Now", f"task {(status.task or 0) + 1}", status.stage))
        if status.epochs:
            rows.append(("Epoch", str(status.epoch + 1), f"of {status.epochs}"))
        if status.loss is not None:
            rows.append(("Loss", html.number(status.loss), ""))
        if status.images_per_second:
            rows.append(("Images a second", f"{status.images_per_second:.0f}", ""))
        if status.eta_s is not None and live == "running":
            rows.append(("Left, about", html.duration(status.eta_s), ""))
    elif run.result is not None:
        rows.append(("Last accuracy", html.percent(run.result.a_last), ""))
        rows.append(("Average accuracy", html.percent(run.result.a_avg), ""))
        rows.append(("Took", html.duration(run.result.seconds.get("total", 0.0)), ""))
    html.show(html.facts(rows, "small"))


def _what_happened(path: Path, status: Status) -> None:
    """The error and the end of the log: text of a process, shown as text."""
    if status.error:
        st.code(status.error[-2000:], language=None, wrap_lines=True)
    log = path / jobs.LOG
    try:
        lines = log.read_text(encoding="utf-8", errors="replace")[-20_000:].splitlines()
    except OSError:
        return
    with st.expander("The last lines of its log"):
        st.code("\n".join(lines[-_LOG_LINES:]) or "(empty)", language=None)


def _loss(path: Path) -> None:
    tail = st.session_state.get("train-tail")
    if tail is None or tail.path != path / "metrics.jsonl":
        tail = st.session_state["train-tail"] = curves.Tail(path / "metrics.jsonl")
    rows = tail.read()
    if len(rows) < 2:
        html.note("No loss to draw: this method has taken no gradient step yet, or never takes one.")
        return
    curves.draw(rows, key="train-loss")


def _geometry(path: Path) -> None:
    """What the probe saw after each task so far, by the figures of the package."""
    try:
        run = Run(path)
        steps = run.task_steps
    except (CillabError, OSError):
        return
    if not steps:
        html.note("Accuracy by task and collapse appear here after the first task.")
        return
    left, right = st.columns(2, gap="large")
    with left:
        charts.draw("accuracy_matrix", "Accuracy by task", run, key="train-accuracy")
    with right:
        charts.draw("collapse", "Neural collapse so far", run, key="train-collapse")


def _queue(root: Path) -> None:
    waits = queue.waiting(root)
    if not waits:
        return
    st.subheader("Waiting", anchor=False)
    html.note("One run at a time. They start by themselves, whether or not a browser is open.")
    for place, one in enumerate(waits, start=1):
        left, right = st.columns([5, 1], vertical_alignment="center")
        with left:
            what = "goes on where it stopped" if one.resume else f"{one.spec.get('learner')} on {one.spec.get('data')}"
            html.show(
                f'<p><b>{place}. {html.safe(one.name)}</b> <span class="what">{html.safe(what)}</span></p>', "ci-wait"
            )
        with right:
            st.button("Take out", key=f"out-{one.key}", on_click=_withdraw, args=(one.key,), width="stretch")


def _refused(root: Path) -> None:
    for name, why in queue.refused(root).items():
        left, right = st.columns([5, 1], vertical_alignment="center")
        with left:
            html.refused(f"“{name}” did not start", f"<p>{html.safe(why)}</p>")
        with right:
            st.button("Dismiss", key=f"dismiss-{name}", on_click=_dismiss, args=(name,), width="stretch")


def stopped() -> None:
    """Runs that did not reach their end, why, and a way on."""
    root, rows = runs_folder(), []
    for path, live in _states(root):
        name = path.relative_to(root).as_posix()
        if live in ("cancelled", "failed", "interrupted") and name != st.session_state.get(_WATCHED):
            rows.append((name, live, path))
    if not rows:
        return
    rows.sort(key=lambda row: changed(row[2]), reverse=True)
    st.header("Stopped runs", anchor=False)
    for name, live, path in rows[:_MOST]:
        left, right = st.columns([5, 1], vertical_alignment="center")
        with left:
            run = Run(path)
            error = f": {one_line(Exception(run.status.error))}" if run.status.error else ""
            what = f"{_WORDS[live][0]}, {len(run.task_steps)} of {len(run.info.tasks)} tasks on disk{error[:200]}"
            html.show(f'<p><b>{html.safe(name)}</b> <span class="what">{html.safe(what)}</span></p>', "ci-wait")
        with right:
            st.button("Resume", key=f"resume-{name}", on_click=_resume, args=(name,), width="stretch")
    if len(rows) > _MOST:
        html.note(f"{len(rows) - _MOST} more; `cillab resume` goes on with any of them.")


def start(name: str, spec: RunSpec) -> None:
    """Put a request in the queue. Callback of the button."""
    try:
        safety.must_be_writable()
        safety.spec_must_be_declared(spec)
        queue.enqueue(runs_folder(), name, spec)
    except (CillabError, OSError) as error:
        st.session_state[_SAID] = one_line(error)
        return
    if not _alive(runs_folder(), st.session_state.get(_WATCHED)):
        st.session_state[_WATCHED] = name
    st.session_state["run-name"] = ""


def _resume(name: str) -> None:
    try:
        safety.must_be_writable()
        root = runs_folder()
        spec = RunSpec.of(Run(root / name).spec, owner=name)
        safety.spec_must_be_declared(spec)
        queue.enqueue_resume(root, name)
    except (CillabError, OSError) as error:
        st.session_state[_SAID] = one_line(error)
        return
    st.session_state[_WATCHED] = name


def _order(what: str, name: str) -> None:
    """Pause, go on or cancel; cancelling waits for the end of the process, less than 2 s."""
    root = runs_folder()
    try:
        safety.must_be_writable()
        current = queue.current(root)
        job = jobs.Job(root / name, current.pid) if current and current.name == name else jobs.Job.at(root / name)
        getattr(job, what)()
    except (CillabError, OSError) as error:
        st.session_state[_SAID] = one_line(error)


def _withdraw(key: str) -> None:
    safety.must_be_writable()
    queue.withdraw(runs_folder(), key)


def _dismiss(name: str) -> None:
    safety.must_be_writable()
    queue.dismiss(runs_folder(), name)
