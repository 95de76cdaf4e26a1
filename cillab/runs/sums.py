"""Checksums inside the files of a run: whoever reads one knows that it is what was written.

They find accidents (a disk, a broken copy, an edit by hand), not forgeries. Files without one, from older versions or
other programs, are read unverified. CRC-32 as in zlib, in every language's standard library:

- a JSON record: member `crc32`, over the record without it, keys sorted, no spaces, non-ASCII escaped;
- a row of metrics.jsonl: member `crc`, the last one, over the bytes of the line before `, "crc"`;
- a safetensors file: metadata `crc32`, a JSON object: for each array's name the sum of its bytes, and for "" the sum of
  the header without this entry, keys sorted, no spaces.
"""

import json
import re
import zlib
from collections.abc import Mapping
from typing import Any

JSON_KEY = "crc32"
_ROW_END = re.compile(rb', "crc": (\d{1,10})\}$')


def _text(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def sealed_record(values: Mapping[str, Any]) -> dict[str, Any]:
    """The record with its checksum."""
    body = {name: value for name, value in values.items() if name != JSON_KEY}
    return {**body, JSON_KEY: zlib.crc32(_text(body))}


def opened_record(values: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """The record without its checksum, and whether it agrees with it (or has none)."""
    body = {name: value for name, value in values.items() if name != JSON_KEY}
    return body, JSON_KEY not in values or values[JSON_KEY] == zlib.crc32(_text(body))


def sealed_row(line: str) -> str:
    """A row of metrics.jsonl, `{...}`, with its checksum."""
    body = line[:-1]
    return f'{body}, "crc": {zlib.crc32(body.encode())}}}'


def row_agrees(line: bytes) -> bool:
    """Does a row agree with its checksum, or have none?"""
    found = _ROW_END.search(line)
    return found is None or int(found[1]) == zlib.crc32(line[: found.start()])


def sealed_arrays(content: bytes) -> bytes:
    """A safetensors file with a checksum of its header and of each array in it."""
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), memoryview(content)[8 + length :]
    meta = dict(header.pop("__metadata__", {}))
    meta.pop(JSON_KEY, None)
    sums = {name: zlib.crc32(data[slice(*entry["data_offsets"])]) for name, entry in header.items()}
    sums[""] = header_sum(header, meta)
    named = {**dict(sorted(meta.items())), JSON_KEY: json.dumps(sums)}  # sorted: safetensors writes them in any order
    text = json.dumps({"__metadata__": named, **header}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # arrays begin at a multiple of 8 bytes
    return b"".join((len(text).to_bytes(8, "little"), text, data))


def header_sum(entries: Mapping[str, Any], meta: Mapping[str, str]) -> int:
    """The checksum of what a header says, whatever the order in which it says it."""
    return zlib.crc32(_text([{name: meta[name] for name in meta if name != JSON_KEY}, dict(entries)]))
