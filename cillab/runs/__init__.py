"""The run folder: written by one process, read by any number of others at any moment. Nothing here loads torch."""

from cillab.runs.run import Run, Snapshot, find_runs, parse_step, step_id
from cillab.runs.schema import SCHEMA_VERSION, Abilities, Protocol, Result, RunInfo, Status
from cillab.runs.writer import RunWriter, request, requested, store_derived, withdraw

__all__ = [
    "SCHEMA_VERSION",
    "Abilities",
    "Protocol",
    "Result",
    "Run",
    "RunInfo",
    "RunWriter",
    "Snapshot",
    "Status",
    "find_runs",
    "parse_step",
    "request",
    "requested",
    "step_id",
    "store_derived",
    "withdraw",
]
