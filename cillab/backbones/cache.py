"""Features remembered by content: an image is forwarded once per state of the model that looks at it.

A feature is found under what it depends on: the digest of the weights, of everything worn, the transform and the
precision (together a `FeatureKey`), and the digest of the image's bytes. Nothing else, so it does not matter which
batch or which learner asked first.
"""

import hashlib
import logging
import os
import uuid
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

log = logging.getLogger(__name__)

DIGEST_BYTES = 16
WORTH_A_THREAD = 2**17  # bytes of an image (209 px): hashing smaller ones, threads wait for each other
SHARD_ROWS = 2048  # rows that wait in memory before a shard is written


@dataclass(frozen=True)
class FeatureKey:
    """All that the features of an image depend on, except the image."""

    weights: str
    worn: tuple[str, ...]  # digests of the deltas, in the order in which they are worn
    transform: str
    precision: str

    @cached_property
    def digest(self) -> str:
        """A name for a folder."""
        text = "\x1f".join([self.weights, *self.worn, self.transform, self.precision])
        return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).hexdigest()


_KNOWN_IMAGES: WeakTensorKeyDictionary = WeakTensorKeyDictionary()  # of tensors that are still there: `_Rows`


@dataclass
class _Rows:
    """Digests of the images of one tensor by their row, as long as nothing is written to it."""

    version: int
    known: dict[int, bytes] = field(default_factory=dict)


def image_digests(images: UInt8[Tensor, "image 3 height width"]) -> list[bytes]:
    """Half of SHA-256 of every image's shape and bytes, so that a 2x8 image differs from a 4x4 one.

    Of the strong hashes this is the fastest where the CPU has instructions for it (any of the last years). Digests of
    the rows of a tensor are kept as long as it lives and is not written to, whatever slices they are asked for in: a
    probe asks for the same images after every task.
    """
    if (place := _place(images)) is None:
        return _hashed(images)
    rows, first = place
    missing = [at for at in range(len(images)) if first + at not in rows.known]
    if missing:
        some = images if len(missing) == len(images) else images[missing]
        rows.known.update(zip((first + at for at in missing), _hashed(some), strict=True))
    return [rows.known[first + at] for at in range(len(images))]


def taken(
    images: UInt8[Tensor, "image 3 height width"], index: Int64[Tensor, " chosen"]
) -> UInt8[Tensor, "chosen 3 height width"]:
    """`images[index]`: a copy that knows the digests of what it is a copy of, and the other way round."""
    copy, chosen = images[index], index.tolist()
    there, here = _place(images), _place(copy)
    if there is not None and here is not None:
        (rows, first), (own, _) = there, here
        own.known.update((at, rows.known[first + row]) for at, row in enumerate(chosen) if first + row in rows.known)
        rows.known.update(zip((first + row for row in chosen), image_digests(copy), strict=True))
    return copy


def _place(images: UInt8[Tensor, "image 3 height width"]) -> tuple[_Rows, int] | None:
    """What is known of the tensor whose rows these images are, and the first of them; None if they are none."""
    whole = images if images._base is None else images._base
    if images.is_inference() or not images.numel() or images.shape[1:] != whole.shape[1:]:
        return None  # tensors of inference mode do not count what is written to them
    if images.stride() != whole.stride():
        return None
    rows = _KNOWN_IMAGES.get(whole)
    if rows is None or rows.version != images._version:
        rows = _KNOWN_IMAGES[whole] = _Rows(images._version)
    first, inside = divmod(int(images.storage_offset() - whole.storage_offset()), int(whole.stride(0)))
    return None if inside else (rows, first)


def _hashed(images: UInt8[Tensor, "image 3 height width"]) -> list[bytes]:
    array = np.ascontiguousarray(images.detach().cpu().numpy())
    shaped = hashlib.sha256(repr(array.shape[1:]).encode())

    def digest(image: np.ndarray) -> bytes:
        hasher = shaped.copy()
        hasher.update(image.data)
        return hasher.digest()[:DIGEST_BYTES]

    workers = min(torch.get_num_threads(), len(array))
    if workers < 2 or array[0].nbytes < WORTH_A_THREAD:
        return [digest(image) for image in array]
    with ThreadPoolExecutor(workers) as pool:  # hashing lets go of the interpreter's lock
        parts = pool.map(lambda part: [digest(image) for image in part], np.array_split(array, workers))
        return [one for part in parts for one in part]


