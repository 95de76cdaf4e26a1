"""What the library offers, known without torch: the catalogue, kept in the cache under a digest of the sources.

The first command that loads torch keeps it; lists, forms and refusals read it in milliseconds. After a change of the
sources, or of what is installed, the digest is another one and the next such command writes it anew.
"""

import hashlib
import json
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import cillab
from cillab.core.errors import CillabError
from cillab.core.places import cache_dir
from cillab.lab.catalogue import FORMAT
from cillab.runs.files import write_json


@cache
def fingerprint() -> str:
    """Changes with any source file of the library, the Python, and what is installed beside it (plug-ins)."""
    root = Path(cillab.__file__).parent
    state = hashlib.blake2b(f"{cillab.__version__} {sys.version} {root}".encode(), digest_size=8)
    for path in sorted(root.rglob("*.py")):
        stat = path.stat()
        state.update(f"{path.relative_to(root)} {stat.st_mtime_ns} {stat.st_size}".encode())
    for place in sorted({one for one in sys.path if one.endswith(("site-packages", "dist-packages"))}):
        with suppress(OSError):  # installing or removing a package changes the folder that holds it
            state.update(f"{place} {Path(place).stat().st_mtime_ns}".encode())
    return state.hexdigest()


def place() -> Path:
    """Where today's catalogue is kept."""
    return cache_dir() / "catalogue" / f"{fingerprint()}.json"


def kept() -> dict[str, Any] | None:
    """The catalogue as it was kept, or None when nobody has asked since the last change."""
    try:
        found = json.loads(place().read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("format_version") == FORMAT else None


def offered() -> dict[str, Any]:
    """The catalogue, kept or made now. Making it loads torch."""
    found = kept()
    if found is None:
        found = keep()
    return found


def keep() -> dict[str, Any]:
    """Make the catalogue and keep it, if the cache can be written."""
    from cillab.lab.catalogue import catalogue  # noqa: PLC0415 - loads torch

    found = catalogue()
    with suppress(OSError, CillabError):
        write_json(place(), found)
        for old in place().parent.glob("*.json"):
            if old != place():
                old.unlink(missing_ok=True)
    return found
