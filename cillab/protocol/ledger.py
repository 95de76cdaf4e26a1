"""What others have published: protocol, numbers, curve and where they stand, as data. Numbers are percent there."""

import csv
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64
from pydantic import BaseModel, ConfigDict, Field

from cillab.core.errors import CillabError, InvalidRequestError, one_line, printable, unknown_name
from cillab.protocol.scenario import make_scenario
from cillab.protocol.splits import parse_split

FILE = Path(__file__).with_name("published.json")


class Published(BaseModel):
    """One published result: enough to run it again and to say how near one came."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    learner: str | None  # None: no learner here can run it, and `note` says why
    params: dict[str, Any]
    data: str
    classes: int
    split: str
    order: str
    seed: int
    backbone: str  # "" where the weights are not those of a hub
    transform: str
    a_avg: float | None  # percent
    a_last: float | None
    tolerance: float  # points within which a result counts as the same; seeds and hardware move it by so much
    curve: list[float] = Field(default_factory=list)  # accuracy on the classes seen after each task, percent
    source: str
    note: str = ""  # what a run here lacks of the published one; without a learner, why there is no run

    @property
    def seen(self) -> Float64[np.ndarray, " task"]:
        """Number of classes seen after each task."""
        return np.cumsum(parse_split(self.split, self.classes)).astype(np.float64)


@cache
def ledger() -> dict[str, Published]:
    """Every entry by name."""
    return {entry["name"]: Published(**entry) for entry in json.loads(FILE.read_text(encoding="utf-8"))}


def entry_of(name: str) -> Published:
    """The entry called `name`.

    Raises:
        UnknownNameError: no such entry, with the nearest one.
    """
    if name not in ledger():
        raise unknown_name("published result", name, ledger())
    return ledger()[name]


def curve_of(name: str | Path) -> tuple[Float64[np.ndarray, " task"], Float64[np.ndarray, " task"]]:
    """Classes seen and accuracy (a fraction) of a curve: an entry's name, a CSV file, or `FILE.csv:ROW` of a sweep.

    The file has two columns, classes seen and accuracy, under a header or not; accuracies above 1.5 are percent. What
    spreadsheets write is read as well: semicolons or tabs between the columns, then also commas in the numbers. The
    curve of a sweep's row is the mean over its runs.

    Raises:
        UnknownNameError: neither a file nor an entry, or no such row. InvalidRequestError: an entry without a curve, or
            a file that is no such table.
    """
    path, row = parted(name)
    if row:
        return _row(path, row)
    if path.suffix.lower() == ".csv":
        if rows := rows_of(path):
            raise InvalidRequestError(f"{path} is the CSV of a sweep: name one of its rows, as in {path}:{rows[0]}.")
        return _table(path)
    entry = entry_of(str(name))
    if not entry.curve:
        raise InvalidRequestError(f"{entry.name} has numbers and no curve: {entry.source}.")
    return entry.seen, np.array(entry.curve) / 100


def parted(name: str | Path) -> tuple[Path, str]:
    """File and row of `FILE.csv:ROW`; anything else is a path without a row."""
    file, _, row = str(name).partition(".csv:")
    return (Path(f"{file}.csv"), row) if row else (Path(name), "")


def rows_of(path: Path) -> list[str]:
    """The rows in the CSV of a sweep; none in another table."""
    return list(dict.fromkeys(line["row"] for line in _runs(path)))


def _runs(path: Path) -> list[dict[str, str]]:
    """The lines of a sweep's CSV; none where the file is another table."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = csv.DictReader(file)
            if not {"row", "seed", "seen 1"} <= {*(table.fieldnames or ())}:
                return []
            return [{**line, "row": printable(line["row"])} for line in table if line["row"]]
    except (OSError, ValueError, csv.Error):
        return []


def _row(path: Path, row: str) -> tuple[Float64[np.ndarray, " task"], Float64[np.ndarray, " task"]]:
    if not (rows := rows_of(path)):
        raise InvalidRequestError(f"{path} is not there, or is no CSV of a sweep.")
    if row not in rows:
        raise unknown_name(f"row of {path}", row, rows)
    runs = [line for line in _runs(path) if line["row"] == row]
    try:
        spec, count = json.loads(runs[0]["spec"]), len(runs[0]["classes"].split())
        sizes = parse_split(spec["split"], count)
        if not make_scenario(spec["scenario"]).takes_split or runs[0].get(f"seen {len(sizes) + 1}"):
            raise ValueError("classes seen after each task do not follow from the split")
        values = np.mean([[float(line[f"seen {task + 1}"]) for task in range(len(sizes))] for line in runs], axis=0)
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError("accuracies must be fractions")
    except (ValueError, KeyError, TypeError, AttributeError, CillabError) as error:
        raise InvalidRequestError(f"{path}: the row {row} has no curve ({one_line(error)}).") from error
    return np.cumsum(sizes).astype(np.float64), values


def _table(path: Path) -> tuple[Float64[np.ndarray, " task"], Float64[np.ndarray, " task"]]:
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip(" ,;\t")]
        between = next((mark for mark in ";\t" if lines and mark in lines[0]), ",")
        rows = [row[:2] for row in csv.reader(lines, delimiter=between)]
        numbers = [[float(cell.replace(",", ".")) for cell in row] for row in (rows if _is_data(rows[0]) else rows[1:])]
        classes, values = (np.array(column, dtype=np.float64) for column in zip(*numbers, strict=True))
    except (OSError, ValueError, IndexError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidRequestError(
            f"{path}: a curve is a CSV file of two columns, classes and accuracy ({one_line(error)})."
        ) from error
    values = values / 100 if values.max() > 1.5 else values
    if not (np.isfinite(values).all() and (np.diff(classes) > 0).all() and (values >= 0).all() and (values <= 1).all()):
        raise InvalidRequestError(f"{path}: classes must increase, and accuracies be fractions or percent.")
    return classes, values


def _is_data(row: list[str]) -> bool:
    """Does a row begin with a number? Then it is no header."""
    return row[0].strip()[:1].isdigit()
