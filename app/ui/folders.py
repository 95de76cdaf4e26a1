"""Data sets of one's own: folders below the declared root that somebody registered by name."""

import json
import os
from pathlib import Path

from app.ui import safety
from app.ui.store import runs_folder
from cillab.core.errors import CillabError, InvalidRequestError
from cillab.runs.files import write_json

_FILE = ".folders.json"  # in the runs folder: what the form offers outlives the server
_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".avif"))
_LISTED, _COUNTED = 300, 20_000  # folders offered; files looked at before a count says "more than"


def candidates() -> list[str]:
    """Folders below the root that hold folders of images, as paths relative to it, two levels deep."""
    root = safety.data_root()
    if root is None or not root.is_dir():
        return []
    found = [path for path in _below(root) if _looks_like_data(path)]
    for folder in _below(root):
        found += [path for path in _below(folder) if path.parent not in found and _looks_like_data(path)]
    if _looks_like_data(root):
        found.insert(0, root)
    return [path.relative_to(root).as_posix() for path in found[:_LISTED]]


def describe(name: str) -> dict[str, int | bool]:
    """Classes and images of a candidate, without opening any image.

    Raises:
        InvalidRequestError: it is no folder below the root, or holds no class with an image.
    """
    path = _inside(name)
    divided = (path / "train").is_dir()
    base = path / "train" if divided else path
    classes = [folder for folder in _below(base) if _first_image(folder)]
    if not classes:
        raise InvalidRequestError(f"{name!r} holds no class folders with images. Wanted: {path.name}/CLASS/IMAGE.")
    images = 0
    for folder in _below(path):
        for _, _, files in os.walk(folder):
            images += sum(Path(file).suffix.lower() in _SUFFIXES for file in files)
            if images > _COUNTED:
                break
    return {"classes": len(classes), "images": images, "divided": divided}


def registered() -> dict[str, Path]:
    """Names and places; what has gone, or lies outside the root of today, is left out."""
    try:
        names = json.loads((runs_folder() / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    found = {}
    for name in names if isinstance(names, list) else []:
        try:
            found[str(name)] = _inside(str(name))
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
    root = safety.data_root()
    if root is None:
        raise InvalidRequestError("No data folder is declared (CILLAB_DATA).")
    return safety.inside(root, name)


def _below(folder: Path) -> list[Path]:
    """Sub-folders that are no links out of the tree."""
    try:
        return sorted(p for p in folder.iterdir() if p.is_dir() and not p.is_symlink() and not p.name.startswith("."))
    except OSError:
        return []


def _looks_like_data(path: Path) -> bool:
    base = path / "train" if (path / "train").is_dir() else path
    return any(_first_image(folder) for folder in _below(base)[:20])


def _first_image(folder: Path) -> bool:
    try:
        return any(item.suffix.lower() in _SUFFIXES for item in folder.iterdir())
    except OSError:
        return False
