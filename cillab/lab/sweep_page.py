"""The table of a sweep: each row's mean and interval over seeds, its difference from the first row, how to make it.

Beside it stands a CSV with one line per run, so that a reader can pair a method of their own with ours.
"""

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cillab.core.errors import InvalidRequestError, unknown_name
from cillab.geometry.nc1 import nc1_quotient
from cillab.geometry.rows import centre
from cillab.geometry.seeds import Interval, t_interval
from cillab.lab.sweep import Plan
from cillab.learners import learners
from cillab.runs import Run
from cillab.runs.files import csv_beside, write_page, write_text


@dataclass(frozen=True)
class Column:
    """A number of a finished run as a table shows it."""

    heading: str
    of: Callable[[Run], float | None]
    factor: float = 100.0  # shares are shown in percent
    digits: int = 1
    spread: bool = True  # a cost is shown without an interval


def _age(run: Run, old: bool) -> float | None:
    """NC1 after the last task, mean over the classes of the newest task or over all others."""
    shot = run.snapshot(run.steps[-1])
    means = centre(np.asarray(shot["means/now"], np.float64))
    values = nc1_quotient(shot["nc/within"], np.ones(len(means), np.int64), means).per_class
    tasks = np.asarray(shot["task_of_class"])
    chosen = values[(tasks < tasks.max()) if old else (tasks == tasks.max())]
    return float(np.nanmean(chosen)) if np.isfinite(chosen).any() else None


def _shown(heading: str, name: str, **how: Any) -> Column:
    return Column(heading, lambda run: getattr(run.result, name, None), **how)


_COLUMNS: dict[str, Column] = {
    "a_last": _shown("A_last", "a_last"),
    "a_avg": _shown("A_avg", "a_avg"),
    "forgetting_chaudhry": _shown("forgetting", "forgetting_chaudhry"),
    "accuracy_head": _shown("head", "accuracy_head"),
    "accuracy_medium": _shown("medium", "accuracy_medium"),
    "accuracy_tail": _shown("tail", "accuracy_tail"),
    "accuracy_base": _shown("base", "accuracy_base"),
    "accuracy_new": _shown("new", "accuracy_new"),
    "harmonic": _shown("H", "harmonic"),
    "a_auc": _shown("A_AUC", "a_auc"),
    "transfer": _shown("Transfer", "transfer"),
    "mtil_avg": _shown("Avg", "mtil_avg"),
    "mtil_last": _shown("Last", "mtil_last"),
    "nc1_old": Column("NC1 old", lambda run: _age(run, old=True), 1.0, 2),
    "nc1_new": Column("NC1 new", lambda run: _age(run, old=False), 1.0, 2),
    "seconds": Column("seconds", lambda run: run.result.seconds.get("total") if run.result else None, 1.0, 0, False),
    "stored_floats": _shown("stored (M)", "stored_floats", factor=1e-6, digits=2, spread=False),
    "passes_per_test_image": _shown("passes", "passes_per_test_image", factor=1.0, digits=1, spread=False),
}


def _column(name: str) -> Column:
    """The column called `name`: of the table above, or a scalar of the last step if its name has a slash."""
    if name in _COLUMNS:
        return _COLUMNS[name]
    if "/" not in name:
        raise unknown_name("column", name, _COLUMNS)
    share = name.startswith(("accuracy/", "transport/improved"))
    return Column(
        name.rpartition("/")[2],
        lambda run: float(run.metrics().over(name, run.steps)[-1]),
        *((100.0, 1) if share else (1.0, 3)),
    )


def check_page(plan: Plan, path: Path | None = None) -> None:
    """Refuse a plan whose table could not be written once its runs are done.

    Raises:
        UnknownNameError: `report:` names a column that there is not.
        InvalidRequestError: there is no room for the CSV beside `path`.
    """
    if path is not None:
        csv_beside(path, _HEAD)
    for name in plan.report:
        _column(name)


