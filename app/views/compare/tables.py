"""The parts of Compare: the leaderboard by protocol, curves of chosen runs, means over seeds and paired differences."""

import json
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import streamlit as st

from app.charts import charts
from app.shell import html, safety, state, theme, ways
from app.shell.store import Entry, Opened, entries, opened, runs_folder
from cillab.core.errors import CillabError, InvalidRequestError, one_line
from cillab.geometry.pairing import Paired, paired
from cillab.protocol import protocol_key
from cillab.protocol.ledger import ledger, rows_of
from cillab.runs.seeds import Group, compare, difference_sentence, over_seeds, shared, stated
from cillab.runs.table import RANKED_BY, ranking, table

NUMBERS = {
    "a_last": "Last accuracy",
    "a_avg": "Average accuracy",
    "forgetting_chaudhry": "Forgetting",
    "seconds": "Seconds",
}
_MOST = 8  # curves in one figure
ALL = "all"


@st.cache_resource(max_entries=8, show_spinner=False)
def _rows(roots: tuple[str, ...], by: str, signature: tuple) -> list[dict[str, Any]]:
    return table(list(roots), by).rows


def rows(by: str) -> tuple[list[dict[str, Any]], dict[str, Entry]]:
    """Every run as a row of the table, with the entry that opens it under `key`."""
    found = entries()
    by_path = {str(entry.path): entry for entry in found}
    roots = [str(runs_folder())] if runs_folder().is_dir() else []
    roots += [str(entry.path) for entry in found if entry.kind == "demo"]
    if not found:
        return [], {}
    signature = tuple((path, _changed(entry)) for path, entry in by_path.items())
    known = _rows(tuple(roots), by if by in RANKED_BY else "a_last", signature)
    out = [{**row, "key": by_path[row["path"]].key} for row in known if row["path"] in by_path]
    return out, {entry.key: entry for entry in found}


def _changed(entry: Entry) -> tuple[int, ...]:
    """What changes when a run gets a result, a step or another state."""
    marks = []
    for name in ("run.json", "result.json", "status.json"):
        try:
            marks.append((entry.path / name).stat().st_mtime_ns)
        except OSError:
            marks.append(0)
    return tuple(marks)


def filters(everything: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], str]:
    """Which data and learners to show, and what to rank by."""
    good = [row for row in everything if row["comparable"]]
    columns = st.columns([1, 1, 1.4, 1], gap="medium", vertical_alignment="bottom")
    data = [ALL, *sorted({row["data"] for row in good if row["data"]})]
    learners = sorted({row["learner"] for row in good if row["learner"]})
    splits = [ALL, *sorted({row["split"] for row in good if row["split"]})]
    with columns[0]:
        one = st.selectbox("Data", data, key="data", format_func=lambda v: "All data" if v == ALL else v)
    with columns[1]:
        split = st.selectbox("Split", splits, key="split", format_func=lambda v: "All splits" if v == ALL else v)
    with columns[2]:
        some = st.multiselect("Learners", learners, key="learners", placeholder="All learners")
    with columns[3]:
        by = st.selectbox("Rank by", list(NUMBERS), key="by", format_func=NUMBERS.__getitem__, **state.bound())
    kept = [
        row
        for row in everything
        if (one in (None, ALL) or row["data"] == one)
        and (split in (None, ALL) or row["split"] == split)
        and (not some or row["learner"] in some)
    ]
    return kept, by or "a_last"


