"""The table of a sweep: each row's mean and interval over seeds, its difference from the first row, how to make it.

Beside it stands a CSV with one line per run. Another sweep can lay it into its own table: a method that is compared
with a field need not run the field again.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cillab.lab.columns import Column, column
from cillab.lab.lines import HEAD, Line, as_csv, finished_lines, from_csv, kept_lines
from cillab.lab.spec import RunSpec
from cillab.lab.sweep import Plan
from cillab.learners import learners
from cillab.runs.files import csv_beside, write_page, write_text


def check_page(plan: Plan, path: Path | None = None, beside: Path | None = None) -> None:
    """Refuse a plan whose table could not be written once its runs are done.

    Raises:
        UnknownNameError: `report:` or `detail:` names a column that there is not.
        InvalidRequestError: there is no room for the CSV beside `path`, or `beside` is no CSV of a sweep.
    """
    if path is not None:
        kept_lines(plan, csv_beside(path, HEAD[:2]))
    if beside is not None:
        from_csv(beside)
    for name in plan.columns:
        column(name)


def not_in_page(plan: Plan, path: Path) -> list[RunSpec]:
    """The runs of `plan` that have no line in the CSV beside `path`, as `check_page` allowed it."""
    kept = kept_lines(plan, csv_beside(path, HEAD[:2]))
    return [spec for spec, line in zip(plan.specs, kept, strict=True) if line is None]


def write_sweep_page(plan: Plan, path: Path, beside: Path | None = None) -> None:
    """Put the table into `path`, and one line per run into a CSV of the same name.

    Lines that stand there already stay where their run is asked for and its folder is not here. Rows of `beside`, the
    CSV of another sweep, stand in the table where they have the same protocol. Whatever stands in the page below a line
    `<!-- remarks -->` is kept.

    Raises:
        InvalidRequestError: there is nothing to write down yet, no room for the CSV, or `beside` is none.
    """
    rows = csv_beside(path, HEAD[:2])
    lines = finished_lines(plan, rows)
    write_page(path, sweep_page(plan, lines, beside))
    write_text(rows, as_csv(plan, lines))


def sweep_page(plan: Plan, lines: Sequence[Line], beside: Path | None = None) -> str:
    """Markdown: title, protocol, rows with their difference from the first, what stands behind them, the command."""
    first, named = plan.rows[0][0], list(dict.fromkeys(row for row, _ in plan.rows))
    theirs, said = _laid(plan, lines, beside) if beside is not None else ([], [])
    text = [f"# {plan.title}", "", *([plan.notes, ""] if plan.notes else []), *_protocol(plan, lines), ""]
    left = [row for row in named if not any(line.row == row for line in lines)]
    lines = [*sorted(lines, key=lambda line: named.index(line.row)), *theirs]
    heading, by_class = column(plan.report[0]).heading, plan.report[0] == "a_last"
    against = [f"{heading} against “{first}”", "over seeds", *(["over classes"] if by_class else []), "seeds"]
    text += _table(lines, plan.report, against, lambda row: _difference(plan.report[0], lines, row, first))
    text += ["", *said] if said else []
    text += ["", f"Not run yet: {', '.join(f'`{row}`' for row in left)}."] if left else []
    text += ["", "Mean and 95 % t-interval over seeds: each seed is a class order, and decides every random draw.",
             f"The difference from “{first}” is paired by seed."]  # fmt: skip
    other = "Paired by class (mean over seeds), its interval says what other classes and images would change."
    text += [other, ""] if by_class else [""]
    if plan.detail:
        text += ["## Behind these numbers", "", "After the last task. " + _words([*map(column, plan.detail)]), ""]
        text += [*_table(lines, plan.detail, ["evidence"], lambda row: [_evidence(lines, row)]), ""]
    more = f" --beside {beside}" if beside is not None else ""
    return "\n".join([*text, "Made by", "", f"    cillab sweep {plan.name} --table FILE.md{more}", ""])


def _laid(plan: Plan, lines: Sequence[Line], beside: Path) -> tuple[list[Line], list[str]]:
    """Lines of another sweep's CSV that may stand beside these, and a sentence on each kind."""
    own, protocols = {row for row, _ in plan.rows}, {line.protocol for line in lines}
    other = [line for line in from_csv(beside) if line.row not in own]
    laid = [line for line in other if line.protocol in protocols]
    rows, apart = list(dict.fromkeys(line.row for line in laid)), len(other) - len(laid)
    made = ", ".join(sorted({line.made["precision"] for line in laid}))
    said = [f"From `{beside.name}` ({made}): {', '.join(f'`{row}`' for row in rows)}."] if rows else []
    if apart:
        said.append(f"{apart} of its runs have other images, another order, split or backbone: they are left out.")
    return laid, said