@dataclass(frozen=True)
class Line:
    """A finished run of a plan: its row, its seed, the table's numbers, accuracies after each task and by class."""

    row: str
    seed: int
    made: Mapping[str, str]  # precision, device, commit
    numbers: Mapping[str, float]  # by column of the table, where the run has one
    seen: Sequence[float]
    classes: Mapping[int, float]  # after the last task: the mean over classes is A_last


_HEAD = ("row", "seed")  # of the CSV
Values = dict[str, dict[int, float]]  # row -> seed -> number


def finished_lines(plan: Plan) -> list[Line]:
    """The finished runs of `plan`, in its order.

    Raises:
        InvalidRequestError: not one run of the plan has finished.
    """
    found = [
        _line(plan, row, spec.stream.seed, Run(spec.folder()))
        for row, spec in plan.rows
        if (spec.folder() / "result.json").is_file()
    ]
    if not found:
        raise InvalidRequestError(f"No run of {plan.name} has finished: there is nothing to write down yet.")
    return found


def _line(plan: Plan, row: str, seed: int, run: Run) -> Line:
    info, numbers = run.info, {name: _column(name).of(run) for name in plan.report}
    made = {"precision": info.precision, "device": info.device, "commit": info.versions.get("commit", "")}
    there = {name: number for name, number in numbers.items() if number is not None and math.isfinite(number)}
    return Line(row, seed, made, there, run.result.accuracy_seen if run.result else (), _by_class(run))


def _by_class(run: Run) -> dict[int, float]:
    """What each class gives to A_last: its right answers over a mean class's images. Empty where none were counted."""
    shot = run.snapshot(run.steps[-1])
    counts = np.asarray(shot["confusion"], np.float64) if "confusion" in shot else np.zeros((0, 0))
    if not counts.sum():
        return {}
    return dict(zip(shot["seen"].tolist(), (np.diag(counts) * len(counts) / counts.sum()).tolist(), strict=True))


def write_sweep_page(plan: Plan, path: Path) -> None:
    """Put the table into `path`, and one line per run into a CSV of the same name.

    Whatever stands in the page below a line `<!-- remarks -->` is kept.

    Raises:
        InvalidRequestError: there is nothing to write down yet, or no room for the CSV.
    """
    lines, rows = finished_lines(plan), csv_beside(path, _HEAD)
    write_page(path, sweep_page(plan, lines))
    write_text(rows, sweep_csv(plan, lines))


def sweep_csv(plan: Plan, lines: Sequence[Line]) -> str:
    """One line per run: row, seed, what it was made with, the numbers of the table (accuracies are shares), a curve.

    `seen 1`, `seen 2` ... are the accuracies over all classes seen so far, after each task.
    """
    tasks = max(len(line.seen) for line in lines)
    made = list(lines[0].made)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*_HEAD, *made, *plan.report, *(f"seen {task + 1}" for task in range(tasks))])
    for line in lines:
        numbers = [line.numbers.get(name) for name in plan.report]
        curve = [*line.seen, *[None] * (tasks - len(line.seen))]
        cells = ["" if x is None else f"{x:.6g}" for x in (*numbers, *curve)]
        writer.writerow([line.row, line.seed, *line.made.values(), *cells])
    return out.getvalue()