class TensorDigests:
    """Digests of tensors that are recomputed only when a tensor has changed.

    Torch counts in-place changes (`tensor._version`); every optimiser and `copy_` raises the count. Writing through
    `tensor.data` does not, and must not be used on what a backbone wears.
    """

    def __init__(self) -> None:
        self._known: WeakTensorKeyDictionary = WeakTensorKeyDictionary()

    def of(self, tensor: Tensor) -> bytes:
        """Digest of type, shape and bytes."""
        if tensor.is_inference():  # such tensors are not counted
            return _hash(tensor)
        state = (tensor._version, tensor.data_ptr(), tensor.shape)
        known = self._known.get(tensor)
        if known is None or known[0] != state:
            known = (state, _hash(tensor))
            self._known[tensor] = known
        return known[1]

    def of_mapping(self, tensors: Mapping[str, Tensor]) -> str:
        """Digest of names and tensors together."""
        hasher = hashlib.blake2b(digest_size=DIGEST_BYTES)
        for name, tensor in tensors.items():
            hasher.update(name.encode() + b"\x00" + self.of(tensor))
        return hasher.hexdigest()


def _hash(tensor: Tensor) -> bytes:
    hasher = hashlib.blake2b(f"{tensor.dtype}|{tuple(tensor.shape)}|".encode(), digest_size=DIGEST_BYTES)
    hasher.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return hasher.digest()


@dataclass
class _Group:
    """The features under one key: a matrix that doubles when it is full, and the row of every image."""

    features: Tensor
    rows: dict[bytes, int] = field(default_factory=dict)
    unsaved: list[bytes] = field(default_factory=list)

    @property
    def size_bytes(self) -> int:
        return self.features.numel() * self.features.element_size() + len(self.rows) * (DIGEST_BYTES + 100)

    def add(self, digests: Sequence[bytes], features: Float[Tensor, "image feature"]) -> None:
        """Enter new rows; `digests` are distinct and not yet known."""
        used, needed = len(self.rows), len(self.rows) + len(digests)
        with torch.inference_mode(False), torch.no_grad():  # a matrix born in inference mode could not be written later
            if needed > len(self.features):
                larger = torch.empty(max(needed, 2 * len(self.features)), features.shape[1], device=features.device)
                larger[:used] = self.features[:used]
                self.features = larger
            self.features[used:needed] = features
        self.rows.update(zip(digests, range(used, needed), strict=True))


