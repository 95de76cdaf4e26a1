"""Many runs as one DuckDB table: a row per run folder, with its protocol, where it is and what came out."""

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from cillab.core.errors import InvalidRequestError, RunError, one_line
from cillab.runs.run import Run, find_runs
from cillab.runs.schema import PROTOCOL_KEY, Protocol

# Name and DuckDB type. `comparable` is the digest of everything that must agree before two rows may be ranked.
COLUMNS: dict[str, str] = {
    "run": "VARCHAR", "state": "VARCHAR", "comparable": "VARCHAR",
    "data": "VARCHAR", "data_digest": "VARCHAR", "split": "VARCHAR", "split_digest": "VARCHAR", "order": "VARCHAR",
    "seed": "BIGINT", "scenario": "VARCHAR", "shots": "BIGINT", "imbalance": "DOUBLE",
    "train_per_class": "BIGINT", "test_per_class": "BIGINT",
    "backbone": "VARCHAR", "weights_digest": "VARCHAR", "transform": "VARCHAR", "image_size": "BIGINT",
    "exemplars": "BOOLEAN", "task_id_at_test": "BOOLEAN", "class_names": "BOOLEAN",
    "learner": "VARCHAR", "params": "VARCHAR", "params_digest": "VARCHAR", "precision": "VARCHAR", "device": "VARCHAR",
    "evidence": "VARCHAR", "tasks_done": "BIGINT", "tasks": "BIGINT",
    "a_last": "DOUBLE", "a_avg": "DOUBLE", "forgetting_chaudhry": "DOUBLE", "forgetting_pilot": "DOUBLE",
    "bwt_gem": "DOUBLE", "accuracy_head": "DOUBLE", "accuracy_medium": "DOUBLE", "accuracy_tail": "DOUBLE",
    "accuracy_base": "DOUBLE", "accuracy_new": "DOUBLE", "harmonic": "DOUBLE",
    "seconds": "DOUBLE", "images_per_second": "DOUBLE", "peak_memory_bytes": "BIGINT",
    "stored_floats": "BIGINT", "trainable_parameters": "BIGINT", "passes_per_test_image": "DOUBLE",
    "created": "VARCHAR", "path": "VARCHAR", "problem": "VARCHAR",
}  # fmt: skip


def comparable_key(protocol: Protocol) -> str:
    """Short digest of the part of a protocol on which two rows must agree to be ranked."""
    text = json.dumps([getattr(protocol, name) for name in PROTOCOL_KEY])
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def describe(path: Path) -> dict[str, Any]:
    """The row of one run folder. A damaged one is a row too, with what is wrong with it."""
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {"run": path.resolve().name, "path": str(path), "state": "damaged"}
    try:
        run = Run(path)
        protocol = run.protocol
        row |= {name: value for name, value in protocol.model_dump().items() if name in COLUMNS}
        row |= {"params": json.dumps(protocol.params, sort_keys=True), "comparable": comparable_key(protocol)}
        row |= {"created": run.info.created, "tasks": len(run.info.tasks), "tasks_done": len(run.task_steps)}
        row["state"] = run.liveness()
        if result := run.result:
            numbers = result.model_dump()
            row |= {name: numbers[name] for name in COLUMNS if name in numbers and name not in ("seconds", "params")}
            row["seconds"] = result.seconds.get("total", math.fsum(result.seconds.values()))
    except RunError as error:
        row |= {"state": "damaged", "problem": one_line(error)}
    return row


class Index:
    """An in-memory DuckDB database with the table `runs`; made anew from the folders, which are the truth."""

    def __init__(self, roots: str | Path | Sequence[str | Path]) -> None:
        roots = [roots] if isinstance(roots, str | Path) else roots
        missing = [str(root) for root in roots if not Path(root).is_dir()]
        if missing:
            raise RunError(f"{', '.join(missing)} is no folder.")
        self.paths = sorted({path for root in roots for path in find_runs(root)})
        self._database = duckdb.connect(":memory:")
        columns = ", ".join(f'"{name}" {kind}' for name, kind in COLUMNS.items())
        self._database.execute(f"CREATE TABLE runs ({columns})")
        rows = [list(describe(path).values()) for path in self.paths]
        if rows:
            self._database.executemany(f"INSERT INTO runs VALUES ({', '.join('?' * len(COLUMNS))})", rows)

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
