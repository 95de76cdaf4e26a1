"""Data sets of one's own: folders below the declared root that somebody registered by name."""

import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from app.shell import safety
from app.shell.store import runs_folder
from cillab.core.errors import CillabError, DataError, InvalidRequestError
from cillab.runs.files import write_json

_FILE = ".folders.json"  # in the runs folder: what the form offers outlives the server
_LISTED, COUNTED = 300, 20_000  # folders offered; images counted before a count says "more than"


@dataclass(frozen=True)
class Described:
    """What a folder is read as, in the words of the library's own reader."""

    classes: int
    images: int  # `COUNTED` + 1 where there are more than `COUNTED`
    test: str | None  # the folder with the test images; None = a fifth of each class is held out
    passed: str  # what lies there and is no image; empty = nothing


def candidates() -> list[str]:
    """Folders below the root that hold folders of images, as paths relative to it, two levels deep."""
    root = safety.data_root()
    if root is None or not root.is_dir():
        return []
    found = [path for path in _below(root) if _looks_like_data(path)]
    for folder in _below(root):
        found += [path for path in _below(folder) if path.parent not in found and _looks_like_data(path, deep=True)]
    if _looks_like_data(root):
        found.insert(0, root)
    return [path.relative_to(root).as_posix() for path in found[:_LISTED]]


def describe(name: str) -> Described:
    """What a candidate is read as. No image is decoded, and those with usual endings are not even opened.

    Raises:
        InvalidRequestError: it is no folder below the root, holds a link out of it, or no class with an image.
    """
    from cillab.streams.layout import PassedOver, brief, class_names_in, layout_of, legible, walk  # noqa: PLC0415

    path, passed = _inside(name), PassedOver()
    try:
        layout = layout_of(path, name, passed)
        classes = class_names_in(layout.train, name)
    except DataError as error:
        raise InvalidRequestError(str(error)) from error
    places = [place / one for place in (layout.train, layout.test) if place is not None for one in classes]
    found = (image for place in places if place.is_dir() for image in walk(place, passed))
    images = sum(1 for _ in islice(found, COUNTED + 1))
    if not images:
        raise InvalidRequestError(f"{brief(name)} holds no image. Wanted: {legible(path.name)}/CLASS/IMAGE.")
    return Described(len(classes), images, None if layout.test is None else legible(layout.test.name), str(passed))


def registered() -> dict[str, Path]:
    """Names and places; what has gone, or lies outside the root of today, is left out."""
    try:
        names = json.loads((runs_folder() / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    found = {}
    for name in names if isinstance(names, list) else []:
        try:
            found[str(name)] = _place(str(name))
        except CillabError:
            continue
    return found


def register(name: str) -> None:
    """Offer a folder on the Train page.

    Raises:
        ReadOnlyError, InvalidRequestError: not here, or not such a folder.
    """
    safety.must_be_writable()
    describe(name)
    write_json(runs_folder() / _FILE, sorted({*registered(), name}))


def forget(name: str) -> None:
    """Offer it no more; the folder stays as it is."""
    safety.must_be_writable()
    write_json(runs_folder() / _FILE, sorted({*registered()} - {name}))


def _inside(name: str) -> Path:
    """The folder, once every link in it is known to stay below the root."""
    path, root = _place(name), safety.data_root()
    assert root is not None
    safety.must_stay_inside(root, path)
    return path


def _place(name: str) -> Path:
    root = safety.data_root()
    if root is None:
        raise InvalidRequestError("No data folder is declared (CILLAB_DATA).")
    return safety.inside(root, name)


def _below(folder: Path) -> list[Path]:
    """Sub-folders that are no links, and whose names a list can hold."""
    from cillab.streams.layout import folders_in, legible  # noqa: PLC0415 - torch comes with its package

    try:
        return [p for p in folders_in(folder) if not p.is_symlink() and legible(p.name) == p.name]
    except DataError:
        return []


def _looks_like_data(path: Path, deep: bool = False) -> bool:
    """Whether the library's reader finds classes with images straight in them; below wrappers only if `deep`."""
    from cillab.streams.layout import PassedOver, class_names_in, is_image, layout_of  # noqa: PLC0415

    try:
        layout = layout_of(path, path.name, PassedOver())
        names = class_names_in(layout.train, path.name) if deep or layout.root == path else ()
        return any(is_image(item) for name in names[:20] for item in (layout.train / name).iterdir() if item.is_file())
    except (DataError, OSError):
        return False
