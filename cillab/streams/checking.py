"""Is a data set what it should be? Checksums, classes, images, division, broken files, twins: from one pass."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from cillab.protocol.named import DataSet, find, homes, not_here
from cillab.streams.fetching import checksums
from cillab.streams.frozen import split_digest
from cillab.streams.leaks import said_of
from cillab.streams.named import division_of, open_at
from cillab.streams.opening import open_source
from cillab.streams.pictures import EncodedSource
from cillab.streams.sources import SPLITS, Options, Source

_NAMED = 20  # broken files and twins that are named before they are counted


@dataclass
class Checked:
    """What was found, a line each, and what is wrong."""

    lines: dict[str, str] = field(default_factory=dict[str, str])
    faults: list[str] = field(default_factory=list[str])


def check_set(entry: DataSet, options: Options, *, decode: bool = True) -> Checked:
    """Look at everything of a set that lies on this machine; with `decode`, at every image.

    Raises:
        HubError: it is not here; says which files go where.
        DataError: lists or folders that cannot be read as the set.
    """
    folders = homes(entry, options.cache)
    place = find(entry, folders)
    if place is None:
        raise not_here(entry, folders)
    said = Checked({"set": entry.title, "folder": str(place.folder), "layout": place.layout.says})
    for path, digest, wanted in (found for home in folders for found in checksums(entry, home)):
        right = (
            "no checksum is published" if not wanted else "as published" if digest == wanted else f"expected {wanted}"
        )
        said.lines[f"md5 {path.name}"] = f"{digest}, {right}"
        if wanted and digest != wanted:
            said.faults.append(f"{path.name} has another checksum")
    with _unlogged():
        source = open_at(entry, place, options)
    train, test = (len(source.labels(split)) for split in SPLITS)
    empty = [
        name for number, name in enumerate(source.class_names)
        if not any((source.labels(split) == number).any() for split in SPLITS)
    ]  # fmt: skip
    said.lines["classes"] = f"{len(source.class_names)} of {entry.classes}"
    division = division_of(entry, train, test)
    said.lines["images"] = f"{train:,} training, {test:,} test: {division}"
    if division.startswith("no known"):
        said.faults.append("the numbers of images are those of no known division")
    if empty:
        said.faults.append(f"{len(empty)} classes without an image ({', '.join(empty[:5])})")
    _look(source, said, decode, source.notes[1:])  # the first says the numbers of classes and images
    said.lines["training"] = "allowed" if entry.may_train else "not allowed: evaluation only"
    said.lines["licence"] = entry.licence
    if entry.note:
        said.lines["note"] = entry.note
    return said


def check_own(where: str, *, decode: bool = True) -> Checked:
    """The same of a folder or a table of one's own, `folder:DIR` or `parquet:DIR`; what was understood comes first.

    Raises:
        UnknownNameError, DataError: as `open_source`.
    """
    with _unlogged():
        source = open_source(where)
    said = Checked({"data": where})
    _look(source, said, decode, source.notes)
    return said


@contextmanager
def _unlogged() -> Iterator[None]:
    """Notes on data come back as lines: inside, the log does not say them too."""
    logger = logging.getLogger(__name__.rpartition(".")[0])
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _look(source: Source, said: Checked, decode: bool, noted: Sequence[str]) -> None:
    """What was noted, broken images and twins, where every image is opened, and how the images are divided."""
    found = source.survey() if decode and isinstance(source, EncodedSource) else None
    twins_note = said_of(found[1], len(source.labels("test"))) if found else None
    notes = [note for note in noted if note != twins_note]  # the line on twins names more of them
    said.lines |= {f"note {number}": note for number, note in enumerate(notes, start=1)}
    if found:
        broken, twins = found
        said.lines["broken"] = _some(broken) or f"none of {sum(len(source.labels(s)) for s in SPLITS):,} images"
        said.lines["twins"] = (
            f"{len(twins)} test images are byte for byte a training image: {_some(twins)}" if twins else "none"
        )
        if broken:
            said.faults.append(f"{len(broken)} broken images")
    said.lines["division"] = f"sha256 {split_digest(source)} over the names in each split"


def _some(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
