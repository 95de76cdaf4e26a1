"""The table of a sweep: each row's mean and interval over seeds, its difference from the first row, how to make it.

Beside it stands a CSV with one line per run, so that a reader can pair a method of their own with ours.
"""

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cillab.core.contract import Capabilities
from cillab.core.errors import InvalidRequestError
from cillab.lab.columns import Column, column
from cillab.lab.sweep import Plan
from cillab.learners import learners
from cillab.runs import Run
from cillab.runs.files import csv_beside, write_page, write_text


def check_page(plan: Plan, path: Path | None = None) -> None:
    """Refuse a plan whose table could not be written once its runs are done.

    Raises:
        UnknownNameError: `report:` or `detail:` names a column that there is not.
        InvalidRequestError: there is no room for the CSV beside `path`.
    """
    if path is not None:
        csv_beside(path, _HEAD)
    for name in plan.columns:
        column(name)


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
    info, numbers = run.info, {name: column(name).of(run) for name in plan.columns}
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
    writer.writerow([*_HEAD, *made, *plan.columns, *(f"seen {task + 1}" for task in range(tasks))])
    for line in lines:
        numbers = [line.numbers.get(name) for name in plan.columns]
        curve = [*line.seen, *[None] * (tasks - len(line.seen))]
        cells = ["" if x is None else f"{x:.6g}" for x in (*numbers, *curve)]
        writer.writerow([line.row, line.seed, *line.made.values(), *cells])
    return out.getvalue()


def sweep_page(plan: Plan, lines: Sequence[Line]) -> str:
    """Markdown: title, protocol, rows with their difference from the first, what stands behind them, the command."""
    first, named = plan.rows[0][0], list(dict.fromkeys(row for row, _ in plan.rows))
    rows = [row for row in named if any(line.row == row for line in lines)]
    against = [f"{column(plan.report[0]).heading} against “{first}”", "over seeds", "over classes", "seeds"]
    text = [f"# {plan.title}", "", *([plan.notes, ""] if plan.notes else []), *_protocol(plan, lines), ""]
    text += _table(plan, lines, rows, plan.report, against, lambda row: _difference(plan, lines, row, first))
    if left := [row for row in named if row not in rows]:
        text += ["", f"Not run yet: {', '.join(f'`{row}`' for row in left)}."]
    text += ["", "Mean and 95 % t-interval over seeds: each seed is a class order, and decides every random draw.",
             f"The difference from “{first}” is paired, once by seed and once by class (mean over the seeds). The",
             "interval over classes holds what other classes and images would change, that over seeds an order.",
             ""]  # fmt: skip
    if plan.detail:
        said = [column(name) for name in plan.detail]
        text += ["## Behind these numbers", "", "After the last task. " + _words(said), ""]
        text += [*_table(plan, lines, rows, plan.detail, ["evidence"], lambda row: [_evidence(plan, row)]), ""]
    return "\n".join([*text, "Made by", "", f"    cillab sweep {plan.name} --table FILE.md", ""])


def _table(
    plan: Plan,
    lines: Sequence[Line],
    rows: Sequence[str],
    names: Sequence[str],
    more: Sequence[str],
    cells: Callable[[str], Sequence[str]],
) -> list[str]:
    """A line per row: mean and interval of `names`, then what `cells` says under the headings `more`.

    Rows that store training images stand below the others: they are no rivals.
    """
    heads = [*(column(name).heading for name in names), *more]
    text = [f"| | {' | '.join(heads)} |", "| --- |" + " --- |" * len(heads)]
    keeps = [row for row in rows if _learner(plan, row).exemplars]
    for row in [*(row for row in rows if row not in keeps), *keeps]:
        if keeps and row == keeps[0]:
            text.append(f"| *with stored training images* |{' |' * len(heads)}")
        numbers = [[line.numbers[name] for line in lines if line.row == row and name in line.numbers] for name in names]
        shown = [column(name).shown(found) if found else "" for name, found in zip(names, numbers, strict=True)]
        text.append(f"| {' | '.join([row, *shown, *cells(row)])} |")
    return text


def _learner(plan: Plan, row: str) -> Capabilities:
    return next(learners[spec.learner].capabilities for name, spec in plan.rows if name == row)


def _evidence(plan: Plan, row: str) -> str:
    return _learner(plan, row).evidence


def _words(columns: Sequence[Column]) -> str:
    """What the headings do not say."""
    said = [f"*{one.heading}*: {one.says}" for one in columns if one.says]
    return "; ".join(said) + "." if said else ""


def _difference(plan: Plan, lines: Sequence[Line], row: str, first: str) -> list[str]:
    """Mean of row - first over the seeds that both have, half its interval over seeds and over classes; its seeds."""
    name, base = plan.report[0], {line.seed: line for line in lines if line.row == first}
    shown, mine = column(name), [line for line in lines if line.row == row and name in line.numbers]
    pairs = [(line, base[line.seed]) for line in mine if line.seed in base and name in base[line.seed].numbers]
    if row == first or not pairs:
        return ["", "", "", str(len(mine))]
    seeds = shown.interval([a.numbers[name] - b.numbers[name] for a, b in pairs])
    mean = f"{round(seeds.mean, shown.digits) + 0.0:+.{shown.digits}f}"  # no "-0.0"
    shared = set.intersection(*(set(a.classes) & set(b.classes) for a, b in pairs)) if name == "a_last" else set()
    by_class = [[a.classes[c] - b.classes[c] for a, b in pairs] for c in sorted(shared)]
    classes = shown.half(shown.interval(np.mean(by_class, axis=1))) if by_class else ""
    return [mean, shown.half(seeds), classes, str(len(mine))]


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
