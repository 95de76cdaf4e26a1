"""The runs of a sweep, a line each: what its tables are made of, and the CSV that keeps them."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from cillab.core.errors import InvalidRequestError, nearest, one_line, printable, shown
from cillab.lab.columns import column
from cillab.lab.sweep import Plan
from cillab.protocol import Protocol, protocol_key
from cillab.runs import Run
from cillab.runs.schema import plain

HEAD = ("row", "seed", "learner", "protocol")  # of the CSV
_MADE: tuple[str, ...] = ("precision", "device", "commit")
_CLASSES = "classes"


@dataclass(frozen=True)
class Line:
    """A finished run: its row, its seed, the table's numbers, accuracies after each task and by class."""

    row: str
    seed: int
    learner: str
    protocol: str  # short digest of data, order, split, backbone: where it agrees, two lines may be paired
    made: Mapping[str, str]  # precision, device, commit
    numbers: Mapping[str, float]  # by column of the table, where the run has one
    seen: Sequence[float]
    classes: Mapping[int, float]  # by class id, after the last task: their mean is A_last


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
    info, result, numbers = run.info, run.result, {name: column(name).of(run) for name in plan.columns}
    assert result is not None
    made = dict(zip(_MADE, (info.precision, info.device, info.versions.get("commit", "")), strict=True))
    there = {name: number for name, number in numbers.items() if number is not None and math.isfinite(number)}
    protocol = result.protocol
    return Line(row, seed, protocol.learner, _digest(protocol), made, there, result.accuracy_seen, by_class(run))


def _digest(protocol: Protocol) -> str:
    """Of what must agree. Images are known by their bytes, not by a name; whether some are kept is said elsewhere."""
    facts = {name: getattr(protocol, name) for name in protocol_key() if name not in ("data", "exemplars")}
    return sha256(json.dumps(plain(facts), sort_keys=True).encode()).hexdigest()[:12]


def by_class(run: Run) -> dict[int, float]:
    """What each class gives to A_last: its right answers over a mean class's images. Empty where none were counted."""
    shot = run.snapshot(run.steps[-1])
    counts = np.asarray(shot["confusion"], np.float64) if "confusion" in shot else np.zeros((0, 0))
    if not counts.sum():
        return {}
    return dict(zip(shot["seen"].tolist(), (np.diag(counts) * len(counts) / counts.sum()).tolist(), strict=True))


def as_csv(plan: Plan, lines: Sequence[Line]) -> str:
    """One line per run: row, seed, what it was made with, the numbers of the table (accuracies are shares), a curve.

    `seen 1`, `seen 2` ... are the accuracies over all classes seen so far, after each task. `classes` holds those of
    single classes after the last one, as `ID:SHARE ID:SHARE`.
    """
    tasks = max(len(line.seen) for line in lines)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*HEAD, *_MADE, *plan.columns, *(f"seen {task + 1}" for task in range(tasks)), _CLASSES])
    for line in lines:
        numbers = [line.numbers.get(name) for name in plan.columns]
        curve = [*line.seen, *[None] * (tasks - len(line.seen))]
        cells = ["" if x is None else f"{x:.6g}" for x in (*numbers, *curve)]
        classes = " ".join(f"{label}:{share:.6g}" for label, share in sorted(line.classes.items()))
        writer.writerow([line.row, line.seed, line.learner, line.protocol, *line.made.values(), *cells, classes])
    return out.getvalue()


def from_csv(path: Path) -> list[Line]:
    """The lines that `as_csv` wrote.

    Raises:
        InvalidRequestError: no such file, with the nearest one there is, or no such CSV.
    """
    if not path.is_file():
        hint = nearest(path.name, [file.name for file in path.parent.glob("*.csv")])
        meant = f" Did you mean {str(path.parent / hint)!r}?" if hint else ""
        raise InvalidRequestError(f"There is no file {shown(str(path), 200)}.{meant}")
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if not rows or not {*HEAD, *_MADE, _CLASSES} <= {*rows[0]}:
            raise ValueError(f"its first line must begin with {', '.join(HEAD)} and end with {_CLASSES}")
        if any(None in row or None in row.values() for row in rows):
            raise ValueError("a line has another number of columns than the first")
        return [_read(row) for row in rows]
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise InvalidRequestError(f"{path} is no CSV of a sweep: {one_line(error)}.") from error


def _read(row: Mapping[str, str]) -> Line:
    known = (*HEAD, *_MADE, _CLASSES)
    numbers = {name: float(value) for name, value in row.items() if value and name not in known}
    numbers = {name: number for name, number in numbers.items() if math.isfinite(number)}
    seen = [numbers.pop(name) for name in list(numbers) if name.startswith("seen ")]
    classes = {int(label): float(share) for label, share in (pair.split(":") for pair in row[_CLASSES].split())}
    name, made = printable(row["row"]).replace("|", "/"), {name: row[name] for name in _MADE}  # it stands in a table
    return Line(name, int(row["seed"]), row["learner"], row["protocol"], made, numbers, seen, classes)
