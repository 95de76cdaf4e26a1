"""Where a notebook writes: a cell that is run again must find a free folder."""

from itertools import count
from pathlib import Path


def fresh(path: str | Path) -> Path:
    """`path` if nothing is there, else `path-2`, `path-3`, ...: the first name that is free."""
    first = Path(path)
    names = (first if number == 1 else first.with_name(f"{first.name}-{number}") for number in count(1))
    return next(name for name in names if not name.exists())
