"""The table of a sweep: each row's mean and interval over seeds, its difference from the first row, how to make it."""

import math
from collections.abc import Mapping
from pathlib import Path

from cillab.core.errors import InvalidRequestError
from cillab.geometry.seeds import paired_difference, t_interval
from cillab.lab.sweep import Plan
from cillab.runs import Run

_NAMES = {
    "a_last": "A_last", "a_avg": "A_avg", "forgetting_chaudhry": "forgetting", "accuracy_head": "head",
    "accuracy_medium": "medium", "accuracy_tail": "tail", "accuracy_base": "base", "accuracy_new": "new",
    "harmonic": "H",
}  # fmt: skip

Values = dict[str, dict[int, float]]  # row -> seed -> number


def results(plan: Plan) -> str:
    """Markdown: title, protocol, one line per row, what was left undone, and the command.

    Raises:
        InvalidRequestError: not one run of the plan has finished.
    """
    values = {name: _values(plan, name) for name in plan.report}
    first, rows = plan.rows[0][0], list(dict.fromkeys(row for row, _ in plan.rows))
    if not any(seeds for table in values.values() for seeds in table.values()):
        raise InvalidRequestError(f"No run of {plan.name} has finished: there is nothing to write down yet.")
    heads = [_NAMES.get(name, name.rpartition("/")[2]) for name in plan.report]
    lines = [f"# {plan.title}", "", *([plan.notes, ""] if plan.notes else []), *_protocol(plan), ""]
    lines += [
        f"| | {' | '.join(heads)} | {heads[0]} against “{first}” | seeds |",
        "| --- |" + " --- |" * (len(heads) + 2),
    ]
    for row in rows:
        cells = [_cell(name, values[name][row]) for name in plan.report]
        difference = "" if row == first else _difference(values[plan.report[0]], row, first)
        lines.append(f"| {row} | {' | '.join(cells)} | {difference} | {len(values[plan.report[0]][row])} |")
    lines += ["", "Mean and 95 % t-interval over seeds (each seed is a class order, and decides every random draw).",
              "The last comparison is paired by seed.", "", "Made by", "",
              f"    cillab sweep {plan.name} --table FILE.md", ""]  # fmt: skip
    return "\n".join(lines)


def write_results(plan: Plan, path: Path) -> None:
    """Put the table into `path`; whatever stands there below a line `<!-- remarks -->` is kept.

    Raises:
        InvalidRequestError: there is nothing to write down yet.
    """
    text, mark = results(plan), "<!-- remarks -->"
    if path.is_file():
        _, found, remarks = path.read_text(encoding="utf-8").partition(mark)
        text += f"\n{mark}{remarks}" if found else ""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".tmp")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)


def _values(plan: Plan, name: str) -> Values:
    """One number of every finished run: from result.json, or a scalar of the last step if its name has a slash."""
    found: Values = {row: {} for row, _ in plan.rows}
    for row, spec in plan.rows:
        if not (spec.folder() / "result.json").is_file():
            continue
        run = Run(spec.folder())
        number = float(run.metrics().over(name, run.steps)[-1]) if "/" in name else getattr(run.result, name, None)
        if number is not None and math.isfinite(number):
            found[row][spec.stream.seed] = number
    return found


def _cell(name: str, seeds: Mapping[int, float]) -> str:
    if not seeds:
        return ""
    factor, digits = (1, 3) if "/" in name and not name.startswith(("accuracy/", "transport/improved")) else (100, 1)
    interval = t_interval([factor * value for value in seeds.values()])
    spread = "" if math.isnan(interval.half_width) else f" ± {interval.half_width:.{digits}f}"
    return f"{interval.mean:.{digits}f}{spread}"


def _difference(table: Values, row: str, first: str) -> str:
    common = sorted(table[row].keys() & table[first].keys())
    if not common:
        return ""
    found = paired_difference([100 * table[row][s] for s in common], [100 * table[first][s] for s in common]).interval
    if math.isnan(found.half_width):
        return f"{found.mean:+.1f}"
    return f"{found.mean:+.1f} [{found.low:+.1f}, {found.high:+.1f}]"


def _protocol(plan: Plan) -> list[str]:
    """What the runs share, and how the first one was made."""
    spec = plan.rows[0][1]
    stream, backbone = spec.stream, spec.backbone
    said = [f"data `{stream.data}`", f"split `{stream.split}`", f"backbone `{backbone.name}`"]
    said += [f"scenario `{stream.scenario.text}`"] if stream.scenario.text != "class-incremental" else []
    said += [f"{backbone.image_size} px"] if backbone.image_size else []
    said += [f"{stream.train_per_class} training images a class"] if stream.train_per_class else []
    said += [f"{stream.test_per_class} test images a class"] if stream.test_per_class else []
    for _, other in plan.rows:
        path = other.folder() / "result.json"
        if path.is_file():
            run = Run(other.folder())
            said += [f"precision {run.info.precision}", f"device {run.info.device}"]
            said += [f"commit `{run.info.versions['commit']}`"] if "commit" in run.info.versions else []
            break
    return [", ".join(said) + "."]
