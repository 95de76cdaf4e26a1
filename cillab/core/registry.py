"""Names to things. A registry never guesses: a duplicate raises, an unknown name says which one is nearest.

Where the entries stand in many modules, a registry asks for them when it is asked (`found_by`): one name loads what
holds that name, a list of names loads everything.
"""

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from cillab.core.errors import unknown_name

T = TypeVar("T")


class Registry(Generic[T]):
    """A sorted table of named things, filled by decorators when their modules are imported."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}
        self._load: Callable[[str | None], None] = lambda name: None

    def found_by(self, load: Callable[[str | None], None]) -> None:
        """Let `load(name)` import what may register `name`, and `load(None)` all there is.

        Both must cost nothing a second time.
        """
        self._load = load

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator: enter the decorated object under `name`."""

        def enter(entry: T) -> T:
            if name in self._entries and not _typed_again(self._entries[name], entry):
                raise ValueError(f"{self.kind} {name!r} is registered twice.")
            self._entries[name] = entry
            return entry

        return enter

    def __getitem__(self, name: str) -> T:
        """The entry called `name`.

        Raises:
            UnknownNameError: with the valid names and the nearest one.
        """
        if name not in self:
            raise unknown_name(self.kind, name, self._entries)
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        for wanted in (name, None):
            if name not in self._entries and (wanted is None or isinstance(wanted, str)):
                self._load(wanted)
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        self._load(None)
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        self._load(None)
        return len(self._entries)


def _typed_again(old: object, new: object) -> bool:
    """A class of a notebook or a session, defined a second time: it takes its own place."""
    names = [(getattr(one, "__module__", ""), getattr(one, "__qualname__", "")) for one in (old, new)]
    return names[0] == names[1] and names[0][0] == "__main__"


learners: Registry[Any] = Registry("learner")  # type[Learner]: `Any` keeps this file free of torch
sources: Registry[Any] = Registry("data set")
