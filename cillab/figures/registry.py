"""Figures say what they are where they are defined; lists of pages, tooltips, reports and empty states are derived.

    @figure(title="Prompts by task", page="method", part="prompts", needs=("internals/prompts/chosen",))
    def prompts(run: Run, step: str | int | None = None, *, theme: Theme = "light") -> Picture:
        "Which prompts the images of each task chose."

A figure of another package is entered the same way; the entry point group `cillab.figures` names its module, so that
the app and the report find it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, wraps
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Literal, NamedTuple, TypeVar

from cillab.core.errors import CillabError, RunError, one_line
from cillab.core.internals import SHARED
from cillab.core.registry import Registry
from cillab.figures.pages import PAGES, Part, part_of
from cillab.figures.words import empty
from cillab.runs import Run
from cillab.runs.schema import SNAPSHOT_ARRAYS

Draw = TypeVar("Draw", bound=Callable[..., Any])

_STARTED = "No step has been measured yet."


class Nothing(CillabError):
    """Raised where a figure reads a run and this step holds nothing of it; the figure says why, in one sentence."""


def _any(run: Run) -> bool:
    return True


@dataclass(frozen=True, eq=False)
class Figure:
    """One figure function and what it says of itself."""

    name: str
    title: str
    page: str  # key of `PAGES`
    part: str  # of the page: a key of its table, or a new one
    draw: Callable[..., Any]
    needs: tuple[str, ...] = ()  # arrays of a snapshot or scalars of the metrics, in at least one step
    lacks: str = ""  # what to say where they are not there; by default the first that is missing and what it is
    when: Callable[[Run], bool] = _any  # what else must hold of a run
    quantities: tuple[str, ...] = ()  # keys of the glossary
    width: int | None = None  # in pixels, for what is square; None = as wide as there is room
    of: Literal["run", "toy"] = "run"
    per_image: bool = False  # takes `point`, the place of an image in the probe

    def lacking(self, run: Run) -> str:
        """Why there is no such figure of `run`, in one sentence; empty where there is one."""
        if not run.steps:
            return _STARTED
        missing = [name for name in self.needs if not _recorded(run, name)]
        if not missing and self.when(run):
            return ""
        return self.lacks or f"This run does not record {_what(run, (*missing, *self.needs)[0])}."


class Group(NamedTuple):
    """A part of a page with its figures."""

    part: Part
    figures: tuple[Figure, ...]


_FIGURES: Registry[Figure] = Registry("figure")
unusable: dict[str, str] = {}
"""Entry points that brought no figure, and why."""


def figure(
    *,
    title: str,
    page: str,
    part: str = "",
    needs: Sequence[str] = (),
    lacks: str = "",
    when: Callable[[Run], bool] = _any,
    quantities: Sequence[str] = (),
    width: int | None = None,
    of: Literal["run", "toy"] = "run",
    per_image: bool = False,
) -> Callable[[Draw], Draw]:
    """Enter a function `(run, step=None, *, theme="light") -> Picture` under its own name.

    Where `run` has no step yet, or holds nothing of what the figure needs, it becomes an empty picture that says so:
    so it does where the function raises `Nothing`. Numbers that do not fit together are a `RunError` of one line.
    """

    def enter(draw: Draw) -> Draw:
        @wraps(draw)
        def drawn(run: Any, *args: Any, theme: Any = "light", **options: Any) -> Any:
            reason = known.lacking(run) if isinstance(run, Run) else ""
            if not reason:
                try:
                    return draw(run, *args, theme=theme, **options)
                except Nothing as nothing:
                    reason = str(nothing) or known.lacks
                except (ArithmeticError, LookupError, TypeError, ValueError) as error:
                    if isinstance(error, CillabError) or not isinstance(run, Run):
                        raise
                    said = one_line(error).partition(" -----")[0]  # a wrong shape comes with all right ones
                    why = f"what {run.path} holds does not fit together ({said})"
                    raise RunError(f"The figure {known.name} cannot be drawn: {why}.") from error
            return empty(known.name, reason, theme)

        known = Figure(
            name=draw.__name__,
            title=title,
            page=page,
            part=part or draw.__name__,
            draw=drawn,
            needs=tuple(needs),
            lacks=lacks,
            when=when,
            quantities=tuple(quantities),
            width=width,
            of=of,
            per_image=per_image,
        )
        _FIGURES.register(known.name)(known)
        return drawn  # pyright: ignore[reportReturnType]

    return enter


def named(name: str) -> Figure:
    """The figure called `name`.

    Raises:
        UnknownNameError: with the nearest name.
    """
    return _all()[name]


def figures_of(page: str | None = None, run: Run | None = None) -> tuple[Figure, ...]:
    """All figures of runs, of one page, or of those the ones that `run` supports; in the order of pages and parts."""
    found = [one for one in _in_order(tuple(_all())) if one.of == "run" and page in (None, one.page)]
    return tuple(one for one in found if run is None or not one.lacking(run))


def groups(page: str, run: Run | None = None) -> Mapping[str, Group]:
    """The parts of a page with their figures; of a run only parts of which at least one figure has its data."""
    found: dict[str, list[Figure]] = {}
    for one in figures_of(page, run):
        found.setdefault(one.part, []).append(one)
    return {key: Group(part_of(page, key, _words(mine[0])), tuple(mine)) for key, mine in found.items()}


def shown(quantity: str) -> tuple[Figure, ...]:
    """The figures that show a quantity of the glossary."""
    return tuple(one for one in figures_of() if quantity in one.quantities)


def _all() -> Registry[Figure]:
    import_module("cillab.figures")
    _load_plug_ins()
    return _FIGURES


@cache
def _load_plug_ins() -> None:
    for point in entry_points(group="cillab.figures"):
        try:
            point.load()
        except Exception as error:  # whatever somebody's module does: the other figures stay
            unusable[f"{point.name} = {point.value}"] = f"{type(error).__name__}: {one_line(error)}"


def _in_order(names: tuple[str, ...]) -> list[Figure]:
    """By page, by part of its table, then as they were entered: a figure from outside comes last."""
    entered = {name: at for at, name in enumerate(_FIGURES._entries)}
    pages = {page: at for at, page in enumerate(PAGES)}

    def place(one: Figure) -> tuple[int, int, int]:
        parts = list(PAGES[one.page].parts) if one.page in PAGES else []
        part = parts.index(one.part) if one.part in parts else len(parts)
        return pages.get(one.page, len(pages)), part, entered[one.name]

    return sorted((_FIGURES[name] for name in names), key=place)


def _recorded(run: Run, name: str) -> bool:
    """Is there such an array in a snapshot, or such a scalar?"""
    if any(name in run.snapshot(step) for step in reversed(run.steps)):
        return True
    return not name.startswith("internals/") and name in run.metrics()


def _what(run: Run, name: str) -> str:
    """An array in words: as the run declares it, as the lab does, or by its name alone."""
    short = name.removeprefix("internals/")
    said = run.capabilities.internals.get(short) or (str(SHARED[short]) if short in SHARED else "")
    meaning = (said or SNAPSHOT_ARRAYS.get(name, "")).partition(": ")[2]
    return f"`{name}`" + (f" ({meaning})" if meaning else "")


def _words(one: Figure) -> Part:
    """A part that stands in no table: the title of its first figure and the first line of its docstring."""
    return Part(one.title, (one.draw.__doc__ or "").strip().partition("\n")[0])
