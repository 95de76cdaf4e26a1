"""Which column of a table holds the images and which the labels: by name, by declared type, or as was asked."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

from cillab.core.errors import DataError, InvalidRequestError, nearest, shown

IMAGE_COLUMNS = ("image", "img", "picture", "photo", "image_path", "file_name", "filename", "path", "file")
LABEL_COLUMNS = ("label", "fine_label", "labels", "class", "class_name", "category", "target")


class Columns(NamedTuple):
    """The two columns that are read, and what is to be said about the choice."""

    image: str
    label: str
    also: tuple[str, ...] = ()  # columns that divide the rows into the same classes and were passed over


def columns_of(
    names: Sequence[str],
    images: Sequence[str],
    labels: Sequence[str],
    values: Callable[[str], Sequence[Any]],
    given: tuple[str | None, str | None],
    owner: str,
) -> Columns:
    """Choose the columns of a table with the columns `names`, of which `images` and `labels` are declared as such.

    Without a word from the user (`given`: image and label) a column is taken for its declared type or for its name, in
    any case. Several that could be labels are one if they divide the rows into the same classes; `values` reads one.

    Raises:
        DataError: no such column, or several that mean different things; says how to name the right one.
        InvalidRequestError: a column was named that is not there.
    """
    wanted_image, wanted_label = given
    image = _given(wanted_image, names, "image_column", owner) or _image(names, images, owner)
    if label := _given(wanted_label, names, "label_column", owner):
        return Columns(image, label)
    found = [name for name in _named(names, LABEL_COLUMNS) if name != image] or [n for n in labels if n != image]
    if not found:
        raise DataError(_none(names, LABEL_COLUMNS, "labels", owner))
    kinds = {name: _division(values(name)) for name in found} if len(found) > 1 else {}
    if len(set(kinds.values())) > 1:
        said = ", ".join(f"{shown(name, 40)} ({max(kind) + 1} classes)" for name, kind in kinds.items())
        raise DataError(
            f"{owner} has several columns that could be labels: {said}. Name one: --label-column {found[0]}."
        )
    return Columns(image, found[0], tuple(found[1:]))


def must_have(columns: Sequence[str], name: str, what: str, owner: str) -> None:
    """Refuse a part of a data set that lacks a column which its first part has.

    Raises:
        DataError: says which columns there are.
    """
    if name not in columns:
        raise DataError(_none(columns, (name,), what, owner))


def _image(names: Sequence[str], declared: Sequence[str], owner: str) -> str:
    found = _named(declared, IMAGE_COLUMNS) or list(declared)
    if len(found) > 1 and not _named(found, IMAGE_COLUMNS):
        several = ", ".join(shown(name, 40) for name in found)
        raise DataError(f"{owner} has several columns of images: {several}. Name one: --image-column {found[0]}.")
    found = found or _named(names, IMAGE_COLUMNS)
    if not found:
        raise DataError(_none(names, IMAGE_COLUMNS, "images", owner))
    return found[0]


def _given(wanted: str | None, names: Sequence[str], option: str, owner: str) -> str | None:
    if wanted is None or wanted in names:
        return wanted
    hint = nearest(wanted, names)
    raise InvalidRequestError(
        f"{option} = {shown(wanted)}: {owner} has no such column. Its columns: {', '.join(names)}."
        + (f" Did you mean {hint!r}?" if hint else "")
    )


def _named(names: Sequence[str], usual: Sequence[str]) -> list[str]:
    """Those of the usual names in any case: in the order of `usual`, the exact spelling first."""
    chosen = [name for name in names if name.lower() in usual]
    return sorted(chosen, key=lambda name: (usual.index(name.lower()), name not in usual))


def _division(values: Sequence[Any]) -> tuple[int, ...]:
    """Which rows have equal values, whatever the values are: the number of each row's class by first appearance."""
    known: dict[Any, int] = {}
    return tuple(
        known.setdefault(value if isinstance(value, Hashable) else repr(value), len(known)) for value in values
    )


def _none(columns: Sequence[str], usual: Sequence[str], what: str, owner: str) -> str:
    option = {"images": "--image-column", "labels": "--label-column"}[what]
    return (
        f"{owner} has no column of {what} ({' or '.join(usual)}). Its columns: {', '.join(columns)}. "
        f"If one of them is it: {option} NAME."
    )
