"""Labels as tables hold them (ids, names, booleans), turned into class ids."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

import numpy as np
from jaxtyping import Int64

from cillab.core.errors import DataError, shown
from cillab.streams.layout import legible


@dataclass(frozen=True)
class Classes:
    """The names of all classes, and the class id of every stored label."""

    names: tuple[str, ...]
    ids: Mapping[Any, int]
    notes: tuple[str, ...] = ()  # what is odd about them

    def number(self, labels: Sequence[Any], where: Callable[[int], str]) -> Int64[np.ndarray, " image"]:
        """Class ids of stored labels; `where` says how to find a row.

        Raises:
            DataError: an image without a label, or with one that is no class; its row, and how many there are.
        """
        found = [-1 if not _usable(label) else self.ids.get(label, -1) for label in labels]
        numbers = np.array(found, dtype=np.int64)
        wrong = np.flatnonzero(numbers < 0)
        if len(wrong):
            row = int(wrong[0])
            more = f" ({len(wrong)} such rows of {len(labels)})" if len(wrong) > 1 else ""
            if is_missing(labels[row]):
                raise DataError(f"{where(row)}: the label is empty{more}. Leave out images without a label.")
            raise DataError(f"{where(row)}: label {shown(labels[row])} is none of the {len(self.names)} classes{more}.")
        return numbers


def classes_of(declared: Sequence[str] | None, labels: Sequence[Any], owner: str) -> Classes:
    """Classes as the schema declares them; else the texts in alphabetical order, or the ids that occur as text.

    The ids need not be without gaps: a label of 10^9 is one class more, and no table is as long as the largest id.
    Booleans give the classes "false" and "true". Names that differ only in case or blanks stay different classes,
    which is noted. Control characters in a name are written out as escapes.

    Raises:
        DataError: no label at all, labels of several kinds, fractions, lists or other things that name no class.
    """
    if declared:
        ids = {**{i: i for i in range(len(declared))}, **{name: i for i, name in enumerate(declared)}}
        return Classes(tuple(map(legible, declared)), ids)
    given = [label for label in labels if not is_missing(label)]
    if not given:
        raise DataError(f"{owner} has no labelled image.")
    kinds = {type(label) for label in given}
    if kinds <= {int, float}:
        for label in given:
            if label != label // 1 or label < 0:
                raise DataError(f"{owner}: labels must be whole numbers from 0 on, or class names, not {shown(label)}.")
        known = sorted({int(label) for label in given})
        return Classes(tuple(map(str, known)), {label: i for i, label in enumerate(known)})
    if kinds == {bool}:
        return Classes(("false", "true"), {False: 0, True: 1})
    if kinds == {str}:
        texts = sorted(set(given))
        return Classes(tuple(map(legible, texts)), {text: i for i, text in enumerate(texts)}, _alike(texts))
    odd = next(label for label in given if type(label) is not str)
    raise DataError(
        f"{owner}: labels must be class ids or class names, one for an image, "
        f"not {'a nested ' if isinstance(odd, list | dict) else ''}{type(odd).__name__} such as {shown(odd)}."
    )


def is_missing(label: Any) -> bool:
    """Whether a cell holds nothing: null, or the NaN that pandas writes for it."""
    return label is None or (isinstance(label, float) and isnan(label))


def is_hidden(labels: Sequence[Any]) -> bool:
    """Whether all labels of a split are withheld, as in the test split of a contest: -1 or nothing everywhere."""
    return all(is_missing(label) or (isinstance(label, int | float) and label == -1) for label in labels)


def _usable(label: Any) -> bool:
    return isinstance(label, int | float | str) and not is_missing(label)


def _alike(texts: Sequence[str]) -> tuple[str, ...]:
    groups = dict[str, list[str]]()
    for text in texts:
        groups.setdefault(" ".join(text.split()).casefold(), []).append(text)
    alike = [", ".join(shown(text, 40) for text in group[:4]) for group in groups.values() if len(group) > 1]
    if alike:
        more = f", and {len(alike) - 3} more groups" if len(alike) > 3 else ""
        return (f"class names that look alike are classes of their own: {'; '.join(alike[:3])}{more}.",)
    return ()
