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
from cillab.lab.spec import NOT_IN_DIGEST, RunSpec
from cillab.lab.sweep import Plan, differing, resolved
from cillab.protocol import Protocol, protocol_key
from cillab.runs import Run
from cillab.runs.schema import plain

HEAD = ("row", "seed", "learner", "protocol")  # of the CSV
_MADE: tuple[str, ...] = ("precision", "device", "commit")
_CLASSES = "classes"
_SPEC = "spec"


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
    spec: str = ""  # JSON of all that decides the run's numbers; empty where a CSV does not say it


def finished_lines(plan: Plan, before: Path | None = None) -> list[Line]:
    """The finished runs of `plan`, in its order, `kept_lines` of `before` among them.

    Raises:
        InvalidRequestError: not one run of the plan has finished, or `before` is no CSV of a sweep.
    """
    kept = kept_lines(plan, before) if before is not None else [None] * len(plan.rows)
    found = [_line(plan, row, spec) or old for (row, spec), old in zip(plan.rows, kept, strict=True)]
    if not any(found):
        raise InvalidRequestError(f"No run of {plan.name} has finished: there is nothing to write down yet.")
    return [line for line in found if line is not None]


def kept_lines(plan: Plan, before: Path) -> list[Line | None]:
    """For each run of the plan the line of `before`, the CSV of an earlier table, that was made as it asks.

    It stands for a run whose folder is gone or on another machine: hours of computing would be lost with it.

    Raises:
        InvalidRequestError: `before` is no CSV of a sweep, or one of its specs is none.
    """
    old = from_csv(before) if before.is_file() else []
    made = [(line, RunSpec.of(json.loads(line.spec), owner=f"{before}, row {shown(line.row)}, seed {line.seed},"))
            for line in old if line.spec]  # fmt: skip
    return [
        next((line for line, theirs in made if line.row == row and not differing(spec, theirs)), None)
        for row, spec in plan.rows
    ]


def spec_text(spec: RunSpec) -> str:
    """All that decides the run's numbers, hyper-parameters with their defaults, as one line of JSON."""
    return json.dumps({name: value for name, value in resolved(spec).flat().items() if name not in NOT_IN_DIGEST})


def _line(plan: Plan, row: str, spec: RunSpec) -> Line | None:
    if not (spec.folder() / "result.json").is_file():
        return None
    run = Run(spec.folder())
    if differing(spec, RunSpec.of(run.spec, owner=f"{run.path}/run.json")):
        return None  # the sweep has said so: its numbers do not belong under this name
    info, result, numbers = run.info, run.result, {name: column(name).of(run) for name in plan.columns}
    assert result is not None
    made = dict(zip(_MADE, (info.precision, info.device, info.versions.get("commit", "")), strict=True))
    there = {name: number for name, number in numbers.items() if number is not None and math.isfinite(number)}
    what, seed = result.protocol, spec.stream.seed
    curve, classes = result.accuracy_seen, by_class(run)
    return Line(row, seed, what.learner, _digest(what), made, there, curve, classes, spec_text(spec))


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
    single classes after the last one, as `ID:SHARE ID:SHARE`, and `spec` all that decides the run's numbers.
    """
    tasks = max(len(line.seen) for line in lines)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*HEAD, *_MADE, *plan.columns, *(f"seen {task + 1}" for task in range(tasks)), _CLASSES, _SPEC])
    for line in lines:
        numbers = [line.numbers.get(name) for name in plan.columns]
        curve = [*line.seen, *[None] * (tasks - len(line.seen))]
        cells = ["" if x is None else f"{x:.9g}" for x in (*numbers, *curve)]
        classes = " ".join(f"{label}:{share:.9g}" for label, share in sorted(line.classes.items()))
        writer.writerow(
            [line.row, line.seed, line.learner, line.protocol, *line.made.values(), *cells, classes, line.spec]
        )
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
    known = (*HEAD, *_MADE, _CLASSES, _SPEC)
    numbers = {name: float(value) for name, value in row.items() if value and name not in known}
    numbers = {name: number for name, number in numbers.items() if math.isfinite(number)}
    seen = [numbers.pop(name) for name in list(numbers) if name.startswith("seen ")]
    classes = {int(label): float(share) for label, share in (pair.split(":") for pair in row[_CLASSES].split())}
    name, made = printable(row["row"]).replace("|", "/"), {name: row[name] for name in _MADE}  # it stands in a table
    spec = row.get(_SPEC, "")
    if spec and not isinstance(json.loads(spec), dict):
        raise ValueError(f"the spec of row {shown(name)} is no record")
    return Line(name, int(row["seed"]), row["learner"], row["protocol"], made, numbers, seen, classes, spec)
