"""Rows of many runs, kept between two looks: a run is read again only when one of its files has changed.

The folders are the truth. What is kept lies in the cache with a checksum; damaged, outdated or missing, it is made
again, and so is the row of a run that is still going on, whose state depends on the clock.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import cillab
from cillab.core.errors import CillabError
from cillab.core.places import cache_dir
from cillab.runs.files import write_atomically

_READ = ("run.json", "status.json", "result.json", "steps")
_SETTLED = ("finished", "failed", "cancelled")
_FEWEST = 20  # runs; fewer are read faster than anything is kept

Row = dict[str, Any]
Kept = dict[str, tuple[list[int], Row]]  # stamp and row by path


def rows_of(paths: Sequence[Path], describe: Callable[[Path], Row], columns: Mapping[str, str]) -> list[Row]:
    """`describe(path)` for every path, from what is kept where nothing has changed."""
    if len(paths) < _FEWEST:
        return [describe(path) for path in paths]
    place = _place(paths, columns)
    kept, fresh, rows = _read(place), {}, []
    for path in paths:
        name, stamp = str(path.absolute()), _stamp(path)
        known = kept.get(name)
        row = known[1] if known is not None and known[0] == stamp else describe(path)
        rows.append({**row, "path": str(path)})
        if row["state"] in _SETTLED:
            fresh[name] = (stamp, row)
    if fresh != kept:
        with suppress(OSError, CillabError):  # a cache that cannot be written costs time, nothing else
            _write(place, fresh)
    return rows


def _stamp(path: Path) -> list[int]:
    """Changes with every file that a row is made of."""
    found = []
    folder = os.fspath(path)
    for name in _READ:
        try:
            stat = os.stat(f"{folder}/{name}")  # noqa: PTH116 - a Path costs more than the call
            found += [stat.st_mtime_ns, stat.st_size, stat.st_ino]
        except OSError:
            found += [0, 0, 0]
    return found


def _place(paths: Sequence[Path], columns: Mapping[str, str]) -> Path:
    root = os.path.commonpath([path.absolute() for path in paths])
    said = json.dumps([cillab.__version__, root, dict(columns)])
    return cache_dir() / "rows" / f"{hashlib.blake2b(said.encode(), digest_size=8).hexdigest()}.json"


def _read(place: Path) -> Kept:
    try:
        told, _, content = place.read_bytes().partition(b"\n")
        if int(told) != zlib.crc32(content):
            return {}
        return {name: (stamp, row) for name, (stamp, row) in json.loads(content).items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _write(place: Path, kept: Kept) -> None:
    content = json.dumps(kept).encode()
    write_atomically(place, lambda file: file.write(b"%d\n" % zlib.crc32(content) + content))
