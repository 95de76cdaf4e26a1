"""Numbers that were recorded on real photographs, by chapter; `scripts/photographs.py` writes them beside this file."""

import json
from functools import cache
from pathlib import Path
from typing import Any


@cache
def _found() -> dict[str, Any]:
    return json.loads(Path(__file__).with_suffix(".json").read_text())


def photographs(chapter: str) -> dict[str, Any]:
    """What was recorded for a chapter, such as "02"."""
    return _found()[chapter]


def protocol() -> str:
    """Which photographs, how many, and seen by which network."""
    return _found()["protocol"]
