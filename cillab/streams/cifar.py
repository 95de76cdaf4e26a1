"""CIFAR archives: downloaded once, checked, unpacked into plain arrays. The binary ones: nothing is ever unpickled."""

import hashlib
import os
import shutil
import tarfile
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cillab.core.errors import DataError, HubError, one_line
from cillab.streams.arrays import ArraySource, Images
from cillab.streams.sources import SPLITS, Options, Split

_PIXELS = 3 * 32 * 32  # red, green and blue planes, behind the labels of a record


@dataclass(frozen=True)
class Archive:
    """A file on a server, the check sum it must have, and what is in it."""

    url: str
    md5: str
    name: str = "cifar100"
    labels: int = 2  # bytes before the pixels; the last one counts (coarse, then fine label)
    members: tuple[tuple[str, ...], tuple[str, ...]] = (("train.bin",), ("test.bin",))
    names: str = "fine_label_names.txt"

    @property
    def file_name(self) -> str:
        """The last part of the address."""
        return self.url.rpartition("/")[2]


CIFAR100 = Archive("https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8")
CIFAR10 = Archive(
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "c32a1d4ab5d03f1284b67883e8d87530",
    name="cifar10",
    labels=1,
    members=(tuple(f"data_batch_{number}.bin" for number in range(1, 6)), ("test_batch.bin",)),
    names="batches.meta.txt",
)
ARCHIVES = {archive.name: archive for archive in (CIFAR100, CIFAR10)}


def open_cifar(archive: Archive, options: Options, folder: Path | None = None) -> ArraySource:
    """The images of an archive that lies in `folder`, or is downloaded into the cache.

    Raises:
        HubError, DataError: as `fetch`.
    """
    unpacked = options.cache / f"{archive.name}-{archive.md5[:8]}"
    if not unpacked.is_dir():
        _unpack(fetch(archive, folder or options.cache / "downloads"), unpacked, archive)
    names = tuple((unpacked / "names.txt").read_text(encoding="utf-8").split())
    return ArraySource(archive.name, names, {split: _split(unpacked, split) for split in SPLITS})


def _split(folder: Path, split: Split) -> Images:
    images = np.load(folder / f"{split}-images.npy", mmap_mode="r", allow_pickle=False)
    labels = np.load(folder / f"{split}-labels.npy", allow_pickle=False)
    return Images(images, labels, tuple(f"{split}/{row}" for row in range(len(labels))))


def fetch(archive: Archive, folder: Path) -> Path:
    """The archive in `folder`, downloaded if it is not there. What is there was checked, or is now.

    Raises:
        HubError: not reachable; says where the file can be put by hand.
        DataError: the file is not the right one.
    """
    path = folder / archive.file_name
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            with urllib.request.urlopen(archive.url, timeout=30) as answer, unfinished.open("wb") as file:
                shutil.copyfileobj(answer, file)
            _check(unfinished, archive)
            unfinished.replace(path)
        except OSError as error:  # URLError and time-outs are OSErrors
            raise HubError(
                f"{archive.url} could not be downloaded ({one_line(error)}). Put {archive.file_name} "
                f"(md5 {archive.md5}) at {path}, or use local images: parquet:DIR or folder:DIR."
            ) from error
        finally:
            unfinished.unlink(missing_ok=True)
        return path
    _check(path, archive)
    return path


def _check(path: Path, archive: Archive) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != archive.md5:
        raise DataError(f"{path}: md5 {found}, expected {archive.md5}. It is damaged or another file: delete it.")


def _unpack(path: Path, target: Path, archive: Archive) -> None:
    """Plain arrays in a folder that has its name only when it is complete."""
    try:
        with tarfile.open(path, "r:gz") as tar:
            members = {Path(member.name).name: member for member in tar.getmembers() if member.isfile()}
            content = {}
            for wanted in (*archive.members[0], *archive.members[1], archive.names):
                file = tar.extractfile(members[wanted]) if wanted in members else None
                if file is None:
                    raise DataError(f"{path} holds no {wanted}.")
                content[wanted] = file.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{path} cannot be unpacked ({one_line(error)}).") from error
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f"{target.name}.part-") as unfinished:
        folder = Path(unfinished) / "complete"
        folder.mkdir()
        (folder / "names.txt").write_bytes(content[archive.names])
        long, last = archive.labels + _PIXELS, archive.labels - 1
        for split, members in zip(SPLITS, archive.members, strict=True):
            for member in members:
                if len(content[member]) % long:
                    raise DataError(f"{path}: {member} is not a whole number of {long}-byte records.")
            records = np.frombuffer(b"".join(content[member] for member in members), dtype=np.uint8).reshape(-1, long)
            images = records[:, archive.labels :].reshape(-1, 3, 32, 32)
            np.save(folder / f"{split}-images.npy", images, allow_pickle=False)
            np.save(folder / f"{split}-labels.npy", records[:, last].astype(np.int64), allow_pickle=False)
        if not target.is_dir():  # another process may have been faster
            folder.replace(target)
