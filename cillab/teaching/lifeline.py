"""Going on where an exercise is not done yet, and the score of a chapter. Both read `checks`, beside the notebooks."""

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

from cillab.core.errors import InvalidRequestError, unknown_name

_BORROWED = "__from_the_course__"  # set on a function that `solution` gave


def solution(name: str) -> Callable[..., Any]:
    """The course's own answer to an exercise, by its name, so that the rest of a chapter runs.

    Raises:
        InvalidRequestError: the folder `checks` is not beside the notebook.
        UnknownNameError: no exercise has this name.
    """
    modules = [import_module(f"checks.solutions.{entry.name}") for entry in _entries("checks.solutions")]
    known = {found: getattr(module, found) for module in modules for found in module.__all__}
    if name not in known:
        raise unknown_name("exercise", name, sorted(known))
    borrowed = known[name]
    setattr(borrowed, _BORROWED, True)
    return borrowed


@dataclass(frozen=True)
class Scorecard:
    """What the exercises of a chapter came to: `right`, `borrowed` from the course, or `open`."""

    chapter: str
    outcome: Mapping[str, str]

    @property
    def right(self) -> int:
        """Exercises that the reader solved."""
        return sum(one == "right" for one in self.outcome.values())

    def __repr__(self) -> str:
        parts = [f"{name} {outcome}" for name, outcome in self.outcome.items()]
        return f"Chapter {self.chapter}: {self.right} of {len(self.outcome)} exercises right ({', '.join(parts)})"

    def _repr_markdown_(self) -> str:
        signs = {"right": "✅", "borrowed": "🛟", "open": "✏️"}
        rows = "".join(f"\n| {signs[outcome]} | `{name}` | {outcome} |" for name, outcome in self.outcome.items())
        return f"**{self.right} of {len(self.outcome)} exercises right.**\n\n| | exercise | |\n|---|---|---|{rows}"


def scorecard(names: Mapping[str, Any]) -> Scorecard:
    """Ask every check of the chapter once more; `names` are the notebook's, `globals()`.

    The chapter is the one whose checks the notebook has imported. An exercise counts as right if the function in
    `names` passes and is not the course's own.

    Raises:
        InvalidRequestError: no chapter has all of its checks among `names`.
    """
    for entry in _entries("checks"):
        exercises: Mapping[str, Callable[..., Any]] = getattr(import_module(f"checks.{entry.name}"), "EXERCISES", {})
        if exercises and all(names.get(check.__name__) is check for check in exercises.values()):
            outcome = {name: _outcome(names.get(name), check) for name, check in exercises.items()}
            return Scorecard(entry.name.removeprefix("chapter_"), outcome)
    raise InvalidRequestError("scorecard(globals()) found no chapter whose checks are all imported here.")


def _outcome(attempt: Any, check: Callable[..., Any]) -> str:
    if getattr(attempt, _BORROWED, False):
        return "borrowed"
    return "right" if callable(attempt) and check(attempt) else "open"


def _entries(package: str) -> list[pkgutil.ModuleInfo]:
    try:
        found: ModuleType = import_module(package)
    except ModuleNotFoundError as error:
        raise InvalidRequestError(
            "The course's exercises are in the folder `checks`, which belongs beside the notebook and is not here."
        ) from error
    return sorted((e for e in pkgutil.iter_modules(found.__path__) if not e.ispkg), key=lambda entry: entry.name)
