"""What the library offers, known without torch: the catalogue, kept in the cache under a digest of the sources.

The first command that loads torch keeps it; lists, forms and refusals read it in milliseconds. After a change of the
sources, or of what is installed, the digest is another one and the next such command writes it anew.
"""

import hashlib
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import cillab
from cillab.core.errors import CillabError
from cillab.core.places import cache_dir

FORMAT = "1.2"
"""Changes with the shape of what `catalogue` returns: kept ones of another format are not used."""


def fingerprint() -> str:
    """Changes with the sources, the named data sets, the Python, and what is installed beside it (plug-ins)."""
    root = Path(cillab.__file__).parent
    state = hashlib.blake2b(f"{cillab.__version__} {sys.version} {root}".encode(), digest_size=8)
    for path in sorted((*root.rglob("*.py"), root / "protocol" / "named.yaml")):
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
    return _read(place())


def last() -> dict[str, Any] | None:
    """The newest that was kept before the last change, if it has today's form: it serves while a new one is made."""
    old = sorted(place().parent.glob("*.json"), key=lambda path: -path.stat().st_mtime)
    return next((found for path in old if (found := _read(path)) is not None), None)


def offered() -> dict[str, Any]:
    """The catalogue, kept or made now. Making it loads torch."""
    found = kept()
    return keep() if found is None else found


def keep(found: dict[str, Any] | None = None) -> dict[str, Any]:
    """Keep the catalogue, if the cache can be written: the one given, as another process made it, or one made now."""
    if found is None:
        from cillab.lab.catalogue import catalogue  # noqa: PLC0415 - loads torch

        found = {"format_version": FORMAT, **catalogue()}
    from cillab.runs.files import write_json  # noqa: PLC0415 - loads NumPy, which lists need not

    with suppress(OSError, CillabError):
        here = place()
        write_json(here, found)
        for old in here.parent.glob("*.json"):
            if old != here:
                old.unlink(missing_ok=True)
    return found


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("format_version") == FORMAT else None
