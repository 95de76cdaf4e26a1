"""`folder:DIR`: one's own images, a folder per class."""

from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Int64

from cillab.core.errors import DataError, one_line
from cillab.core.registry import sources
from cillab.streams.pictures import EncodedSource, Shelf
from cillab.streams.sources import Options, Source, Split, hold_out

_SUFFIXES = frozenset(
    f".{suffix}" for suffix in ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm", "avif")
)
_TEST_NAMES = ("test", "val", "valid", "validation")


@final
class FileShelf(Shelf):
    """Image files, one by one."""

    def __init__(self, root: Path, paths: list[Path], labels: Int64[np.ndarray, " image"]) -> None:
        self.labels = labels
        self._root, self._paths = root, paths

    def read(self, row: int) -> bytes:
        """The bytes of a file."""
        try:
            return self._paths[row].read_bytes()
        except OSError as error:
            raise DataError(f"{self.where(row)} cannot be read ({one_line(error)}).") from error

    def where(self, row: int) -> str:
        """The path as it was given."""
        return str(self._paths[row])

    def id(self, row: int) -> str:
        """The path inside the data set."""
        return self._paths[row].relative_to(self._root).as_posix()


@sources.register("folder:DIR")
def open_folder(where: str, options: Options) -> Source:
    """Your own images: DIR/train/CLASS/* and DIR/test/CLASS/*, or DIR/CLASS/* (then 80/20, seeded)."""
    root = Path(where).expanduser()
    if not root.is_dir():
        raise DataError(f"folder:{where}: there is no folder {str(root)!r}.")
    test = next((root / name for name in _TEST_NAMES if (root / name).is_dir()), None)
    if not (root / "train").is_dir() or test is None:
        return _one_piece(root, where, options)
    names = _classes_in(root / "train", where)
    if unknown := sorted(set(_classes_in(test, where)) - set(names)):
        raise DataError(f"folder:{where}: class {unknown[0]!r} is in {test.name}/ but not in train/.")
    folders: dict[Split, Path] = {"train": root / "train", "test": test}
    splits: dict[Split, Shelf] = {
        split: FileShelf(root, *_files_in(folder, names)) for split, folder in folders.items()
    }
    return EncodedSource(f"folder:{where}", names, splits)


def _one_piece(root: Path, where: str, options: Options) -> Source:
    names = _classes_in(root, where)
    if "train" in names:  # a forgotten test folder must not turn into a class called "train"
        raise DataError(f"folder:{where} has train/ but none of {', '.join(f'{name}/' for name in _TEST_NAMES)}.")
    paths, labels = _files_in(root, names)
    splits: dict[Split, Shelf] = {
        split: FileShelf(root, [paths[row] for row in rows], labels[rows])
        for split, rows in hold_out(labels, names, options.seed).items()
    }
    return EncodedSource(f"folder:{where}", names, splits)


def _classes_in(folder: Path, where: str) -> tuple[str, ...]:
    """Names of sub-folders in alphabetical order: class ids are positions in it, as in torchvision's ImageFolder."""
    names = tuple(sorted(item.name for item in folder.iterdir() if item.is_dir() and not item.name.startswith(".")))
    if not names:
        raise DataError(f"folder:{where}: {str(folder)!r} holds no class folders. Wanted: {folder.name}/CLASS/IMAGE.")
    return names


def _files_in(folder: Path, names: tuple[str, ...]) -> tuple[list[Path], Int64[np.ndarray, " image"]]:
    paths, labels = list[Path](), list[int]()
    for class_id, name in enumerate(names):
        found = sorted(
            path
            for path in (folder / name).rglob("*")
            if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".") and path.is_file()
        )
        paths += found
        labels += [class_id] * len(found)
    return paths, np.array(labels, dtype=np.int64)
