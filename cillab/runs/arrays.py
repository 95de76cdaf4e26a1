"""A safetensors file as read-only arrays: each is read, and its checksum verified, when it is asked for."""

import math
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from weakref import WeakValueDictionary

import numpy as np

from cillab.core.errors import RunError
from cillab.runs.files import damaged, parse_json
from cillab.runs.sums import JSON_KEY, header_sum

_DTYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32, "I16": np.int16,
    "I8": np.int8, "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip
_BYTES = {"BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1} | {name: np.dtype(kind).itemsize for name, kind in _DTYPES.items()}
_HEADER_LIMIT = 100 * 2**20  # bytes; the limit of the safetensors format


class _Entry(NamedTuple):
    dtype: str
    shape: tuple[int, ...]
    begin: int  # in the file
    size: int  # bytes


class Arrays:
    """Arrays by name. A file that is replaced or overwritten while it is open is noticed at the next array."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: WeakValueDictionary[str, np.ndarray] = WeakValueDictionary()  # as long as somebody holds them
        with self._opened() as file:
            self._read_header(file)

    def __getitem__(self, name: str) -> np.ndarray:
        known = self._known.get(name)
        if known is not None:
            return known
        with self._opened() as file:
            if _stamp(file) != self._stamp:
                self._read_header(file)
                self._known.clear()
            entry = self._entries[name]
            if entry.dtype not in _DTYPES:
                raise RunError(f"{self.path} holds numbers of type {entry.dtype}. Valid: {', '.join(_DTYPES)}.")
            content = self._read(file, name, entry)
        array = np.frombuffer(content or b"\0" * 8, _DTYPES[entry.dtype], math.prod(entry.shape)).reshape(entry.shape)
        self._known[name] = array
        return array

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the arrays, sorted."""
        return tuple(sorted(self._entries))

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of an array, from the header alone."""
        return self._entries[name].shape

    def kind(self, name: str) -> str:
        """f, i, u or b: what numbers an array holds, from the header alone."""
        return self._entries[name].dtype.replace("BF", "F")[0].lower()

    def verify(self) -> None:
        """Read everything once.

        Raises:
            RunError: an array does not agree with its checksum.
        """
        with self._opened() as file:
            for name, entry in self._entries.items():
                self._read(file, name, entry)

    def _opened(self) -> BinaryIO:
        try:
            return self.path.open("rb")
        except FileNotFoundError as error:
            raise RunError(f"{self.path} is missing.") from error
        except IsADirectoryError as error:
            raise damaged(self.path, "it is a folder") from error

    def _read(self, file: BinaryIO, name: str, entry: _Entry) -> bytes:
        file.seek(entry.begin)
        content = file.read(entry.size)
        if len(content) != entry.size:
            raise damaged(self.path, f"{name} should have {entry.size} bytes, the file ends after {len(content)}")
        if self._sums is not None and self._sums.get(name) != zlib.crc32(content):
            raise damaged(self.path, f"{name} does not agree with its checksum")
        return content

    def _read_header(self, file: BinaryIO) -> None:
        path, size = self.path, os.fstat(file.fileno()).st_size
        if size < 8:
            raise damaged(path, f"it has {size} bytes")
        length = int.from_bytes(file.read(8), "little")
        if length > min(_HEADER_LIMIT, size - 8):
            raise damaged(path, f"its header should have {length} bytes, the file has {size}")
        try:
            header = parse_json(file.read(length))
            meta = header.pop("__metadata__", {})
            self.meta: dict[str, str] = {str(name): str(text) for name, text in meta.items() if name != JSON_KEY}
            self._sums: Mapping[str, Any] | None = dict(parse_json(meta[JSON_KEY])) if JSON_KEY in meta else None
            self._entries = {name: self._entry(entry, 8 + length, size) for name, entry in header.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise damaged(path, "its header cannot be read") from error
        if self._sums is not None and self._sums.get("") != header_sum(header, self.meta):
            raise damaged(path, "its header does not agree with its checksum")
        self._stamp = _stamp(file)

    def _entry(self, entry: Mapping[str, Any], start: int, size: int) -> _Entry:
        begin, end = entry["data_offsets"]
        if entry["dtype"] not in _BYTES:
            raise RunError(f"{self.path} holds numbers of type {entry['dtype']}. Valid: {', '.join(_DTYPES)}.")
        shape = tuple(int(n) for n in entry["shape"])
        wanted = math.prod(shape) * _BYTES[entry["dtype"]]
        if begin < 0 or min(shape, default=0) < 0 or end - begin != wanted or start + end > size:
            raise damaged(self.path, f"its header asks for {start + end} bytes, the file has {size}")
        return _Entry(entry["dtype"], shape, start + begin, end - begin)


def _stamp(file: BinaryIO) -> tuple[int, int, int]:
    stat = os.fstat(file.fileno())
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
