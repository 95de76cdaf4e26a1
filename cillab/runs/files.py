"""Writing so that a reader never sees half a file, and reading so that a damaged file is named. No pickle anywhere."""

import errno
import json
import math
import mmap
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import safetensors.numpy
from pydantic import ValidationError

from cillab.core.errors import RunError
from cillab.core.params import complaint
from cillab.runs.schema import SCHEMA_VERSION, Record

_DTYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32, "I16": np.int16,
    "I8": np.int8, "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip
_HEADER_LIMIT = 100 * 2**20  # bytes; the limit of the safetensors format


@contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """Turn a full disk or a quota into one clear line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(f"No space left on the disk for {path}; what was finished before is intact.") from error
        raise


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write beside `path`, flush to the disk, rename: readers see the old file or the new one, never a part.

    Raises:
        RunError: the disk is full. Nothing half-written is left behind.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with full_disk_named(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with beside.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except BaseException:
            with suppress(OSError):
                beside.unlink()
            raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut, where the system can (Windows cannot open a folder)."""
    with suppress(OSError, AttributeError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, as a whole or not at all."""
    write_atomically(path, lambda file: file.write(text.encode()))


def write_json(path: Path, value: Any) -> None:
    """Write plain JSON (see `schema.plain`), as a whole or not at all."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, str] | None = None) -> None:
    """Write named arrays as safetensors, as a whole or not at all."""
    ready = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    content = safetensors.numpy.save(ready, metadata=dict(meta) if meta else None)
    write_atomically(path, lambda file: file.write(content))


def damaged(path: Path, why: str) -> RunError:
    """The error for a file that cannot be used, with its name and what is wrong with it."""
    return RunError(f"{path} is damaged: {why}.")


def read_json(path: Path) -> Any:
    """Parse a JSON file.

    Raises:
        RunError: it is missing or not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise RunError(f"{path} is missing.") from error
    except (ValueError, UnicodeDecodeError) as error:
        raise damaged(path, "it does not hold whole JSON") from error


R = TypeVar("R", bound=Record)


def read_record(path: Path, record: type[R]) -> R:
    """Read one of the typed files.

    Raises:
        RunError: missing, damaged, or written by a newer major version.
    """
    values = read_json(path)
    if not isinstance(values, dict):
        raise damaged(path, f"it holds a {type(values).__name__}, not an object")
    check_version(path, values)
    try:
        return record.model_validate(values)
    except ValidationError as error:
        raise damaged(path, complaint(error).rstrip(".")) from error


def check_version(path: Path, values: Mapping[str, Any]) -> None:
    """Refuse a file of a newer major version, naming the version that wrote it."""
    given = str(values.get("schema_version", SCHEMA_VERSION))
    major = given.split(".", maxsplit=1)[0]
    if not major.isdigit():
        raise damaged(path, f"schema_version = {given!r} is no version")
    if int(major) > int(SCHEMA_VERSION.split(".", maxsplit=1)[0]):
        writer = values.get("cillab_version") or "a newer version"
        raise RunError(
            f"{path} was written by cillab {writer} with schema {given}; this cillab reads up to {SCHEMA_VERSION}."
        )


class Arrays:
    """A safetensors file as read-only arrays on a memory map: only what is looked at is read from the disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size < 8:
                    raise damaged(path, f"it has {size} bytes")
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError as error:
            raise RunError(f"{path} is missing.") from error
        length = int.from_bytes(self._map[:8], "little")
        self._start = 8 + length
        if length > min(_HEADER_LIMIT, size - 8):
            raise damaged(path, f"its header should have {length} bytes, the file has {size}")
        try:
            header = json.loads(self._map[8 : self._start])
            self.meta: dict[str, str] = header.pop("__metadata__", {})
            self._entries = {name: self._entry(path, entry, size) for name, entry in header.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise damaged(path, "its header cannot be read") from error

    def _entry(self, path: Path, entry: Mapping[str, Any], size: int) -> tuple[np.dtype, tuple[int, ...], int]:
        begin, end = entry["data_offsets"]
        if entry["dtype"] not in _DTYPES:
            raise RunError(f"{path} holds numbers of type {entry['dtype']}. Valid: {', '.join(_DTYPES)}.")
        dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), tuple(int(n) for n in entry["shape"])
        if begin < 0 or end - begin != math.prod(shape) * dtype.itemsize or self._start + end > size:
            raise damaged(path, f"its header asks for {self._start + end} bytes, the file has {size}")
        return dtype, shape, begin

    def __getitem__(self, name: str) -> np.ndarray:
        dtype, shape, begin = self._entries[name]
        if not math.prod(shape):
            empty = np.empty(shape, dtype)
            empty.flags.writeable = False
            return empty
        return np.frombuffer(self._map, dtype, math.prod(shape), self._start + begin).reshape(shape)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the arrays, sorted."""
        return tuple(sorted(self._entries))

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of an array, from the header alone."""
        return self._entries[name][1]
