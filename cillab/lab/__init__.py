"""Floor 4: one run from request to result. The loop over tasks, evaluation, checkpoints and cancelling live here."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_WHERE = {
    "Lab": "cillab.lab.engine",
    "Step": "cillab.lab.engine",
    "RunSpec": "cillab.lab.spec",
    "Reopened": "cillab.lab.reopen",
    "Job": "cillab.lab.jobs",
    "start": "cillab.lab.jobs",
    "demo_runs": "cillab.demo",
}
__all__ = ["Job", "Lab", "Reopened", "RunSpec", "Step", "demo_runs", "start"]

if TYPE_CHECKING:
    from cillab.demo import demo_runs
    from cillab.lab.engine import Lab, Step
    from cillab.lab.jobs import Job, start
    from cillab.lab.reopen import Reopened
    from cillab.lab.spec import RunSpec


def __getattr__(name: str) -> Any:
    """Import on first use: a spec, a job or the list of demo runs is had without loading torch."""
    if name not in _WHERE:
        raise AttributeError(f"module 'cillab.lab' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