def _table(
    lines: Sequence[Line], names: Sequence[str], more: Sequence[str], cells: Callable[[str], Sequence[str]]
) -> list[str]:
    """A line per row: mean and interval of `names`, then what `cells` says under the headings `more`.

    Rows that store training images stand below the others: they are no rivals.
    """
    heads = [*(column(name).heading for name in names), *more]
    text = [f"| | {' | '.join(heads)} |", "| --- |" + " --- |" * len(heads)]
    rows = dict.fromkeys(line.row for line in lines)
    keeps = [row for row in rows if _keeps_images(lines, row)]
    for row in [*(row for row in rows if row not in keeps), *keeps]:
        if keeps and row == keeps[0]:
            text.append(f"| *with stored training images* |{' |' * len(heads)}")
        numbers = [[line.numbers[name] for line in lines if line.row == row and name in line.numbers] for name in names]
        shown = [column(name).shown(found) if found else "" for name, found in zip(names, numbers, strict=True)]
        text.append(f"| {' | '.join([row, *shown, *cells(row)])} |")
    return text


def _of(lines: Sequence[Line], row: str) -> Line:
    return next(line for line in lines if line.row == row)


def _keeps_images(lines: Sequence[Line], row: str) -> bool:
    line = _of(lines, row)
    known = line.learner in learners  # a package that is not installed here may have made the CSV
    return learners[line.learner].capabilities.exemplars if known else line.numbers.get("stored_images", 0) > 0


def _evidence(lines: Sequence[Line], row: str) -> str:
    name = _of(lines, row).learner
    return learners[name].capabilities.evidence if name in learners else ""


def _words(columns: Sequence[Column]) -> str:
    """What the headings do not say."""
    said = [f"*{one.heading}*: {one.says}" for one in columns if one.says]
    return "; ".join(said) + "." if said else ""


def _difference(name: str, lines: Sequence[Line], row: str, first: str) -> list[str]:
    """Mean of row - first over the seeds that both have, half its interval over seeds and classes; seeds of the row."""
    base = {line.seed: line for line in lines if line.row == first}
    shown, mine = column(name), [line for line in lines if line.row == row and name in line.numbers]
    pairs = [(line, base[line.seed]) for line in mine if line.seed in base and name in base[line.seed].numbers]
    if row == first or not pairs:
        return [*(["", "", ""] if name == "a_last" else ["", ""]), str(len(mine))]
    seeds = shown.interval([a.numbers[name] - b.numbers[name] for a, b in pairs])
    mean = f"{round(seeds.mean, shown.digits) + 0.0:+.{shown.digits}f}"  # no "-0.0"
    many = str(len(mine)) if len(pairs) == len(mine) else f"{len(mine)}, {len(pairs)} paired"
    if name != "a_last":
        return [mean, shown.half(seeds), many]
    shared = set.intersection(*(set(a.classes) & set(b.classes) for a, b in pairs))
    by_class = [[a.classes[c] - b.classes[c] for a, b in pairs] for c in sorted(shared)]
    classes = shown.half(shown.interval(np.mean(by_class, axis=1))) if by_class else ""
    return [mean, shown.half(seeds), classes, many]


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
