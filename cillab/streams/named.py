"""Named data sets as sources: found where they lie, read in whatever layout they came, with readable class names."""

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from cillab.core.errors import DataError
from cillab.core.registry import sources
from cillab.protocol.named import DataSet, Place, find, homes, named_sets, not_here
from cillab.streams import lists
from cillab.streams.cifar import ARCHIVES, open_cifar
from cillab.streams.files import FileShelf, read_folder
from cillab.streams.frozen import RULE, fifth_by_name
from cillab.streams.layout import brief, legible
from cillab.streams.pictures import EncodedSource
from cillab.streams.readable import readable
from cillab.streams.sources import SPLITS, Options, Shelf, Source, Split
from cillab.streams.table import read_tables


@final
class Joined(Shelf):
    """Several shelves, one behind the other."""

    def __init__(self, shelves: Sequence[Shelf]) -> None:
        self._shelves = tuple(shelves)
        self._starts = np.cumsum([0, *(len(shelf.labels) for shelf in shelves)]).tolist()
        self.labels = np.concatenate([shelf.labels for shelf in shelves])

    def _at(self, row: int) -> tuple[Shelf, int]:
        piece = bisect_right(self._starts, row) - 1
        return self._shelves[piece], row - self._starts[piece]

    def read(self, row: int) -> bytes:
        """The bytes that the shelf has."""
        shelf, inner = self._at(row)
        return shelf.read(inner)

    def where(self, row: int) -> str:
        """Where the shelf has it."""
        shelf, inner = self._at(row)
        return shelf.where(inner)

    def id(self, row: int) -> str:
        """The name that the shelf has for it."""
        shelf, inner = self._at(row)
        return shelf.id(inner)


@final
class Opener:
    """What is registered for a named set: its docstring is the line of the list."""

    def __init__(self, entry: DataSet) -> None:
        self.entry = entry
        self.__doc__ = entry.line

    def __call__(self, where: str, options: Options) -> Source:
        """Open the set where it lies; the two CIFARs are downloaded if they lie nowhere.

        Raises:
            HubError: it is not here; says what to do.
            DataError: what is there is not the set.
        """
        return open_named(self.entry, options)


for _name, _entry in named_sets().items():
    sources.register(_name)(Opener(_entry))


def open_named(entry: DataSet, options: Options) -> Source:
    """The set where it lies.

    Raises:
        HubError, DataError: as `Opener`.
    """
    folders = homes(entry, options.cache)
    place = find(entry, folders)
    if place is not None:
        return open_at(entry, place, options)
    if entry.small:
        return open_cifar(ARCHIVES[entry.name], options)
    raise not_here(entry, folders)


def open_at(entry: DataSet, place: Place, options: Options) -> Source:
    """The set in one place and layout.

    Raises:
        DataError: the files are not those of the set: which, and what was expected.
    """
    folder, layout = place
    if layout.kind == "cifar":
        return _understood(open_cifar(ARCHIVES[entry.name], options, folder), entry, place)
    if lists.readable(layout.kind):
        source = _listed(entry, place)
    elif layout.kind == "parquet":
        source = read_tables(str(folder), fifth_by_name)
    else:
        source = read_folder(folder / layout.at, str(folder / layout.at), fifth_by_name, entry.leave_out)
    if len(source.class_names) not in (entry.classes, *entry.other_classes):
        raise DataError(
            f"{entry.name} has {entry.classes} classes, {folder} holds {len(source.class_names)} "
            f"({', '.join(map(brief, source.class_names[:3]))}, ...). Read parts of it by "
            f"{source.name if ':' in source.name else 'folder:DIR'}."
        )
    source.name, source.class_names = entry.name, readable(entry, source.class_names)
    if not entry.may_train:
        source = _test_only(source)
    return _understood(source, entry, place)


def _listed(entry: DataSet, place: Place) -> EncodedSource:
    found, classes = lists.read(*place)
    classes = [name for name in classes if name not in entry.leave_out]
    numbers = {name: number for number, name in enumerate(classes)}
    shelves: dict[Split, Shelf] = {}
    for split, rows in found.items():
        kept = [(path, label) for path, label, _ in rows if label not in entry.leave_out]
        if odd := next((label for _, label in kept if label not in numbers), None):
            raise DataError(
                f"{place.folder}: class {brief(odd)} is not among the {len(classes)} of {place.layout.classes}."
            )
        labels = np.array([numbers[label] for _, label in kept], dtype=np.int64)
        shelves[split] = FileShelf(place.folder, [path for path, _ in kept], labels)
    return EncodedSource(entry.name, tuple(map(legible, classes)), shelves)


def _test_only(source: EncodedSource) -> EncodedSource:
    """All images as test images: nothing to train on."""
    none = FileShelf(Path(), [], np.empty(0, dtype=np.int64))
    both = Joined([source.shelf(split) for split in SPLITS])
    return EncodedSource(source.name, source.class_names, {"train": none, "test": both})


def _understood(source: Any, entry: DataSet, place: Place) -> Source:
    train, test = (len(source.labels(split)) for split in SPLITS)
    more = tuple(note for note in source.notes[1:])
    line = f"{entry.title}: {len(source.class_names)} classes, {train:,} training images, {test:,} test images"
    source.notes = (f"{line} ({division_of(entry, train, test)}).", *more)
    return source


def division_of(entry: DataSet, train: int, test: int) -> str:
    """Whose division so many images are, in words."""
    for whose, counts in entry.counts.items():
        if counts == (train, test):
            return f"the {whose} division"
    if entry.whole and train + test == entry.whole:
        return f"in one piece; a fifth of each class held out by rule {RULE}"
    known = ", ".join(f"{whose} {a:,} + {b:,}" for whose, (a, b) in entry.counts.items())
    whole = f", in one piece {entry.whole:,}" if entry.whole else ""
    return f"no known division: {known}{whole}"
