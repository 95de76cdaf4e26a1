"""metrics.jsonl: scalars, one row per line, appended as a run goes."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, SupportsFloat

import numpy as np
from jaxtyping import Float64

from cillab.core.errors import unknown_name
from cillab.runs.files import damaged, parse_json
from cillab.runs.sums import row_agrees, sealed_row


class Series(NamedTuple):
    """One scalar over a run: step ids and values, in the order written."""

    steps: list[str]
    values: Float64[np.ndarray, " row"]


class Metrics(Mapping[str, Series]):
    """All scalars of a run by name; `rows` are the raw records with every field."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows
        self._by_name: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            self._by_name.setdefault(row["name"], []).append(row)

    def __getitem__(self, name: str) -> Series:
        rows = self._by_name.get(name)
        if rows is None:
            raise unknown_name("metric", name, self._by_name)
        return Series([row["step"] for row in rows], np.array([row["value"] for row in rows], np.float64))

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def at(self, step: str) -> dict[str, float]:
        """The last value of every scalar written for `step`."""
        return {row["name"]: row["value"] for row in self.rows if row["step"] == step}

    def over(self, name: str, steps: tuple[str, ...]) -> Float64[np.ndarray, " step"]:
        """The last value of one scalar at each of `steps`; NaN where there is none, or no such scalar."""
        found = {row["step"]: row["value"] for row in self._by_name.get(name, [])}
        return np.array([found.get(step, math.nan) for step in steps], np.float64)


def encode(step: str, values: Mapping[str, SupportsFloat], extra: Mapping[str, Any]) -> bytes:
    """One line per scalar. JSON knows no infinity, so what is not finite is written as text that `float` reads."""
    lines = []
    for name, value in values.items():
        number = float(value)
        stored = number if math.isfinite(number) else str(number)
        lines.append(
            sealed_row(json.dumps({"step": step, "name": name, "value": stored, **extra}, allow_nan=False)) + "\n"
        )
    return "".join(lines).encode()


def whole_lines(content: bytes) -> bytes:
    """Everything up to the last line break: a torn last line is being written, or never was."""
    return content[: content.rfind(b"\n") + 1]


def read_metrics(path: Path) -> Metrics:
    """Read what is there now; a missing file is an empty one.

    Raises:
        RunError: a line that is not the torn last one cannot be read.
    """
    try:
        content = whole_lines(path.read_bytes())
    except FileNotFoundError:
        content = b""
    except IsADirectoryError as error:
        raise damaged(path, "it is a folder") from error
    rows = []
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            if not row_agrees(line):
                raise damaged(path, f"line {number} does not agree with its checksum")
            row = parse_json(line)
            row.pop("crc", None)
            row["value"] = float(row["value"])
            row["step"], row["name"] = str(row["step"]), str(row["name"])
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise damaged(path, f"line {number} is not a row with step, name and value") from error
        rows.append(row)
    return Metrics(rows)
