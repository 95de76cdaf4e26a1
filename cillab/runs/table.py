"""The leaderboard of a folder of runs. Rows of different protocols never stand in one ranking."""

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cillab.core.errors import InvalidRequestError, printable, unknown_name
from cillab.protocol import protocol_key
from cillab.runs.index import Index, columns, unsaid

RANKED_BY = {
    "a_last": "DESC", "a_avg": "DESC", "forgetting_chaudhry": "ASC", "seconds": "ASC",
    "accuracy_head": "DESC", "accuracy_medium": "DESC", "accuracy_tail": "DESC",
    "accuracy_base": "DESC", "accuracy_new": "DESC", "harmonic": "DESC",
    "a_auc": "DESC", "transfer": "DESC", "mtil_avg": "DESC", "mtil_last": "DESC",
}  # fmt: skip
_WHERE_DEFINED = (
    "accuracy_head", "accuracy_medium", "accuracy_tail", "accuracy_base", "accuracy_new", "harmonic",
    "a_auc", "transfer", "mtil_avg", "mtil_last",
)  # fmt: skip
_SCREEN = (
    "rank",
    "run",
    "learner",
    "a_last",
    "a_avg",
    "forgetting_chaudhry",
    "seconds",
    "precision",
    "device",
    "state",
)
_FRACTIONS = ("a_last", "a_avg", "forgetting_chaudhry", "forgetting_pilot", "bwt_gem", *_WHERE_DEFINED)


@dataclass(frozen=True)
class Table:
    """Rows grouped by protocol and ranked inside each group; `rank` is None for a run that has no result."""

    rows: list[dict[str, Any]]
    by: str

    @property
    def groups(self) -> dict[str, list[dict[str, Any]]]:
        """Rows by what makes them comparable, in order."""
        found: dict[str, list[dict[str, Any]]] = {}
        for row in self.rows:
            found.setdefault(row["comparable"] or "damaged", []).append(row)
        return found

    def text(self, form: str = "md") -> str:
        """As Markdown (one table per protocol, percent), CSV or JSON (one list, fractions).

        Raises:
            UnknownNameError: another format.
        """
        match form:
            case "md":
                return "\n\n".join(_markdown(rows) for rows in self.groups.values()) or "No runs."
            case "csv":
                buffer = io.StringIO()
                writer = csv.DictWriter(buffer, ["rank", *columns()], lineterminator="\n")
                writer.writeheader()
                writer.writerows(self.rows)
                return buffer.getvalue()
            case "json":
                return json.dumps(self.rows, indent=1, ensure_ascii=False)
            case _:
                raise unknown_name("format", form, ["md", "csv", "json"])


def table(roots: str | Path | Sequence[str | Path], by: str = "a_last") -> Table:
    """All runs under `roots`, grouped by protocol, ranked by `by` inside each group.

    Raises:
        UnknownNameError: a number that cannot be ranked by.
        RunError: a root that is no folder.
    """
    if by not in RANKED_BY:
        raise unknown_name("ranking", by, RANKED_BY)
    rows = Index(roots).sql(
        f"""
        SELECT CASE WHEN {by} IS NULL THEN NULL
               ELSE rank() OVER (PARTITION BY comparable ORDER BY {by} {RANKED_BY[by]} NULLS LAST) END AS rank, *
        FROM runs
        ORDER BY data, split, backbone, comparable, {by} {RANKED_BY[by]} NULLS LAST, run
        """
    )
    return Table(rows, by)


def ranking(rows: Sequence[dict[str, Any]], by: str = "a_last") -> list[dict[str, Any]]:
    """The rows with a number, best first.

    Raises:
        InvalidRequestError: their protocols differ; the message says in what.
        UnknownNameError: a number that cannot be ranked by.
    """
    if by not in RANKED_BY:
        raise unknown_name("ranking", by, RANKED_BY)
    differing = [name for name in protocol_key() if len({repr(row[name]) for row in rows}) > 1]
    if differing:
        digits = {name: 8 if name.endswith("_digest") else None for name in differing}  # enough of a digest to tell
        detail = "; ".join(
            f"{name} = {', '.join(sorted({str(row[name])[: digits[name]] for row in rows}))}" for name in differing
        )
        raise InvalidRequestError(f"These runs cannot be ranked together, their protocols differ: {detail}.")
    sign = -1 if RANKED_BY[by] == "DESC" else 1
    return sorted((row for row in rows if row[by] is not None), key=lambda row: sign * row[by])


def _markdown(rows: Sequence[dict[str, Any]]) -> str:
    first = rows[0]
    if first["comparable"] is None:
        return "\n".join(["**Damaged**", "", *(printable(f"- {row['run']}: {row['problem']}") for row in rows)])
    stated = [printable(f"{name} {first[name]}") for name in protocol_key() if not unsaid(name, first[name])]
    more = [name for name in _WHERE_DEFINED if any(row[name] is not None for row in rows)]
    shown = [*_SCREEN[: _SCREEN.index("seconds")], *more, *_SCREEN[_SCREEN.index("seconds") :]]
    lines = [f"**{', '.join(stated)}**", "", f"| {' | '.join(shown)} |", f"|{' --- |' * len(shown)}"]
    lines += [f"| {' | '.join(_cell(name, row[name]) for name in shown)} |" for row in rows]
    return "\n".join(lines)


def _cell(name: str, value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if name in _FRACTIONS:
        return f"{100 * value:.2f} %"
    if name == "seconds":
        return f"{value:.1f} s"
    return printable(str(value)).replace("|", "\\|")