def leaderboard(kept: Sequence[dict[str, Any]], by: str) -> None:
    """One table per protocol, best first; runs without a result stand below, damaged ones at the end."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in kept:
        groups.setdefault(row["comparable"] or "", []).append(row)
    damaged, differing = groups.pop("", []), []
    if len(groups) > 1:
        first = [rows[0] for rows in groups.values()]
        differing = [name for name in protocol_key() if len({repr(row[name]) for row in first}) > 1]
        html.note(
            f"There are {len(groups)} protocols here. Numbers of different protocols are never ranked together: they "
            f"differ in {', '.join(name.replace('_', ' ') for name in differing)}."
        )
    for group in groups.values():
        html.show(_protocol(group[0], differing), "ci-badge")
        done = ranking(group, by) if by in RANKED_BY else group
        rest = [row for row in group if row not in done]
        lines = [
            _line(str(1 + sum(other[by] != row[by] and _before(other, row, by) for other in done)), row) for row in done
        ]
        html.table(
            ("", "Run", "Learner", *NUMBERS.values(), "Precision", "Device", "State"),
            [*lines, *(_line("", row) for row in rest)], "Runs of one protocol", "ranks",
        )  # fmt: skip
    if damaged:
        html.empty("Cannot be read", "; ".join(f"{row['key']}: {row['problem']}" for row in damaged))


def _before(one: dict[str, Any], other: dict[str, Any], by: str) -> bool:
    return one[by] > other[by] if RANKED_BY[by] == "DESC" else one[by] < other[by]


def _protocol(row: dict[str, Any], differing: Sequence[str]) -> str:
    """A protocol as chips; what differs from the other protocols here comes first and stands out."""
    names = sorted((n for n in protocol_key() if not n.endswith("_digest")), key=lambda name: name not in differing)
    chips = []
    for name in names:
        value, differs = row[name], name in differing
        if value not in (None, "", 1.0) or name == "seed" or differs:
            words = "not said" if value is None else "no" if value is False else value
            tag = '<span class="on">' if differs else "<span>"
            chips.append(f"{tag}<b>{html.safe(name.replace('_', ' '))}</b>{html.safe(words)}</span>")
    return "".join(chips)


def _line(rank: str, row: dict[str, Any]) -> tuple[str, ...]:
    forgot, seconds = row["forgetting_chaudhry"], row["seconds"]
    return (
        rank, row["key"].removeprefix("demo-") + (" (demo)" if row["key"].startswith("demo-") else ""),
        row["learner"] or "", html.percent(row["a_last"]), html.percent(row["a_avg"]),
        html.percent(forgot), html.number(None) if seconds is None else f"{seconds:.0f} s",
        row["precision"] or "", row["device"] or "", row["state"],
    )  # fmt: skip


def curves(kept: Sequence[dict[str, Any]], found: dict[str, Entry]) -> None:
    """Accuracy of chosen runs on shared axes, and the way to step through two of them side by side."""
    st.header("Curves", anchor=False)
    ready = {}
    for row in kept:
        run = opened(found[row["key"]]) if row["comparable"] else None
        if isinstance(run, Opened) and run.steps:
            ready[row["key"]] = run
    if not ready:
        html.empty("No curve yet", "A run has a curve after its first task.")
        return
    chosen = st.multiselect(
        "Runs", list(ready), default=list(ready)[: min(4, len(ready))], key=f"curves-{len(ready)}",
        max_selections=_MOST,
        format_func=lambda key: key.removeprefix("demo-"),
    )  # fmt: skip
    if not chosen:
        html.note("Choose a run to see its curve.")
        return
    picked = [row for row in kept if row["key"] in chosen]
    try:
        ranking(picked)
    except InvalidRequestError as error:
        html.note(f"{one_line(error)} The curves stand together to be looked at, not to be ranked.")
    named = {key.removeprefix("demo-"): ready[key].run for key in chosen}
    published = st.multiselect(
        "Published curves", [entry.name for entry in ledger().values() if entry.curve], key="compare-published",
        placeholder="None", max_selections=3,
        help="Curves from the authors' logs, grey and dashed; mostly of other weights and transforms than a run here.",
    )  # fmt: skip
    own = None if safety.read_only() else st.file_uploader(
        "A curve or a sweep as a file", "csv", key="compare-csv", max_upload_size=1,
        help="CSV with two columns, classes seen and accuracy (fractions or percent), or the CSV beside the table of "
        "a sweep, such as docs/results/field.csv.",
    )  # fmt: skip
    with TemporaryDirectory(prefix="cillab-") as folder:
        laid = [*published, *(_sent(own, Path(folder)) if own is not None else [])]
        try:
            picture = import_module("cillab.figures").accuracy(named, theme=theme.mode(), published=laid)
        except (CillabError, ValueError, KeyError) as error:
            html.empty("These curves cannot be drawn", one_line(error).replace(f"{folder}/", ""))
            return
    charts.panel(picture, "compare-curves", "Accuracy of several runs")
    if len(chosen) > 1:
        _by_image({key: ready[key] for key in chosen})
    if st.button(
        "Step through both" if len(chosen) > 1 else "Step through it", key="compare-step",
        icon=":material/play_circle:",
        help="The first two of the chosen runs, side by side.",
    ):  # fmt: skip
        ways.go("step_through", run=chosen[0], versus=chosen[1] if len(chosen) > 1 else None)


def _by_image(runs: dict[str, Opened]) -> None:
    """In words: are two runs different on the same images, after the last task that both have?"""
    st.subheader("Image by image", anchor=False)
    names = [key.removeprefix("demo-") for key in runs]
    pair = _two(names, "image", "runs")
    if pair is None:
        return
    a, b = pair
    views = list(runs.values())
    try:
        step, first, second = answers(views[a], views[b])
    except InvalidRequestError as error:
        html.note(one_line(error))
        return
    found = paired(first, second)
    html.note(_in_words(names[a], names[b], step, found))


def answers(one: Opened, other: Opened) -> tuple[int, np.ndarray, np.ndarray]:
    """The last task that both runs have, and for each test image that both follow and have learnt: was it right?

    Raises:
        InvalidRequestError: they follow no such image in common.
    """
    step = min(len(one.steps), len(other.steps)) - 1
    known = [_right(view, step) for view in (one, other)]
    both = sorted(known[0].keys() & known[1].keys())
    if not both:
        raise InvalidRequestError("These two runs follow no test image in common: they cannot be compared by image.")
    first, second = (np.array([right[image] for image in both]) for right in known)
    return step, first, second


def _right(view: Opened, step: int) -> dict[str, bool]:
    probe, shot = view.run.probe, view.snapshots[step]
    learnt = np.isin(probe.labels, shot["seen"])
    right = np.asarray(shot["predictions"]) == np.asarray(probe.labels)
    return {str(image): bool(ok) for image, ok, here in zip(probe.ids, right, learnt, strict=True) if here}


def _in_words(this: str, that: str, step: int, found: Paired) -> str:
    points = f"{_points(found.difference)} points (95 % interval {_points(found.low)} to {_points(found.high)})"
    verdict = (
        "That is more than which images were drawn can explain"
        if found.clear
        else "Which images were drawn can explain a difference of that size"
    )
    return (
        f"After task {step + 1}, {this} minus {that}: {points} on {found.images} test images that both follow. "
        f"{found.only_first} are right with {this} alone and {found.only_second} with {that} alone "
        f"(exact McNemar test, p = {found.p_value:.2g}). {verdict}; other class orders vary on top of it."
    )


def _sent(own: Any, folder: Path) -> list[str]:
    """Curves in a file that was sent: its own, or those of the chosen rows of a sweep."""
    path = written(own.name, own.getvalue(), folder)
    rows = rows_of(path)
    if not rows:
        return [str(path)]
    chosen = st.multiselect(
        f"Rows of {path.stem}", rows, default=rows[:1], key=f"compare-rows-{own.file_id}", max_selections=3,
        help="Each is the mean over the runs of its row.",
    )  # fmt: skip
    return [f"{path}:{row}" for row in chosen]


def written(name: str, content: bytes, folder: Path) -> Path:
    """A curve that was sent, as a file in `folder` under a name that a legend can show."""
    stem = "".join(c if c.isalnum() or c in " ._-" else "-" for c in Path(name).stem)[:40].strip(" .") or "curve"
    path = folder / f"{stem}.csv"
    path.write_bytes(content)
    return path


def seeds(kept: Sequence[dict[str, Any]], by: str) -> None:
    """Means over seeds with intervals, and two learners seed by seed: only inside one protocol."""
    st.header("Over seeds", anchor=False)
    number = by if by != "seconds" else "a_last"
    protocols = shared(over_seeds([row for row in kept if row["comparable"]], number))
    if not protocols:
        html.empty("No finished run yet", "Means and intervals need finished runs; three seeds of each say something.")
        return
    options = sorted(range(len(protocols)), key=lambda i: -max(len(g.values) for g in list(protocols.values())[i]))
    lists = list(protocols.values())
    at = 0
    if len(lists) > 1:
        at = st.selectbox("Protocol", options, key=f"protocol-{len(lists)}", format_func=lambda i: stated(lists[i][0]))
    groups = lists[options[0] if len(lists) == 1 or at is None else at]
    names = labels(groups)
    from cillab.figures.seeds import draw_seeds  # noqa: PLC0415 (plotly comes with it)

    charts.panel(draw_seeds(groups, names, NUMBERS[number], theme.mode()), "compare-seeds", "Over seeds")
    if len(groups) > 1:
        _paired(groups, names)


def labels(groups: Sequence[Group]) -> list[str]:
    """Learners by name, with the parameters in which those of one name differ."""
    out = []
    for group in groups:
        alike = [json.loads(g.params or "{}") for g in groups if g.learner == group.learner]
        mine = json.loads(group.params or "{}")
        own = [f"{k}={v}" for k, v in mine.items() if any(other.get(k, "") != v for other in alike)]
        out.append(f"{group.learner} ({', '.join(own[:3])}{' …' if len(own) > 3 else ''})" if own else group.learner)
    return out


def _paired(groups: Sequence[Group], names: list[str]) -> None:
    """One learner minus another on the seeds that both have."""
    st.subheader("Seed by seed", anchor=False)
    pair = _two(names, "seed", "learners")
    if pair is None:
        return
    a, b = pair
    try:
        found = compare(groups[a], groups[b])
    except InvalidRequestError as error:
        html.empty("Cannot be compared", one_line(error))
        return
    i, seeds_shared = found.interval, "of 1 seed" if found.interval.count == 1 else f"of {found.interval.count} seeds"
    html.show(
        html.facts([
            ("Difference", _points(i.mean), "points"),
            ("95 % interval", f"{_points(i.low)} to {_points(i.high)}" if i.count > 1 else html.number(None), ""),
            ("Higher / lower", f"{found.wins} / {found.losses}", seeds_shared),
            ("p, paired t-test", html.number(found.p_value, 2), ""),
        ])
    )  # fmt: skip
    html.note(difference_sentence(groups[a], groups[b]))


def _two(names: list[str], key: str, what: str) -> tuple[int, int] | None:
    """Two places in `names` to subtract from each other; None, with a word on it, while they are the same."""
    left, right = st.columns(2, gap="medium")
    places = range(len(names))
    with left:
        a = st.selectbox("This", places, key=f"{key}-this-{len(names)}", format_func=names.__getitem__)
    with right:
        b = st.selectbox("Minus", places, index=1, key=f"{key}-minus-{len(names)}", format_func=names.__getitem__)
    if a is None or b is None or a == b:
        html.note(f"Choose two different {what}.")
        return None
    return a, b


def _points(value: float) -> str:
    return f"{100 * value:+.2f}".replace("-", "\N{MINUS SIGN}")
