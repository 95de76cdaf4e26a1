"""The shapes that `schema.SNAPSHOT_ARRAYS` promises, against those in a file: from its header alone."""

import re
from collections.abc import Mapping
from functools import cache

from cillab.runs.arrays import Arrays
from cillab.runs.schema import SNAPSHOT_ARRAYS

_DECLARED = re.compile(r"([fiub])\d+ \[([^\]]*)\]")
_SHARED = ("N", "K", "T")  # the same number in every array of a step; d is, outside of a method's internals


@cache
def _promises() -> tuple[tuple[re.Pattern[str], str, tuple[str, ...]], ...]:
    found = []
    for name, text in SNAPSHOT_ARRAYS.items():
        match = _DECLARED.match(text)
        if match:
            pattern = re.compile(re.sub(r"<\w+>", "[^/]+", re.escape(name).replace(r"\<", "<").replace(r"\>", ">")))
            axes = tuple(axis.strip() for axis in match[2].split(",") if axis.strip())
            found.append((pattern, match[1], axes))
    return tuple(found)


def misfit(arrays: Arrays) -> str:
    """What does not fit in a snapshot: a rank, a kind of number, or lengths that should be equal. Empty if nothing."""
    lengths: dict[str, tuple[int, str]] = {}
    for name in arrays.names:
        for pattern, kind, axes in _promises():
            if not pattern.fullmatch(name):
                continue
            shape, given = arrays.shape(name), arrays.kind(name)
            if (given == "f") != (kind == "f"):
                return f"{name} holds numbers of another kind than {kind}"
            if len(shape) != len(axes):
                return f"{name} has the shape {list(shape)}, not [{', '.join(axes)}]"
            if why := _unequal(name, shape, axes, lengths):
                return why
    return ""


def _unequal(name: str, shape: tuple[int, ...], axes: tuple[str, ...], lengths: dict[str, tuple[int, str]]) -> str:
    for size, axis in zip(shape, axes, strict=True):
        if axis.isdigit() and size != int(axis):
            return f"{name} has the shape {list(shape)}, not [{', '.join(axes)}]"
        if axis in _SHARED or (axis == "d" and not name.startswith("internals/")):
            known, owner = lengths.setdefault(axis, (size, name))
            if size != known:
                return f"{name} has {size} {_WORDS[axis]}, {owner} has {known}"
    return ""


_WORDS: Mapping[str, str] = {"N": "probe points", "K": "classes", "T": "tasks", "d": "features"}