class FeatureMemory:
    """Features in memory, at most `limit_bytes`, and with `folder` those of the naked backbone on disk as well.

    When memory is full, the group (one `FeatureKey`) that was not used for longest goes first. On disk are only
    features of the backbone without anything worn: every learner and every run asks for those again, while dressed
    ones belong to a moment of one run. Any number of processes may share the folder: shards have names of their own
    and appear complete or not at all; a damaged one is removed and its images are computed again.
    """

    def __init__(self, folder: Path | None = None, limit_bytes: int = 512 * 2**20) -> None:
        self.folder, self.limit_bytes = folder, limit_bytes
        self._groups: OrderedDict[str, _Group] = OrderedDict()
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._close = weakref.finalize(self, _flush, folder, self._groups)  # runs at exit at the latest

    @property
    def size_bytes(self) -> int:
        """What the features in memory take."""
        return sum(group.size_bytes for group in self._groups.values())

    def recall(
        self,
        key: FeatureKey,
        digests: Sequence[bytes],
        compute: Callable[[Int64[Tensor, " missing"]], Float[Tensor, "missing feature"]],
    ) -> Float[Tensor, "image feature"]:
        """One feature per digest, in order; `compute` is asked once for the positions of those not yet known."""
        group = self._groups.get(key.digest)
        if group is None:
            group = self._read(key)
        missing = _unknown(group, digests)
        if missing or group is None:
            fresh = compute(torch.tensor(list(missing.values()), dtype=torch.int64))
            if group is None:
                group = _Group(fresh[:0])
            if len(missing) == len(digests) and fresh.element_size() * fresh.numel() > self.limit_bytes:
                return fresh  # more than memory may ever hold
            group.add(list(missing), fresh)
            if self.folder is not None and not key.worn:
                group.unsaved.extend(missing)
        self._groups[key.digest] = group
        self._groups.move_to_end(key.digest)
        rows = torch.tensor([group.rows[d] for d in digests], dtype=torch.int64, device=group.features.device)
        found = group.features.index_select(0, rows)
        if len(group.unsaved) >= SHARD_ROWS:
            self.flush()
        self._shrink()
        return found

    def missing(self, key: FeatureKey, digests: Sequence[bytes]) -> tuple[int, ...]:
        """The positions that `recall` would ask for, were nothing read from the disk."""
        return tuple(_unknown(self._groups.get(key.digest), digests).values())

    def flush(self) -> None:
        """Write what is not on disk yet."""
        if self.folder is not None:
            _flush(self.folder, self._groups)

    def clear(self) -> None:
        """Forget everything in memory; what is on disk stays."""
        self.flush()
        self._groups.clear()

    def _shrink(self) -> None:
        while self._groups and self.size_bytes > self.limit_bytes:
            if self._groups[next(iter(self._groups))].unsaved:
                self.flush()
            self._groups.popitem(last=False)

    def _read(self, key: FeatureKey) -> _Group | None:
        """All shards of one key, or None. Damaged ones are removed."""
        if self.folder is None or key.worn:
            return None
        group: _Group | None = None
        for path in sorted((self.folder / key.digest).glob("*.safetensors")):
            try:
                digests, features = _read_shard(path)
            except (OSError, ValueError, KeyError, SafetensorError) as error:
                log.warning("Ignored the damaged feature file %s (%s); its images are computed again.", path, error)
                path.unlink(missing_ok=True)
                continue
            group = group or _Group(features[:0])
            new = {digest: row for row, digest in enumerate(digests) if digest not in group.rows}
            group.add(list(new), features[list(new.values())])
        return group


def _unknown(group: _Group | None, digests: Sequence[bytes]) -> dict[bytes, int]:
    """Digests that the group lacks, each with the first position where it stands."""
    known = group.rows if group is not None else {}
    missing: dict[bytes, int] = {}
    for position, digest in enumerate(digests):
        if digest not in known:
            missing.setdefault(digest, position)
    return missing


def _flush(folder: Path, groups: Mapping[str, _Group]) -> None:
    for name, group in groups.items():
        if group.unsaved:
            try:
                _write_shard(folder / name, group.unsaved, group.features[[group.rows[d] for d in group.unsaved]])
            except OSError as error:  # a full disk must not stop a run that only wanted to save time
                log.warning("Could not write features to %s (%s); going on without.", folder / name, error)
            group.unsaved = []


def _checksum(digests: Tensor, features: Tensor) -> str:
    return hashlib.blake2b(digests.numpy().tobytes() + features.numpy().tobytes(), digest_size=16).hexdigest()


def _write_shard(folder: Path, digests: Sequence[bytes], features: Float[Tensor, "image feature"]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    table = torch.from_numpy(np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, DIGEST_BYTES).copy())
    stored = features.detach().cpu().float().contiguous()
    name = uuid.uuid4().hex
    unfinished = folder / f"{name}.tmp"
    metadata = {"format_version": "1", "check": _checksum(table, stored)}
    try:
        save_file({"digests": table, "features": stored}, unfinished, metadata=metadata)
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
        unfinished.replace(folder / f"{name}.safetensors")
    finally:
        unfinished.unlink(missing_ok=True)


def _read_shard(path: Path) -> tuple[list[bytes], Tensor]:
    with safe_open(path, "pt") as file:
        digests, features = file.get_tensor("digests"), file.get_tensor("features")
        if (file.metadata() or {}).get("check") != _checksum(digests, features):
            raise ValueError("checksum does not match")
    return [row.tobytes() for row in digests.numpy()], features
