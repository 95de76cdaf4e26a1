"""`folder:DIR`: one's own images, a folder per class."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Int64

from cillab.core.errors import DataError, one_line, shown
from cillab.core.registry import sources
from cillab.streams.layout import (
    Layout,
    PassedOver,
    brief,
    check_known,
    class_names_in,
    images_in,
    layout_of,
    legible,
)
from cillab.streams.leaks import listing
from cillab.streams.pictures import EncodedSource
from cillab.streams.sources import SPLITS, Divide, Options, Shelf, Source, Split, by_seed

log = logging.getLogger(__name__)

_EMPTY = "no training image in class"


@final
class FileShelf(Shelf):
    """Image files, one by one."""

    def __init__(self, root: Path, paths: list[Path], labels: Int64[np.ndarray, " image"]) -> None:
        self.labels = labels
        self.paths = paths
        self._root = root

    def read(self, row: int) -> bytes:
        """The bytes of a file."""
        try:
            return self.paths[row].read_bytes()
        except OSError as error:
            raise DataError(f"{self.where(row)} cannot be read ({one_line(error)}).") from error

    def where(self, row: int) -> str:
        """The path as it was given."""
        return legible(str(self.paths[row]))

    def id(self, row: int) -> str:
        """The path inside the data set."""
        return legible(self.paths[row].relative_to(self._root).as_posix())

    def lengths(self) -> Sequence[int] | None:
        """As the file system says."""
        try:
            return [path.stat().st_size for path in self.paths]
        except OSError:  # gone meanwhile: reading it says so
            return None


@sources.register("folder:DIR")
def open_folder(where: str, options: Options) -> Source:
    """Your own images: DIR/train/CLASS/* and DIR/test/CLASS/*, or DIR/CLASS/* (then 80/20, seeded)."""
    root = Path(where).expanduser()
    if any("\ud800" <= c <= "\udfff" for c in where):  # no run.json can hold it
        raise DataError(f"folder:{legible(where)}: the path is not UTF-8. Rename the folder, or link to it.")
    if not root.is_dir():
        raise DataError(f"folder:{where}: there is no folder {shown(str(root), 200)}.")
    return read_folder(root, where, by_seed(options.seed))


def read_folder(root: Path, where: str, divide: Divide, leave_out: Sequence[str] = ()) -> EncodedSource:
    """The images below `root`; `divide` holds test images out where the folder has none.

    Raises:
        DataError: no usable layout, as `folder:{where}`.
    """
    try:
        return _opened(root, where, divide, leave_out)
    except OSError as error:
        raise DataError(f"folder:{where} cannot be read ({one_line(error)}).") from error


def _opened(root: Path, where: str, divide: Divide, leave_out: Sequence[str]) -> EncodedSource:
    passed = PassedOver()
    layout = layout_of(root, where, passed)
    folders = tuple(name for name in class_names_in(layout.train, where) if name not in leave_out)
    shelves: dict[Split, FileShelf] = {}
    if layout.test is not None:
        check_known(folders, class_names_in(layout.test, where), layout, where)
        for split, place in zip(SPLITS, (layout.train, layout.test), strict=True):
            shelves[split] = FileShelf(layout.root, *_files_in(place, folders, passed))
    else:
        paths, labels = _files_in(layout.root, folders, passed)
        whole = FileShelf(layout.root, paths, labels)
        ids = list(map(whole.id, range(len(paths))))
        for split, rows in divide(labels, tuple(map(legible, folders)), ids).items():
            shelves[split] = FileShelf(layout.root, [paths[row] for row in rows], labels[rows])
    splits: dict[Split, Shelf] = {**shelves}
    source = EncodedSource(f"folder:{where}", tuple(map(legible, folders)), splits)
    source.notes = (_understood(layout, folders, shelves), *_troubles(folders, shelves, passed))
    for note in source.notes[1:]:
        if not note.startswith(_EMPTY):  # a stream that wants such a class is refused, in these words
            log.warning("%s: %s", source.name, note)
    _ = source.leaked  # cheap here, where the lengths of files are known: said with the rest
    return source


def _files_in(folder: Path, names: Sequence[str], passed: PassedOver) -> tuple[list[Path], Int64[np.ndarray, " image"]]:
    paths, labels = list[Path](), list[int]()
    for class_id, name in enumerate(names):
        found = images_in(folder / name, passed) if (folder / name).is_dir() else []
        paths += found
        labels += [class_id] * len(found)
    return paths, np.array(labels, dtype=np.int64)


def _understood(layout: Layout, folders: Sequence[str], shelves: Mapping[Split, FileShelf]) -> str:
    """One sentence: `3 classes, 240 training images, 60 test images: every fifth image, drawn by the seed.`."""
    train, test = (len(shelves[split].labels) for split in SPLITS)
    source = "a fifth of each class, drawn by the seed" if layout.test is None else f"from {legible(layout.test.name)}/"
    classes = "1 class" if len(folders) == 1 else f"{len(folders)} classes"
    return f"{classes}, {train} training images, {test} test images ({source})."


def _troubles(folders: Sequence[str], shelves: Mapping[Split, FileShelf], passed: PassedOver) -> list[str]:
    said = list[str]()
    counts = np.bincount(shelves["train"].labels, minlength=len(folders))
    if empty := [brief(name) for name, count in zip(folders, counts, strict=True) if not count]:
        said.append(f"{_EMPTY} {listing(empty)}: add images, remove the folder, or leave it out by --order.")
    if passed.counts:
        said.append(f"passed over: {passed}.")
    return said
