"""Writing so that a reader never sees half a file, and reading so that a damaged file is named. No pickle anywhere."""

import errno
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import safetensors.numpy
from pydantic import ValidationError

from cillab.core.errors import InvalidRequestError, RunError, one_line, shown
from cillab.core.params import complaint
from cillab.runs.schema import SCHEMA_VERSION, Record
from cillab.runs.sums import opened_record, sealed_arrays, sealed_record

_HALF = re.compile(r"\\u[dD][89a-fA-F]")  # of a pair of surrogates
_LONGEST = 20  # digits: a 64-bit integer has no more


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


def write_page(path: Path, text: str) -> None:
    """A page that a command makes; what somebody wrote below a line `<!-- remarks -->` stays."""
    mark = "<!-- remarks -->"
    if path.is_file():
        _, found, remarks = path.read_text(encoding="utf-8").partition(mark)
        text += f"\n{mark}{remarks}" if found else ""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)


def csv_beside(page: Path, head: Sequence[str]) -> Path:
    """Where a command puts its rows beside `page`. Nobody named that file, so one that begins otherwise is not ours.

    Raises:
        InvalidRequestError: it is the page itself, or a file whose first columns are not called `head`.
    """
    rows = page.with_suffix(".csv")
    if rows == page:
        raise InvalidRequestError(f"A CSV stands beside the page: name {page.with_suffix('.md')}, not {page}.")
    if rows.is_file() and not rows.read_bytes().startswith(",".join(head).encode()):
        raise InvalidRequestError(f"{rows}, where the rows of {page} would stand, is another file: name another page.")
    return rows


def write_json(path: Path, value: Any) -> None:
    """Write plain JSON (see `schema.plain`), as a whole or not at all."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_record(path: Path, values: Mapping[str, Any]) -> None:
    """Write one of the typed files with its checksum."""
    write_json(path, sealed_record(values))


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, str] | None = None) -> None:
    """Write named arrays as safetensors, as a whole or not at all."""
    ready = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    content = sealed_arrays(safetensors.numpy.save(ready, metadata=dict(meta) if meta else None))
    write_atomically(path, lambda file: file.write(content))


def damaged(path: Path, why: str) -> RunError:
    """The error for a file that cannot be used, with its name and what is wrong with it."""
    return RunError(f"{path} is damaged: {why}.")


def parse_json(content: bytes | str) -> Any:
    """JSON as a run may hold it.

    Raises:
        ValueError: not JSON, or something that no writer of runs writes: NaN, numbers beyond 64 bits, nesting without
            end. UnicodeDecodeError is one.
    """
    text = content.decode() if isinstance(content, bytes) else content
    try:
        values = json.loads(text, parse_constant=_no_number, parse_float=_finite, parse_int=_integer)
        if _HALF.search(text):
            json.dumps(values, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("it holds half a character") from None
    return values


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number in JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is beyond what 64 bits hold")
    return number


def _integer(text: str) -> int:
    number = int(text) if len(text) <= _LONGEST else 2**64
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"{text[:40]} is beyond what 64 bits hold")
    return number


def read_json(path: Path) -> Any:
    """Parse a JSON file, and verify its checksum if it has one.

    Raises:
        RunError: it is missing, is not JSON, or does not agree with its checksum.
    """
    try:
        values = parse_json(path.read_bytes())
    except FileNotFoundError as error:
        raise RunError(f"{path} is missing.") from error
    except IsADirectoryError as error:
        raise damaged(path, "it is a folder") from error
    except ValueError as error:
        whole = isinstance(error, json.JSONDecodeError | UnicodeDecodeError)
        raise damaged(path, "it does not hold whole JSON" if whole else one_line(error)) from error
    if not isinstance(values, dict):
        return values
    values, agrees = opened_record(values)
    if not agrees:
        raise damaged(path, "it does not agree with its checksum; if you meant to edit it, delete its crc32")
    return values


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
        raise damaged(path, f"schema_version = {shown(given)} is no version")
    if int(major) > int(SCHEMA_VERSION.split(".", maxsplit=1)[0]):
        writer = values.get("cillab_version") or "a newer version"
        raise RunError(
            f"{path} was written by cillab {writer} with schema {given}; this cillab reads up to {SCHEMA_VERSION}."
        )
