"""Many runs as one DuckDB table: a row per run folder, with its protocol, where it is and what came out."""

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from cillab.core.errors import InvalidRequestError, RunError, one_line
from cillab.protocol import FACTS, Protocol, Scenario, protocol_key
from cillab.runs.rows import rows_of
from cillab.runs.run import Run, find_runs, no_folder

_NOT_COLUMNS = ("spec_digest",)
_RESULTS = {
    "a_last": "DOUBLE", "a_avg": "DOUBLE", "forgetting_chaudhry": "DOUBLE", "forgetting_pilot": "DOUBLE",
    "bwt_gem": "DOUBLE", "accuracy_head": "DOUBLE", "accuracy_medium": "DOUBLE", "accuracy_tail": "DOUBLE",
    "accuracy_base": "DOUBLE", "accuracy_new": "DOUBLE", "harmonic": "DOUBLE", "a_auc": "DOUBLE",
    "transfer": "DOUBLE", "mtil_avg": "DOUBLE", "mtil_last": "DOUBLE",
    "seconds": "DOUBLE", "images_per_second": "DOUBLE", "peak_memory_bytes": "BIGINT",
    "stored_floats": "BIGINT", "trainable_parameters": "BIGINT", "passes_per_test_image": "DOUBLE",
}  # fmt: skip

_LONGEST = 400  # characters of a problem


def columns() -> dict[str, str]:
    """Name and DuckDB type of every column; the facts of the protocol have one each.

    `comparable` is the digest of everything that must agree before two rows may be ranked; `drawn` says that the seed
    decides which images are used.
    """
    facts = {name: fact.column for name, fact in FACTS.items() if name not in _NOT_COLUMNS}
    return {
        "run": "VARCHAR", "state": "VARCHAR", "comparable": "VARCHAR", **facts, "drawn": "BOOLEAN",
        "tasks_done": "BIGINT", "tasks": "BIGINT", **_RESULTS,
        "created": "VARCHAR", "path": "VARCHAR", "problem": "VARCHAR",
    }  # fmt: skip


def comparable_key(protocol: Protocol) -> str:
    """Short digest of the part of a protocol on which two rows must agree to be ranked."""
    text = json.dumps([stated_as(getattr(protocol, name)) for name in protocol_key()])
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def stated_as(value: Any) -> Any:
    """How a fact stands in a table: a scenario in words, a mapping as JSON, everything else as it is."""
    if isinstance(value, Scenario):
        return value.text
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else value


def unsaid(name: str, value: Any) -> bool:
    """Is this what a fact is read as where nobody states it, so that a caption can leave it out?"""
    return value is None or value is False or value == stated_as(FACTS[name].unsaid)


def describe(path: Path) -> dict[str, Any]:
    """The row of one run folder. A damaged one is a row too, with what is wrong with it."""
    row: dict[str, Any] = dict.fromkeys(columns())
    row |= {"run": path.resolve().name, "path": str(path), "state": "damaged"}
    try:
        run = Run(path)
        protocol = run.protocol
        row |= {name: stated_as(getattr(protocol, name)) for name in FACTS if name in row}
        row |= {"comparable": comparable_key(protocol), "drawn": protocol.scenario.draws}
        row |= {"created": run.info.created, "tasks": len(run.info.tasks), "tasks_done": len(run.task_steps)}
        row["state"] = run.liveness()
        if result := run.result:
            numbers = result.model_dump()
            row |= {name: numbers[name] for name in _RESULTS if name in numbers and name != "seconds"}
            row["seconds"] = result.seconds.get("total", math.fsum(result.seconds.values()))
    except RunError as error:
        row |= {"state": "damaged", "problem": one_line(error)}
    except Exception as error:  # one bad run never hides the others
        row |= {"state": "damaged", "problem": f"{path}: {type(error).__name__}: {one_line(error)}"[:_LONGEST]}
    return row


def _arrow(rows: list[dict[str, Any]], known: dict[str, str]) -> pa.Table:
    """The rows as one table; a row whose values are of another kind than their columns is a damaged one."""
    kinds = {"VARCHAR": pa.string(), "BIGINT": pa.int64(), "DOUBLE": pa.float64(), "BOOLEAN": pa.bool_()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in known.items()])
    try:
        return pa.Table.from_pylist(rows, schema)
    except (pa.ArrowException, TypeError, OverflowError):
        return pa.Table.from_pylist([_fitting(row, schema) for row in rows], schema)


def _fitting(row: dict[str, Any], schema: pa.Schema) -> dict[str, Any]:
    try:
        pa.Table.from_pylist([row], schema)
    except (pa.ArrowException, TypeError, OverflowError) as error:
        plain = {name: row[name] for name in ("run", "path")}
        return dict.fromkeys(row) | plain | {"state": "damaged", "problem": one_line(error)[:_LONGEST]}
    return row


def listed(root: str | Path) -> list[dict[str, Any]]:
    """The rows of all runs under `root` as plain values, in the order of their paths: what lists in an app need."""
    return rows_of(find_runs(root), describe, columns())


class Index:
    """An in-memory DuckDB database with the table `runs`; made from the folders, which are the truth."""

    def __init__(self, roots: str | Path | Sequence[str | Path]) -> None:
        roots = [roots] if isinstance(roots, str | Path) else roots
        missing = [Path(root) for root in roots if not Path(root).is_dir()]
        if missing:
            raise RunError(" ".join(map(no_folder, missing)))
        self.paths = sorted({path for root in roots for path in find_runs(root)})
        self._database = duckdb.connect(":memory:")
        known = columns()
        declared = ", ".join(f'"{name}" {kind}' for name, kind in known.items())
        self._database.execute(f"CREATE TABLE runs ({declared})")
        rows = rows_of(self.paths, describe, known)
        if rows:
            self._database.register("given", _arrow(rows, known))
            self._database.execute("INSERT INTO runs SELECT * FROM given")

    def sql(self, query: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Rows of a query over `runs`.

        Raises:
            InvalidRequestError: the query is wrong; the message says what DuckDB says.
        """
        try:
            cursor = self._database.execute(query, list(values))
        except duckdb.Error as error:
            raise InvalidRequestError(f"Query: {one_line(error)}") from error
        names = [column[0] for column in cursor.description or []]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
