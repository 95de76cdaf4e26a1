"""The probe: the fixed set of images that is looked at after every step, with small pictures of them in one file."""

import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32, Int64, UInt8
from PIL import Image, features

from cillab.core.errors import DataError, RunError
from cillab.runs.files import damaged, read_json, write_atomically, write_record

TILE = 32  # pixels
_LARGE_TILE, _FEW = 64, 500  # pixels of a tile where there are at most so many: a large image and its maps can be seen
_COLUMNS = 32  # tiles per row of the atlas
_LARGEST = 1024  # pixels of a tile, tiles of a row
_WEBP_LIMIT = 16383  # pixels, the largest side of a WebP image


@dataclass(frozen=True, eq=False)
class Probe:
    """Probe points: index i means the same image in every array of every snapshot."""

    ids: tuple[str | int, ...]
    labels: Int64[np.ndarray, " image"]
    tasks: Int32[np.ndarray, " image"]  # task in which the class of the image comes
    sprites: Path | None  # the atlas: tiles row by row
    tile: int = TILE
    columns: int = _COLUMNS
    sum: int | None = None  # CRC-32 of the atlas

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def atlas(self) -> UInt8[np.ndarray, "height width 3"]:
        """The decoded atlas.

        Raises:
            RunError: there is none, or it cannot be decoded.
        """
        if self.sprites is None:
            raise RunError("This run has no sprites of its probe images.")
        wide, high = self.columns * self.tile, -(-len(self) // self.columns) * self.tile
        try:
            content = self.sprites.read_bytes()
            if self.sum is not None and zlib.crc32(content) != self.sum:
                raise damaged(self.sprites, "it does not agree with its checksum in probe.json")
            with Image.open(io.BytesIO(content), formats=("WEBP", "PNG")) as image:
                if image.size != (wide, high):  # before anything is decoded: a small file may say a billion pixels
                    raise damaged(self.sprites, f"it has {image.size} pixels, {len(self)} tiles take {(wide, high)}")
                return np.asarray(image.convert("RGB"))
        except RunError:
            raise
        except FileNotFoundError as error:
            raise RunError(f"{self.sprites} is missing.") from error
        except Exception as error:  # PIL's plugins raise all sorts of things on damaged files
            raise damaged(self.sprites, "it cannot be decoded") from error

    def sprite(self, index: int) -> UInt8[np.ndarray, "tile tile 3"]:
        """The small picture of one probe image."""
        top, left = (self.tile * n for n in divmod(int(index), self.columns))
        return self.atlas[top : top + self.tile, left : left + self.tile]


def draw_atlas(images: Sequence[np.ndarray] | np.ndarray, tile: int = TILE) -> Image.Image:
    """Tiles row by row. Images are uint8, [3, h, w] or [h, w, 3], each squeezed to `tile` x `tile` pixels.

    Raises:
        DataError: an image of another shape or type.
    """
    rows = max(1, -(-len(images) // _COLUMNS))
    atlas = Image.new("RGB", (_COLUMNS * tile, rows * tile))
    for index, image in enumerate(images):
        pixels = np.asarray(image)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or 3 not in (pixels.shape[0], pixels.shape[2]):
            raise DataError(f"Sprite {index} is {pixels.dtype} {list(pixels.shape)}, not uint8 [3, height, width].")
        if pixels.shape[2] != 3:
            pixels = pixels.transpose(1, 2, 0)
        small = Image.fromarray(np.ascontiguousarray(pixels)).resize((tile, tile), Image.Resampling.BICUBIC)
        atlas.paste(small, (index % _COLUMNS * tile, index // _COLUMNS * tile))
    return atlas


def write_probe(
    folder: Path,
    ids: Sequence[str | int],
    labels: Sequence[int] | np.ndarray,
    tasks: Sequence[int] | np.ndarray,
    sprites: Sequence[np.ndarray] | np.ndarray | None = None,
) -> None:
    """Write `probe.json` and the atlas; the index comes last, so that it never points at a missing atlas.

    Raises:
        DataError: lengths that differ, or ids that repeat.
    """
    lengths = [len(ids), len(labels), len(tasks)] + ([len(sprites)] if sprites is not None else [])
    if len(set(lengths)) > 1:
        raise DataError(
            f"The probe has {lengths[0]} ids, {lengths[1]} labels, {lengths[2]} tasks, {lengths[3:]} sprites."
        )
    if len(set(ids)) != len(ids):
        raise DataError("The ids of the probe images repeat.")
    plain_ids = [int(i) if isinstance(i, int | np.integer) else str(i) for i in ids]
    index: dict[str, Any] = {
        "ids": plain_ids,
        "labels": [int(label) for label in labels],
        "tasks": [int(task) for task in tasks],
    }
    if sprites is not None and len(sprites):
        from PIL import WebPImagePlugin  # noqa: F401, PLC0415 - else saving registers every plugin there is: 0.1 s

        tile = _LARGE_TILE if len(sprites) <= _FEW else TILE
        atlas, buffer = draw_atlas(sprites, tile), io.BytesIO()
        webp = features.check("webp") and max(atlas.size) <= _WEBP_LIMIT
        name = "sprites.webp" if webp else "sprites.png"
        atlas.save(buffer, "WEBP", quality=88, method=2) if webp else atlas.save(buffer, "PNG", optimize=True)
        write_atomically(folder / name, lambda file: file.write(buffer.getvalue()))
        index["sprites"] = {"file": name, "tile": tile, "columns": _COLUMNS, "crc32": zlib.crc32(buffer.getvalue())}
    write_record(folder / "probe.json", index)


def has_probe(run: Path) -> bool:
    """Was the probe of this run folder written? Its index comes last."""
    return (run / "probe" / "probe.json").is_file()


def read_probe(folder: Path) -> Probe:
    """Read the index; the atlas is decoded only when looked at.

    Raises:
        RunError: missing or damaged.
    """
    path = folder / "probe.json"
    values = read_json(path)
    try:
        sprites = values.get("sprites") or {}
        probe = Probe(
            tuple(values["ids"]),
            np.array(values["labels"], np.int64),
            np.array(values["tasks"], np.int32),
            folder / Path(sprites["file"]).name if sprites else None,  # no way out of the folder
            int(sprites.get("tile", TILE)),
            int(sprites.get("columns", _COLUMNS)),
            sprites.get("crc32"),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise damaged(path, "it does not hold ids, labels and tasks") from error
    if not len(probe.ids) == len(probe.labels) == len(probe.tasks):
        raise damaged(path, "ids, labels and tasks differ in length")
    if not (
        1 <= probe.tile <= _LARGEST and 1 <= probe.columns <= _LARGEST and probe.labels.ndim == probe.tasks.ndim == 1
    ):
        raise damaged(path, "its tiles or lists are none that a probe has")
    if not all(isinstance(one, int | str) for one in probe.ids) or (probe.tasks < 0).any():
        raise damaged(path, "it holds ids or tasks of another kind")
    return probe
