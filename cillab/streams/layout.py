"""How a folder of images is laid out: what is a split, what a class, what an image, and what is none of them."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from PIL import Image

try:
    from pillow_heif import register_heif_opener
except ImportError:
    READS_HEIC = False
else:
    register_heif_opener()  # from here on PIL itself opens them, wherever it is asked
    READS_HEIC = True

from cillab.core.errors import DataError, nearest, one_line, printable

TRAIN_NAMES = ("train", "training")
TEST_NAMES = ("test", "testing", "val", "valid", "validation")  # the first that holds class folders is taken
_SUFFIXES = frozenset(
    f".{suffix}" for suffix in ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm", "avif", "tga")
)  # taken as they are: a damaged file of these must be named as damaged, not passed over
_HEIC = frozenset((".heic", ".heif"))
_NOT_SNIFFED = frozenset(  # PIL opens these without being able to draw them, or takes almost any file for a TGA
    ("BUFR", "EPS", "FITS", "GRIB", "HDF5", "MPEG", "TGA", "WMF")
)
_CLUTTER = frozenset(
    (
        "__macosx",
        "__pycache__",
        "@eadir",
        "lost+found",
        "$recycle.bin",
        "system volume information",
        "thumbs.db",
        "desktop.ini",
    )
)
_TURNING = frozenset(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))))  # turn the direction of writing
_WRAPPERS = 8  # folders within folders that an archive may come in


def is_clutter(name: str) -> bool:
    """Left behind by an operating system, an archiver or a notebook; hidden."""
    return name.startswith(".") or name.lower() in _CLUTTER


def legible(name: str) -> str:
    r"""A file name that any JSON, table or terminal can hold: bytes that are not UTF-8 and controls become `\xe9`.

    Every other name, emoji and right-to-left writing included, stays as it is.
    """
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in ("Cc", "Zl", "Zp") or c in _TURNING else c
        for c in text
    )


def brief(name: str, longest: int = 60) -> str:
    """`legible`, in quotes and shortened, as a message may hold it."""
    text = printable(legible(name))
    return f"'{text if len(text) <= longest else text[: longest - 1] + '…'}'"


@dataclass
class PassedOver:
    """What lies among the images and is not read, counted by kind with one example of each."""

    counts: Counter[str] = field(default_factory=Counter[str])
    examples: dict[str, str] = field(default_factory=dict[str, str])

    def add(self, kind: str, example: Path) -> None:
        """One more of this kind."""
        self.counts[kind] += 1
        self.examples.setdefault(kind, "/".join(map(legible, example.parts[-2:])))

    def __str__(self) -> str:
        parts = [f"{number} {kind} (e.g. {brief(self.examples[kind])})" for kind, number in sorted(self.counts.items())]
        return ", ".join(parts)


class Layout(NamedTuple):
    """Where the classes are."""

    root: Path  # below wrappers: ids of images count from here
    train: Path  # holds a folder per class
    test: Path | None  # likewise; None = a fifth of the images of `train` is held out


def layout_of(root: Path, where: str, passed: PassedOver) -> Layout:
    """Find the class folders of a data set, in any of the layouts that archives come in.

    A folder called "train" or "test" (in any case) is a split if it holds folders, a class if it holds images.

    Raises:
        DataError: only one of the two splits is there, or splits without class folders.
    """
    root = _unwrapped(root)
    folders = folders_in(root)
    trains, tests = _called(folders, TRAIN_NAMES), _called(folders, TEST_NAMES)
    usable = [path for path in tests if folders_in(path)]
    divided = [path for path in trains if folders_in(path)]
    if divided and usable:
        for path in folders:
            if path not in (divided[0], usable[0]):
                passed.add("folder beside the splits" if path not in tests else "further split", path)
        return Layout(root, divided[0], usable[0])
    if divided:
        name, wanted = divided[0].name, ", ".join(f"{name}/" for name in TEST_NAMES)
        flat = f" ({tests[0].name}/ holds no class folders, so its images have no labels)" if tests else ""
        raise DataError(
            f"folder:{where} has {name}/ but none of {wanted} with class folders{flat}. "
            f"To hold out a fifth of its images, give folder:{divided[0]}; if {name!r} is a class, put its images "
            "straight into it."
        )
    if usable and not trains:
        raise DataError(
            f"folder:{where} has {usable[0].name}/ but no train/ beside it. "
            f"To hold out a fifth of its images, give folder:{usable[0]}."
        )
    if trains and tests and len(folders) == len(trains) + len(tests):
        raise DataError(
            f"folder:{where}: {trains[0].name}/ and {tests[0].name}/ hold no class folders, so no image has a label. "
            f"Wanted: {trains[0].name}/CLASS/IMAGE."
        )
    return Layout(root, root, None)


def class_names_in(folder: Path, where: str) -> tuple[str, ...]:
    """Names of sub-folders in alphabetical order: class ids are positions in it, as in torchvision's ImageFolder.

    Raises:
        DataError: there are none.
    """
    names = tuple(path.name for path in folders_in(folder))
    if not names:
        loose = " Images lie straight in it, without a label." if any(map(is_image, _files_of(folder))) else ""
        raise DataError(
            f"folder:{where}: {brief(str(folder), 200)} holds no class folders.{loose} "
            f"Wanted: {legible(folder.name)}/CLASS/IMAGE."
        )
    return names


def check_known(train: Iterable[str], test: Iterable[str], layout: Layout, where: str) -> None:
    """Refuse a class that has test images only by its folder.

    Raises:
        DataError: with the first such class and the nearest class of the training images.
    """
    known = set(train)
    for name in sorted(set(test) - known):
        alike = nearest(name, known) or next((k for k in known if k.casefold() == name.casefold()), None)
        hint = f" Did you mean {brief(alike)}?" if alike else ""
        raise DataError(
            f"folder:{where}: class {brief(name)} is in {layout.test and layout.test.name}/ "
            f"but not in {layout.train.name}/.{hint}"
        )


def images_in(folder: Path, passed: PassedOver) -> list[Path]:
    """Image files below `folder`, sorted; links to folders are followed, each folder is entered once."""
    return sorted(walk(folder, passed))


def walk(folder: Path, passed: PassedOver) -> Iterator[Path]:
    """As `images_in`, one after the other, in the order in which they are come upon."""
    linked, entered = list[Path](), set[tuple[int, int]]()
    waiting = [folder]
    while waiting or linked:  # what lies here goes before what is linked, so that it keeps its own name
        place = waiting.pop() if waiting else linked.pop(0)
        status = place.stat()
        if (status.st_dev, status.st_ino) in entered:
            continue
        entered.add((status.st_dev, status.st_ino))
        for path in sorted(_listed(place)):
            if path.is_dir():
                (linked if path.is_symlink() else waiting).append(path)
            elif not path.is_file():
                passed.add("broken link" if path.is_symlink() else "special file", path)
            elif is_image(path):
                yield path
            else:
                passed.add(_kind(path), path)


def is_image(path: Path) -> bool:
    """Whether PIL draws such a file, told by its ending or, where that says nothing, by its first bytes."""
    if path.suffix.lower() in (_SUFFIXES | _HEIC if READS_HEIC else _SUFFIXES):
        return True
    try:
        with Image.open(path, formats=_sniffed()):
            return True
    except Exception:
        return False


def folders_in(folder: Path) -> list[Path]:
    """Folders straight below, links to folders included, clutter not; sorted by name."""
    return sorted((path for path in _listed(folder) if path.is_dir()), key=lambda path: path.name)


def _files_of(folder: Path) -> Iterator[Path]:
    return (path for path in _listed(folder) if path.is_file())


def _listed(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if not is_clutter(path.name)]
    except OSError as error:
        raise DataError(f"{brief(str(folder), 200)} cannot be listed ({one_line(error)}).") from error


def _unwrapped(root: Path) -> Path:
    """Below folders that hold nothing but one folder of folders, as unpacking an archive leaves them."""
    for _ in range(_WRAPPERS):
        inside = folders_in(root)
        if len(inside) != 1 or inside[0].name.lower() in TRAIN_NAMES + TEST_NAMES:
            return root
        if not folders_in(inside[0]) or any(map(is_image, _files_of(inside[0]))):
            return root
        root = inside[0]
    return root


def _called(folders: Iterable[Path], names: tuple[str, ...]) -> list[Path]:
    """Those with one of `names` in any case: in the order of `names`, the exact spelling first."""
    chosen = [path for path in folders if path.name.lower() in names]
    return sorted(chosen, key=lambda path: (names.index(path.name.lower()), path.name not in names))


@cache
def _sniffed() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in Image.ID if name not in _NOT_SNIFFED)


def _kind(path: Path) -> str:
    suffix = legible(PurePosixPath(path.name).suffix.lower())
    if suffix in _HEIC:
        return f"{suffix} that needs pip install 'cillab[heic]', or JPEG instead"
    return f"{suffix} file" if 1 < len(suffix) <= 12 else "file without an ending"
