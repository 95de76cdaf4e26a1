"""Official layouts of data sets: lists of files and labels, read into paths and class names."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cillab.core.errors import DataError, one_line, shown
from cillab.protocol.named import Layout
from cillab.streams.sources import Split

Row = tuple[Path, str, int]  # image, class as the files call it, its number there (0 where classes have none)
Found = Mapping[Split, list[Row]]

_READERS: dict[str, Callable[[Path, Layout], Found]] = {}


def readable(kind: str) -> bool:
    """Is this a layout of lists?"""
    return kind in _READERS


def read(folder: Path, layout: Layout) -> tuple[Found, tuple[str, ...]]:
    """Images of both splits, and the classes in the order of their ids.

    Raises:
        DataError: a list that is not what it should be (file and line), or one that lists an image that is not there.
    """
    try:
        found = _READERS[layout.kind](folder, layout)
        if layout.classes:
            classes = _lines(folder / layout.classes)
        else:
            numbers = {label: number for rows in found.values() for _, label, number in rows}
            classes = sorted(numbers, key=lambda label: (numbers[label], label))
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError(
            f"{folder}: {layout.says} cannot be read ({type(error).__name__}: {one_line(error)})."
        ) from error
    _all_there(folder, found)
    return found, tuple(classes)


def _all_there(folder: Path, found: Found) -> None:
    listed = [path for rows in found.values() for path, _, _ in rows]
    if odd := next((path for path in listed if ".." in path.parts or not path.is_relative_to(folder)), None):
        raise DataError(f"{folder}: a list names {shown(str(odd))}, which is not below it.")  # it may come from anybody
    present = {
        place: {inside.name for inside in place.iterdir()} for place in {p.parent for p in listed} if place.is_dir()
    }
    missing = [path for path in listed if path.name not in present.get(path.parent, ())]
    if missing:
        names = ", ".join(shown(path.relative_to(folder).as_posix()) for path in missing[:5])
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise DataError(f"{folder}: {len(missing)} of {len(listed)} listed images are not there: {names}{more}.")


def _reader(kind: str) -> Callable[[Callable[[Path, Layout], Found]], Callable[[Path, Layout], Found]]:
    def enter(reader: Callable[[Path, Layout], Found]) -> Callable[[Path, Layout], Found]:
        _READERS[kind] = reader
        return reader

    return enter


@_reader("lists")
def _lists(folder: Path, layout: Layout) -> Found:
    """A list a split, a line an image."""
    return {
        "train": [row for name in layout.train for row in _rows(folder, name, layout)],
        "test": [row for name in layout.test for row in _rows(folder, name, layout)],
    }


@_reader("flags")
def _flags(folder: Path, layout: Layout) -> Found:
    """One list of all images, one that says which are training images (1) and test images (0), by key."""
    flags = dict(line.split() for line in _lines(folder / layout.flags))
    found: dict[Split, list[Row]] = {"train": [], "test": []}
    for match in _matches(folder / layout.listing, layout.line):
        split: Split = "train" if flags[match["key"]] == "1" else "test"
        found[split].append((folder / layout.image.format(**match.groupdict()), match["label"], 0))
    return found


@_reader("coop")
def _coop(folder: Path, layout: Layout) -> Found:
    """`split_zhou_*.json` of CoOp: three lists of path, number and name. Its validation images are training images."""
    given: dict[str, list[tuple[str, int, str]]] = json.loads((folder / layout.needs[0]).read_text(encoding="utf-8"))

    def rows(*names: str) -> list[Row]:
        listed = [row for name in names for row in given[name]]
        return [(folder / layout.at / str(path), str(label), int(number)) for path, number, label in listed]

    return {"train": rows("train", "val"), "test": rows("test")}


@_reader("cars")
def _cars(folder: Path, layout: Layout) -> Found:
    """The devkit of Stanford Cars: MATLAB files without code in them."""
    names = [str(name) for name in _matlab(folder / "devkit" / "cars_meta.mat")["class_names"]]

    def rows(file: str, images: str) -> list[Row]:
        listed = np.atleast_1d(_matlab(folder / file)["annotations"])
        return [
            (folder / images / str(one["fname"]), names[int(one["class"]) - 1], int(one["class"])) for one in listed
        ]

    return {
        "train": rows("devkit/cars_train_annos.mat", "cars_train"),
        "test": rows("cars_test_annos_withlabels.mat", "cars_test"),
    }


@_reader("flowers")
def _flowers(folder: Path, layout: Layout) -> Found:
    """Numbers of images and labels in MATLAB files; the names are those that torchvision knows."""
    from torchvision.datasets import Flowers102  # noqa: PLC0415

    names: list[str] = getattr(Flowers102, "classes", [])  # since 0.20
    labels, parts = _matlab(folder / "imagelabels.mat")["labels"], _matlab(folder / "setid.mat")

    def rows(*fields: str) -> list[Row]:
        found = list[Row]()
        for image in (int(one) for field in fields for one in np.atleast_1d(parts[field])):
            number = int(labels[image - 1])
            name = names[number - 1] if names else str(number)
            found.append((folder / "jpg" / f"image_{image:05d}.jpg", name, number))
        return found

    return {"train": rows("trnid", "valid"), "test": rows("tstid")}


@_reader("tiny")
def _tiny(folder: Path, layout: Layout) -> Found:
    """Tiny-ImageNet: a folder a class for training, a table for the validation images, which are the test images."""
    classes = sorted(_lines(folder / "wnids.txt"))
    train = [(path, wnid, 0) for wnid in classes for path in sorted((folder / "train" / wnid / "images").iterdir())]
    listed = [line.split() for line in _lines(folder / "val" / "val_annotations.txt")]
    return {"train": train, "test": [(folder / "val" / "images" / name, wnid, 0) for name, wnid, *_ in listed]}


@_reader("sessions")
def _sessions(folder: Path, layout: Layout) -> Found:
    """CORe50: `s1/o1/*.png`; whole sessions are held out."""
    found: dict[Split, list[Row]] = {"train": [], "test": []}
    for session in sorted(folder.glob("s[0-9]*"), key=lambda path: int(path.name[1:])):
        split: Split = "test" if session.name in layout.test else "train"
        for thing in sorted(session.glob("o[0-9]*"), key=lambda path: int(path.name[1:])):
            found[split] += [(path, thing.name, int(thing.name[1:])) for path in sorted(thing.glob("*.png"))]
    return found


def _rows(folder: Path, name: str, layout: Layout) -> Iterator[Row]:
    for match in _matches(folder / name, layout.line):
        groups = match.groupdict()
        yield folder / layout.image.format(**groups), groups["label"], int(groups.get("id") or 0)


def _matches(path: Path, pattern: str) -> Iterator[re.Match[str]]:
    for number, line in enumerate(_lines(path), start=1):
        match = re.fullmatch(pattern, line)
        if match is None:
            raise ValueError(f"{path.name}, line {number}: {shown(line)}")
        yield match


def _lines(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _matlab(path: Path) -> Any:
    from scipy.io import loadmat  # noqa: PLC0415

    return loadmat(path, squeeze_me=True)
