"""How threads wait for each other and how many there are: settled before the first library that owns threads is loaded.

OpenMP (torch, scikit-learn) and OpenBLAS (NumPy, SciPy) let a thread without work spin. Alone on a machine that saves
microseconds; beside a browser, a second run or a server, the spinning threads hold the cores that the working ones
wait for, and everything is many times slower (`benchmarks/threads.py`). The libraries read their environment once,
when they are loaded, so `cillab/__init__.py` calls `settle` before anything else. What the user has set stays.
"""

import math
import os
import sys
from collections.abc import MutableMapping
from pathlib import Path

PASSIVE = "passive"
_WISHES = {
    "OMP_WAIT_POLICY": PASSIVE,  # sleep at a barrier, never spin
    "OPENBLAS_THREAD_TIMEOUT": "4",  # 2^4 cycles of spinning, the least there is; the default is 2^26
}
_COUNT = "OMP_NUM_THREADS"
_OWNERS = {"OMP_WAIT_POLICY": "torch", "OPENBLAS_THREAD_TIMEOUT": "numpy", _COUNT: "torch"}  # who reads it when loaded
_CGROUP = Path("/sys/fs/cgroup")

_ours: dict[str, str] = {}  # what settle has set in this process
_late: set[str] = set()  # what it set after the reader had been loaded: of use to child processes only


def settle(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let threads sleep while they wait, and take no more of them than the cores that this process may use.

    The environment is inherited, so that jobs, sweeps and estimates started from here are settled too.
    """
    wishes = dict(_WISHES)
    if usable_cores() < machine_cores():  # a container's quota: the libraries count the cores behind it
        wishes[_COUNT] = str(usable_cores())
    for name, value in wishes.items():
        if name in environment:
            continue
        environment[name] = value
        _ours[name] = value
        if _OWNERS[name] in sys.modules:
            _late.add(name)


def share(jobs: int) -> dict[str, str]:
    """What one of `jobs` processes side by side adds to its environment, so that together they take the cores once.

    Nothing where the user has set a number of threads: that number is of one process.
    """
    if _COUNT in os.environ and _COUNT not in _ours:
        return {}
    return {_COUNT: str(max(1, usable_cores() // jobs))}


def machine_cores() -> int:
    """Cores that the system lets this process run on, whatever its quota of time."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usable_cores(cgroup: Path = _CGROUP) -> int:
    """Cores worth of time that this process gets: the affinity mask, or less where a container has a quota."""
    cores = machine_cores()
    quota = _quota(cgroup)
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def in_force() -> str:
    """One line: cores, and every variable with its value and who chose it."""
    cores = f"{usable_cores()} of {machine_cores()} cores"
    return ", ".join([cores, *(_described(name) for name in (*_WISHES, _COUNT) if name in os.environ)])


def _described(name: str) -> str:
    who = "cillab" if name in _ours else "your environment"
    late = f", too late for {_OWNERS[name]}: import cillab first" if name in _late else ""
    return f"{name}={os.environ[name]} ({who}{late})"


def _quota(cgroup: Path) -> float | None:
    """Cores worth of time that control groups (version 2, then 1) allow, or None for no limit."""
    try:
        limit, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            limit = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    try:
        allowed = float(limit) / float(period)
    except (ValueError, ZeroDivisionError):  # "max"
        return None
    return allowed if allowed > 0 else None  # version 1 says -1
