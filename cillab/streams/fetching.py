"""Getting a named data set: from archives put there by hand, else by a download, else one message says what to do."""

import shutil
import tarfile
from collections.abc import Iterator
from hashlib import file_digest, md5
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from torchvision.datasets.utils import download_url

from cillab.core.errors import CillabError, DataError, HubError, one_line
from cillab.protocol.named import Archive, DataSet, Place, find, instructions

_PACKED = (".zip", ".tar", ".tar.gz", ".tgz")


def fetch_set(entry: DataSet, home: Path) -> Place:
    """The set below `home`, fetched if it is not there yet.

    An archive that lies in `home` already is checked and unpacked without any network. A download goes through a folder
    of its own, so that what was interrupted never looks like a data set.

    Raises:
        HubError: nothing can be reached; says which files go where.
        DataError: a file with another checksum, or one that cannot be unpacked.
    """
    if place := find(entry, (home,)):
        return place
    if _unpack_given(entry, home) and (place := find(entry, (home,))):
        return place
    reasons, unfinished = list[str](), home / ".part"
    for way in _ways(entry):
        try:
            unfinished.mkdir(parents=True, exist_ok=True)
            _download(way, entry, unfinished)
        except CillabError:
            raise
        except Exception as error:  # connection, name, refused access: each library has its own classes
            reasons.append(f"{_source(way)}: {one_line(error)[:160] or type(error).__name__}")
            continue
        for path in sorted(unfinished.iterdir()):
            path.replace(home / path.name)
        unfinished.rmdir()
        if place := find(entry, (home,)):
            return place
        raise DataError(
            f"{entry.name}: what {_source(way)} holds has none of the known layouts. {instructions(entry, (home,))}"
        )
    _forget(unfinished)
    why = f" could not be downloaded ({'; '.join(reasons)})" if reasons else " cannot be downloaded by a program"
    raise HubError(f"{entry.name}{why}. {instructions(entry, (home,))}")


def checksums(entry: DataSet, home: Path) -> Iterator[tuple[Path, str, str]]:
    """Archives of the set that lie in `home`: path, MD5, and the MD5 it must have ("" = none published)."""
    for name, wanted in _known_files(entry):
        path = home / name
        if path.is_file():
            with path.open("rb") as file:
                yield path, file_digest(file, lambda: md5(usedforsecurity=False)).hexdigest(), wanted


def _known_files(entry: DataSet) -> list[tuple[str, str]]:
    return [(a.file_name, a.md5) for a in entry.archives] + [(one.file, one.md5) for one in entry.by_hand]


def _ways(entry: DataSet) -> list[tuple[Archive, ...] | str]:
    hub = [entry.hub.repo] if entry.hub else []
    return [entry.archives, *hub] if entry.archives else [*hub]


def _source(way: tuple[Archive, ...] | str) -> str:
    return f"huggingface.co/datasets/{way}" if isinstance(way, str) else way[0].url


def _download(way: tuple[Archive, ...] | str, entry: DataSet, folder: Path) -> None:
    if isinstance(way, str):
        snapshot_download(way, repo_type="dataset", local_dir=folder, allow_patterns=["*.parquet"])
        return
    for archive in way:
        download_url(archive.url, str(folder), archive.file_name, archive.md5 or None)
    for archive in way:
        _unpack(archive, folder)


def _unpack_given(entry: DataSet, home: Path) -> bool:
    """Unpack what somebody put there. Returns whether there was anything."""
    found = False
    for path, digest, wanted in checksums(entry, home):
        if wanted and digest != wanted:
            raise DataError(f"{path}: md5 {digest}, expected {wanted}. It is damaged or another file: delete it.")
        given = next((archive for archive in entry.archives if archive.file_name == path.name), None)
        _unpack(given or Archive(url=path.name), home, keep=True)
        found = True
    return found


def _unpack(archive: Archive, folder: Path, keep: bool = False) -> None:
    path = folder / archive.file_name
    if archive.packed or not path.name.endswith(_PACKED):
        return
    for each, into in ((path, folder / archive.into), *((folder / name, folder) for name in archive.inner)):
        tar = not each.name.endswith(".zip")
        safely: dict[str, Any] = {"filter": "data"} if tar and hasattr(tarfile, "data_filter") else {}
        try:
            shutil.unpack_archive(each, into, **safely)
        except (OSError, ValueError, EOFError, tarfile.TarError, shutil.ReadError, RuntimeError) as error:
            raise DataError(f"{each} cannot be unpacked ({one_line(error)}).") from error
    if not keep:
        path.unlink()


def _forget(folder: Path) -> None:
    """Remove an unfinished download if nothing came of it, and the folder around it if it is empty then."""
    for each in (folder, folder.parent):
        if each.is_dir() and not any(each.iterdir()):
            each.rmdir()
