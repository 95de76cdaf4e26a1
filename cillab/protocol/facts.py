"""Facts of a protocol: each is declared once, and the row, the ranking's key and the table's columns follow."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import BaseModel

COLUMN_TYPES = {int: "BIGINT", float: "DOUBLE", bool: "BOOLEAN"}  # of DuckDB; everything else is text


@dataclass(frozen=True)
class Made:
    """What a run was put together from: a fact is read off it. Records and objects of higher floors, hence `Any`."""

    spec: Any  # RunSpec
    stream: Any
    learner: Any
    backbone: Any


@dataclass(frozen=True)
class Compared:
    """Marks a field of a record as a fact of the protocol: `seed: Annotated[int, Compared(by_seed=True)] = 1993`."""

    key: bool = True  # two results may stand in one ranking only where it agrees
    by_seed: bool = False  # may differ between runs of one experiment under several seeds
    of: Callable[[Made], Any] | None = None  # where the row states what came of the wish, not the wish


@dataclass(frozen=True)
class Fact:
    """One entry of the protocol row."""

    name: str
    kind: Any  # the type that a file must hold, or None
    of: Callable[[Made], Any]  # its value for a run that is about to begin
    key: bool = False
    by_seed: bool = False
    unsaid: Any = None  # what a file that does not state it is read as

    @property
    def column(self) -> str:
        """Type of its column in the table of runs."""
        return COLUMN_TYPES.get(self.kind, "VARCHAR")


FACTS: dict[str, Fact] = {}
"""Every fact, in the order in which rows and tables show them."""


def declare(
    name: str,
    kind: Any,
    of: Callable[[Made], Any],
    *,
    key: bool = False,
    by_seed: bool = False,
    unsaid: Any = None,
) -> Fact:
    """Enter a fact. Runs made from now on state it; with `key`, results that differ in it are not ranked together.

    Raises:
        ValueError: there is such a fact already.
    """
    if name in FACTS:
        raise ValueError(f"protocol fact {name!r} is declared twice.")
    FACTS[name] = Fact(name, kind, of, key, by_seed, unsaid)
    return FACTS[name]


def declare_fields(record: type[BaseModel], part: str, unsaid: dict[str, Any]) -> None:
    """Enter the marked fields of `record`, which a run's spec holds as `part`; `name` is stated under `part` itself."""
    for field, info in record.model_fields.items():
        for mark in info.metadata:
            if isinstance(mark, Compared):
                name = part if field == "name" else field

                def wished(made: Made, field: str = field) -> Any:
                    return getattr(getattr(made.spec, part), field)

                declare(
                    name, _kind(info.annotation), mark.of or wished,
                    key=mark.key, by_seed=mark.by_seed, unsaid=unsaid.get(name),
                )  # fmt: skip


def protocol_key() -> tuple[str, ...]:
    """Facts that must agree before two results may stand in one ranking; learner and parameters are what competes."""
    return tuple(name for name, fact in FACTS.items() if fact.key)


def _kind(annotation: Any) -> Any:
    """The type without `| None` and bounds; text for a choice among words: an older file may know other words."""
    while get_origin(annotation) is not None and (
        rest := [kind for kind in get_args(annotation) if kind is not type(None)]
    ):
        annotation = rest[0]
    return str if isinstance(annotation, str) else annotation
