"""How classes become tasks: sizes (`B0-Inc10`) and orders (`pilot`, `natural`, a list)."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cillab.core.errors import InvalidRequestError, nearest, one_line, shown, unknown_name

ALL_AT_ONCE, BASE_THEN_NEW = "all", "base-new"  # names of splits

_SPLIT = re.compile(r"B[\s-]*(\d+)[\s_,-]*Inc[\s-]*(\d+)", re.IGNORECASE)
ORDERS = ("pilot", "natural")
NAMES = "names:"  # before a list of class names that are numbers


def parse_split(split: str, classes: int) -> tuple[int, ...]:
    """Number of classes in every task of a `B-m Inc-n` split: m first, then n at a time; the last takes what is left.

        B0 Inc-n: n, n, ..., remainder        B-m Inc-n: m, n, n, ..., remainder        tasks = 1 + ceil((C - m) / n)

    Blanks, dashes and capitals do not matter: `B0-Inc10`, `b0 inc10` and `B-0 Inc-10` are the same. `all` is one task
    with every class; `base-new` is two, ceil(C / 2) classes and the rest.

    Raises:
        InvalidRequestError: another form, Inc0, or a task with more classes than there are.
    """
    if split.strip().lower() == ALL_AT_ONCE:
        return (classes,)
    if split.strip().lower() == BASE_THEN_NEW:
        if classes < 2:
            raise InvalidRequestError(f"split = {shown(split)} halves the classes, and the data have {classes}.")
        return ((classes + 1) // 2, classes // 2)
    found = _SPLIT.fullmatch(split.strip())
    if not found:
        raise InvalidRequestError(
            f"split = {shown(split)}. Valid: B0-Inc10 (10 at a time), B50-Inc10 (first 50, then 10), all (one task)."
        )
    base, increment = int(found[1]), int(found[2])
    if increment == 0:
        raise InvalidRequestError(f"split = {shown(split)}: a task needs at least one class, Inc0 gives none.")
    first = base or increment
    if first > classes:
        raise InvalidRequestError(
            f"split = {shown(split)}: its first task wants {first} classes, the data have {classes}."
        )
    if increment > classes - first > 0:
        raise InvalidRequestError(
            f"split = {shown(split)} wants {increment} classes after the first {first}, "
            f"the data have {classes - first}."
        )
    whole, rest = divmod(classes - first, increment)
    return (first, *[increment] * whole, *([rest] if rest else []))


def class_order(order: str | Sequence[int | str], classes: int | Sequence[str], seed: int = 1993) -> tuple[int, ...]:
    """Class ids in the order in which they are learnt.

    pilot: `np.random.RandomState(seed).permutation(C)`, the legacy generator (the rule of PyCIL, PILOT and C3Box).
    natural: 0, 1, 2, ...
    A list, a text "3,1,2" or the path of a file (one per line, or a JSON list) gives ids or class names itself. It may
    leave classes out: then the stream has only those it names. Something that is a number is always an id, unless the
    text begins with `names:` (`names:10,2,1`).

    Raises:
        UnknownNameError: neither an order, a list, a file nor a class name.
        InvalidRequestError: a class that does not exist, or one given twice.
    """
    names = tuple(map(str, range(classes))) if isinstance(classes, int) else tuple(classes)
    if order == "pilot":
        if not 0 <= seed < 2**32:
            raise InvalidRequestError(f"seed = {seed}: a class order is drawn with a seed from 0 to 2**32 - 1.")
        return tuple(np.random.RandomState(seed).permutation(len(names)).tolist())
    if order == "natural":
        return tuple(range(len(names)))
    if isinstance(order, str) and order.startswith(NAMES):
        ids = tuple(_by_name(entry.strip(), names) for entry in order.removeprefix(NAMES).split(",") if entry.strip())
    else:
        ids = tuple(_class_id(entry, names) for entry in (_entries(order) if isinstance(order, str) else order))
    if not ids:
        raise InvalidRequestError("order: the list is empty.")
    twice = next((class_id for k, class_id in enumerate(ids) if class_id in ids[:k]), None)
    if twice is not None:  # class 0 too
        raise InvalidRequestError(f"order: class {twice} ({names[twice]}) is given twice.")
    return ids


def numbers_read_as_ids(order: str | Sequence[int | str], names: Sequence[str], ids: Sequence[int]) -> str | None:
    """What to say where an order of numbers was read as ids and classes are called by numbers; None = nothing.

    Folders that are called 1, 2, 10 have the ids 0, 2, 1: a class id is a position in the alphabetical order.
    """
    if order in ORDERS or (isinstance(order, str) and order.startswith(NAMES)):
        return None
    given = [str(entry).strip() for entry in (_entries(order) if isinstance(order, str) else order)]
    numbers = [i for text, i in zip(given, ids, strict=True) if text.isdigit()]
    odd = next((i for i in numbers if str(i) in names and names[i] != str(i)), None)
    if odd is None:
        return None
    return (
        f"the numbers in order are class ids, and classes are called by numbers: id {odd} is the class {names[odd]!r}. "
        f"To give names, write order = {NAMES}{','.join(names[i] for i in ids[:3])}{',...' if len(ids) > 3 else ''}"
    )


def _entries(order: str) -> list[int | str]:
    """The entries of "3,1,2" or of a file."""
    if re.fullmatch(r"\s*\d+(\s*,\s*\d+)*\s*,?\s*", order):
        return [entry for entry in order.split(",") if entry.strip()]
    path = Path(order).expanduser()
    if not path.is_file():
        raise unknown_name("class order", order, [*ORDERS, "3,1,2", "FILE"])
    try:
        text = path.read_text(encoding="utf-8").strip()
        if text.startswith("["):
            return list(json.loads(text))
    except (OSError, ValueError) as error:
        raise InvalidRequestError(f"order = {shown(order)} cannot be read ({one_line(error)}).") from error
    lines = [line for line in text.splitlines() if line.strip()]
    return [entry for entry in text.split(",") if entry.strip()] if len(lines) == 1 else list(lines)


def _class_id(entry: int | str, names: Sequence[str]) -> int:
    text = str(entry).strip()
    if text.lstrip("-").isdigit():
        if not 0 <= int(text) < len(names):
            hint = f" To give names, write {NAMES}{text},..." if text in names else ""
            raise InvalidRequestError(f"order: there is no class {text}. Valid: 0 to {len(names) - 1}.{hint}")
        return int(text)
    return _by_name(text, names)


def _by_name(text: str, names: Sequence[str]) -> int:
    if text not in names:
        hint = nearest(text, names)
        raise InvalidRequestError(
            f"order: there is no class {shown(text)} among {len(names)}." + (f" Did you mean {hint!r}?" if hint else "")
        )
    return names.index(text)
