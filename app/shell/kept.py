"""What is kept for all who look, up to a number of bytes: what was not asked for the longest is let go first."""

from collections.abc import Callable
from threading import Condition
from typing import Any

import numpy as np
from cachetools import LRUCache, cached

_ALL: list[Callable[[], None]] = []  # how each of the functions below forgets
_OBJECT = 64  # bytes of a number, a name or the frame of a container, roughly


def weight(value: Any) -> int:
    """Bytes that a value of arrays, texts, lists and mappings takes, to within a factor of two."""
    if isinstance(value, np.ndarray):
        return value.nbytes + _OBJECT
    if isinstance(value, str | bytes):
        return len(value) + _OBJECT
    if isinstance(value, dict):
        return _OBJECT + sum(_OBJECT + weight(one) for one in value.values())
    if isinstance(value, list | tuple):
        return _OBJECT + sum(map(weight, value))
    return _OBJECT


def keep(limit: int, size: Callable[[Any], int], key: Callable[..., Any]) -> Callable[[Callable], Callable]:
    """Remember what a function returns, by `key` of its arguments, while all of it together is below `limit` bytes.

    One thread at a time works out a value; others that want it wait. A value larger than the limit is not kept.
    """

    def kept(work: Callable) -> Callable:
        found = cached(LRUCache(limit, size), key=key, condition=Condition())(work)
        _ALL.append(found.cache_clear)
        return found

    return kept


def forget() -> None:
    """Let go of all that is kept."""
    for clear in _ALL:
        clear()
