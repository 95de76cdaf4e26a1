"""`cifar100`: downloaded once, checked, unpacked into plain arrays. The binary archive: nothing is ever unpickled."""

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
from cillab.core.registry import sources
from cillab.streams.arrays import ArraySource, Images
from cillab.streams.sources import SPLITS, Options, Source, Split

_RECORD = 2 + 3 * 32 * 32  # coarse label, fine label, then red, green and blue planes


@dataclass(frozen=True)
class Archive:
    """A file on a server and the check sum it must have."""

    url: str
    md5: str

    @property
    def file_name(self) -> str:
        """The last part of the address."""
        return self.url.rpartition("/")[2]


CIFAR100 = Archive("https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8")


@sources.register("cifar100")
def open_cifar100(where: str, options: Options, archive: Archive = CIFAR100) -> Source:
    """CIFAR-100: 50,000 + 10,000 images of 32 x 32 px in 100 classes; 162 MB, downloaded once."""
    unpacked = options.cache / f"cifar100-{archive.md5[:8]}"
    if not unpacked.is_dir():
        _unpack(fetch(archive, options.cache / "downloads"), unpacked)
    names = tuple((unpacked / "names.txt").read_text(encoding="utf-8").split())
    return ArraySource("cifar100", names, {split: _split(unpacked, split) for split in SPLITS})


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


def _unpack(path: Path, target: Path) -> None:
    """Plain arrays in a folder that has its name only when it is complete."""
    try:
        with tarfile.open(path, "r:gz") as tar:
            members = {Path(member.name).name: member for member in tar.getmembers() if member.isfile()}
            content = {}
            for wanted in ("train.bin", "test.bin", "fine_label_names.txt"):
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
        (folder / "names.txt").write_bytes(content["fine_label_names.txt"])
        for split in SPLITS:
            records = np.frombuffer(content[f"{split}.bin"], dtype=np.uint8)
            if len(records) % _RECORD:
                raise DataError(f"{path}: {split}.bin is not a whole number of {_RECORD}-byte records.")
            records = records.reshape(-1, _RECORD)
            np.save(folder / f"{split}-images.npy", records[:, 2:].reshape(-1, 3, 32, 32), allow_pickle=False)
            np.save(folder / f"{split}-labels.npy", records[:, 1].astype(np.int64), allow_pickle=False)
        if not target.is_dir():  # another process may have been faster
            folder.replace(target)
