"""The numbers of a finished run that the table of a sweep can show."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cillab.core.errors import unknown_name
from cillab.geometry.nc1 import nc1_quotient
from cillab.geometry.rows import centre
from cillab.geometry.seeds import Interval, t_interval
from cillab.runs import Run
from cillab.runs.schema import SCALARS, is_scalar


@dataclass(frozen=True)
class Column:
    """A number of a finished run as a table shows it."""

    heading: str
    of: Callable[[Run], float | None]
    factor: float = 100.0  # shares are shown in percent
    digits: int = 1
    spread: bool = True  # a cost is shown without an interval
    says: str = ""  # what the heading does not

    def shown(self, values: list[float]) -> str:
        """Mean over seeds and half of its interval."""
        interval = self.interval(values)
        return f"{interval.mean:.{self.digits}f} {self.half(interval) if self.spread else ''}".rstrip()

    def interval(self, values: list[float] | np.ndarray) -> Interval:
        """Over seeds or classes, in the unit of the table."""
        return t_interval(self.factor * np.asarray(values, np.float64))

    def half(self, interval: Interval) -> str:
        """Half of an interval; nothing where one value has none."""
        return "" if math.isnan(interval.half_width) else f"± {interval.half_width:.{self.digits}f}"


def column(name: str) -> Column:
    """The column called `name`: one of `_COLUMNS`, or a scalar of the last step by its full name.

    Raises:
        UnknownNameError: neither.
    """
    if name in _COLUMNS:
        return _COLUMNS[name]
    if not is_scalar(name):
        raise unknown_name("column", name, [*_COLUMNS, *SCALARS])
    share = name.startswith(("accuracy/", "transport/improved"))
    return _last(name.rpartition("/")[2], name, *((100.0, 1) if share else (1.0, 3)))


def _of_result(heading: str, name: str, **how: Any) -> Column:
    return Column(heading, lambda run: getattr(run.result, name, None), **how)


def _last(heading: str, name: str, *how: Any, **more: Any) -> Column:
    return Column(heading, lambda run: float(run.metrics().over(name, run.steps)[-1]), *how, **more)


def _age(run: Run, old: bool) -> float | None:
    """NC1 after the last task, mean over the classes of the newest task or over all others."""
    shot = run.snapshot(run.steps[-1])
    means = centre(np.asarray(shot["means/now"], np.float64))
    values = nc1_quotient(shot["nc/within"], np.ones(len(means), np.int64), means).per_class
    tasks = np.asarray(shot["task_of_class"])
    chosen = values[(tasks < tasks.max()) if old else (tasks == tasks.max())]
    return float(np.nanmean(chosen)) if np.isfinite(chosen).any() else None


def _images(run: Run) -> float:
    """Training images that the learner keeps at the end."""
    shot = run.snapshot(run.steps[-1])
    return float(np.sum(shot["internals/stored"])) if "internals/stored" in shot else 0.0


_SPREAD = "spread of training images over the distance between class means"
_COLUMNS: dict[str, Column] = {
    "a_last": _of_result("A_last", "a_last"),
    "a_avg": _of_result("A_avg", "a_avg"),
    "forgetting_chaudhry": _of_result("forgetting", "forgetting_chaudhry"),
    "accuracy_head": _of_result("head", "accuracy_head"),
    "accuracy_medium": _of_result("medium", "accuracy_medium"),
    "accuracy_tail": _of_result("tail", "accuracy_tail"),
    "accuracy_base": _of_result("base", "accuracy_base"),
    "accuracy_new": _of_result("new", "accuracy_new"),
    "harmonic": _of_result("H", "harmonic"),
    "a_auc": _of_result("A_AUC", "a_auc"),
    "transfer": _of_result("Transfer", "transfer"),
    "mtil_avg": _of_result("Avg", "mtil_avg"),
    "mtil_last": _of_result("Last", "mtil_last"),
    "task": _last("task", "accuracy/task_id", says="images whose task is named right"),
    "within": _last("within", "accuracy/within_task", says="the right class when the task is given"),
    "fresh": _last("fresh", "accuracy/fresh", says="a ridge fitted anew on the features of that moment"),
    "drift": _last(
        "drift",
        "drift/relative",
        1.0,
        2,
        says="of old class means since they were stored, over the spread inside classes",
    ),
    "nc1_old": Column("NC1 old", lambda run: _age(run, old=True), 1.0, 2, says=_SPREAD),
    "nc1_new": Column("NC1 new", lambda run: _age(run, old=False), 1.0, 2, says="the same of the newest task"),
    "nc3": _last("NC3", "nc/train/nc3", 1.0, 3, says="distance of the head from the class means, both of length 1"),
    "seconds": Column("seconds", lambda run: run.result.seconds.get("total") if run.result else None, 1.0, 0, False),
    "stored_floats": _of_result("stored (M)", "stored_floats", factor=1e-6, digits=2, spread=False),
    "stored_images": Column("images", _images, 1.0, 0, False),
    "passes_per_test_image": _of_result("passes", "passes_per_test_image", factor=1.0, digits=1, spread=False),
}