def sweep_page(plan: Plan, lines: Sequence[Line]) -> str:
    """Markdown: title, protocol, one line per row, what was left undone, and the command."""
    values = {name: _values(plan, name, lines) for name in plan.report}
    first, named = plan.rows[0][0], list(dict.fromkeys(row for row, _ in plan.rows))
    rows = [row for row in named if any(line.row == row for line in lines)]
    heads = [_column(name).heading for name in plan.report]
    text = [f"# {plan.title}", "", *([plan.notes, ""] if plan.notes else []), *_protocol(plan, lines), ""]
    text += [
        f"| | {' | '.join(heads)} | {heads[0]} against “{first}” | over seeds | over classes | seeds |",
        "| --- |" + " --- |" * (len(heads) + 4),
    ]
    keeps = [row for row in rows if _keeps_images(plan, row)]
    for row in [*(row for row in rows if row not in keeps), *keeps]:
        if keeps and row == keeps[0]:
            text.append(f"| *with stored training images* |{' |' * (len(heads) + 4)}")
        cells = [_cell(name, values[name][row]) for name in plan.report]
        cells += ["", "", ""] if row == first else _difference(plan.report[0], lines, row, first)
        text.append(f"| {row} | {' | '.join(cells)} | {len(values[plan.report[0]][row])} |")
    if left := [row for row in named if row not in rows]:
        text += ["", f"Not run yet: {', '.join(f'`{row}`' for row in left)}."]
    text += ["", "Mean and 95 % t-interval over seeds: each seed is a class order, and decides every random draw.",
             f"The difference from “{first}” is paired, once by seed and once by class (mean over the seeds). The",
             "interval over classes holds what other images or classes would change, that over seeds an order.", "",
             "Made by", "",
             f"    cillab sweep {plan.name} --table FILE.md", ""]  # fmt: skip
    return "\n".join(text)


def _values(plan: Plan, name: str, lines: Sequence[Line]) -> Values:
    """One number of every finished run."""
    found: Values = {row: {} for row, _ in plan.rows}
    for line in lines:
        if name in line.numbers:
            found[line.row][line.seed] = line.numbers[name]
    return found


def _keeps_images(plan: Plan, row: str) -> bool:
    """Do the runs of this row store training images? Such rows are no rivals of those that store none."""
    return any(learners[spec.learner].capabilities.exemplars for name, spec in plan.rows if name == row)


def _cell(name: str, seeds: Mapping[int, float]) -> str:
    if not seeds:
        return ""
    column = _column(name)
    interval = t_interval([column.factor * value for value in seeds.values()])
    return f"{interval.mean:.{column.digits}f} {_spread(column, interval) if column.spread else ''}".rstrip()


def _spread(column: Column, interval: Interval) -> str:
    return "" if math.isnan(interval.half_width) else f"± {interval.half_width:.{column.digits}f}"


def _difference(name: str, lines: Sequence[Line], row: str, first: str) -> list[str]:
    """Three cells: mean of row - first over the seeds that both have, half its interval over seeds and over classes."""
    column, base = _column(name), {line.seed: line for line in lines if line.row == first}
    pairs = [(line, base[line.seed]) for line in lines if line.row == row and line.seed in base]
    pairs = [(a, b) for a, b in pairs if name in a.numbers and name in b.numbers]
    if not pairs:
        return ["", "", ""]
    seeds = t_interval([column.factor * (a.numbers[name] - b.numbers[name]) for a, b in pairs])
    cells = [f"{round(seeds.mean, column.digits) + 0.0:+.{column.digits}f}", _spread(column, seeds)]  # no "-0.0"
    shared = set.intersection(*(set(a.classes) & set(b.classes) for a, b in pairs)) if name == "a_last" else set()
    if not shared:
        return [*cells, ""]
    by_class = [[a.classes[c] - b.classes[c] for a, b in pairs] for c in sorted(shared)]
    return [*cells, _spread(column, t_interval(column.factor * np.mean(by_class, axis=1)))]


def _protocol(plan: Plan, lines: Sequence[Line]) -> list[str]:
    """What the runs share, and how they were made."""
    stream, backbone = plan.rows[0][1].stream, plan.rows[0][1].backbone
    said = [f"data `{stream.data}`", f"split `{stream.split}`", f"backbone `{backbone.name}`"]
    said += [f"scenario `{stream.scenario.text}`"] if stream.scenario.text != "class-incremental" else []
    said += [f"{backbone.image_size} px"] if backbone.image_size else []
    said += [f"{stream.train_per_class} training images a class"] if stream.train_per_class else []
    said += [f"{stream.test_per_class} test images a class"] if stream.test_per_class else []
    for what in lines[0].made:
        values = sorted({line.made[what] for line in lines} - {""})
        said += [f"{what} {' and '.join(f'`{v}`' if what == 'commit' else v for v in values)}"] if values else []
    return [", ".join(said) + "."]
