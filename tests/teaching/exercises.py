"""Every check of the course by its name; they stand beside the notebooks, by chapter."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from cillab.teaching import Verdict

_CHAPTERS = sorted((Path(__file__).parents[2] / "notebooks" / "checks").glob("chapter_*.py"))

CHECK: dict[str, Callable[[Callable[..., Any]], Verdict]] = {
    check.__name__: check for path in _CHAPTERS for check in import_module(f"checks.{path.stem}").EXERCISES.values()
}
