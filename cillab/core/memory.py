"""Memory that there is, and refusals before an allocation that cannot succeed."""

import os
from contextlib import suppress
from pathlib import Path

from cillab.core.errors import InvalidRequestError

_CGROUPS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def machine_memory() -> int | None:
    """Bytes of memory of this machine, or of the container; None where the system does not say."""
    found = []
    with suppress(AttributeError, ValueError, OSError):  # not on Windows
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for path in _CGROUPS:
        with suppress(OSError, ValueError):
            found.append(int(path.read_text()))
    return min(found, default=None)


def must_fit(needed: int, what: str, available: int | None = None) -> None:
    """Refuse what needs more memory than there is (`available`, or the machine's).

    Raises:
        InvalidRequestError: with both numbers.
    """
    available = machine_memory() if available is None else available
    if available is not None and needed > available:
        have = gigabytes(available)
        raise InvalidRequestError(f"{what} would take {gigabytes(needed)} of memory, and there are {have}.")


def gigabytes(count: int) -> str:
    """`1.6 GB`, in thousands of millions of bytes."""
    return f"{count / 1e9:,.0f} GB" if count >= 1e11 else f"{count / 1e9:.1f} GB"
