"""Names to things. A registry never guesses: a duplicate raises, an unknown name says which one is nearest."""

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from cillab.core.errors import unknown_name

T = TypeVar("T")


class Registry(Generic[T]):
    """A sorted table of named things, filled by decorators when their modules are imported."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

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
        if name not in self._entries:
            raise unknown_name(self.kind, name, self._entries)
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        return len(self._entries)


def _typed_again(old: object, new: object) -> bool:
    """A class of a notebook or a session, defined a second time: it takes its own place."""
    names = [(getattr(one, "__module__", ""), getattr(one, "__qualname__", "")) for one in (old, new)]
    return names[0] == names[1] and names[0][0] == "__main__"


learners: Registry[Any] = Registry("learner")  # type[Learner]: `Any` keeps this file free of torch
sources: Registry[Any] = Registry("data set")
