"""Encoded images: decoded by PIL only when asked for, whatever their mode, size and orientation."""

import logging
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from hashlib import sha256
from io import BytesIO
from typing import final

import numpy as np
from jaxtyping import Bool, Int64, UInt8
from PIL import Image, ImageOps, TiffImagePlugin

from cillab.core.errors import DataError, one_line
from cillab.core.pixels import Preprocessing
from cillab.streams.leaks import copies, said_of
from cillab.streams.sources import SPLITS, Shelf, Size, Source, Split

log = logging.getLogger(__name__)

_ORIENTATION = 0x0112  # EXIF tag; from 5 on the picture lies on its side
_SLENDER = 8  # of a picture longer than 8 x its width only the middle is resized: the rest is cropped anyway
_LISTED = 100  # broken images that one message names before it counts the rest
_FRAMED = ("GIF", "WEBP", "TIFF", "PNG")  # not MPO: the second picture of a telephone's photo is a thumbnail
_CHUNK = 256  # encoded images in memory at once while decoding


@final
class EncodedSource(Source):
    """JPEG, PNG, WebP... in files or tables, of any mode and size."""

    families = None

    def __init__(self, name: str, class_names: tuple[str, ...], splits: Mapping[Split, Shelf]) -> None:
        self.name, self.class_names = name, class_names
        self._splits = dict(splits)
        self._said = False  # that an image holds more than the one picture that is used

    @property
    def leaked(self) -> int | None:
        """Test images that are byte for byte a training image: counted when first asked for, then named."""
        return self._copies

    @cached_property
    def _copies(self) -> int:
        found = copies(self._splits["train"], self._splits["test"])
        if found:
            self.notes = (*self.notes, said_of(found, len(self.labels("test"))))
            log.warning("%s: %s", self.name, self.notes[-1])
        return len(found)

    def labels(self, split: Split) -> Int64[np.ndarray, " image"]:
        """The class of every image of `split`."""
        return self._splits[split].labels

    def ids(self, split: Split, index: Int64[np.ndarray, " image"]) -> tuple[str, ...]:
        """Stable names of images."""
        return tuple(map(self._splits[split].id, index.tolist()))

    def common_size(self, split: Split, index: Int64[np.ndarray, " image"]) -> Size | None:
        """The size that all these images share, from their headers; stops at the first that differs."""
        shelf, common = self._splits[split], None
        for row in np.sort(index).tolist():  # in the order of the disk
            try:
                size = header_size(shelf.read(row), shelf.where(row))
            except DataError as error:
                raise self._with_others(error) from error
            if size != (common or size):
                return None
            common = size
        return common

    def images(
        self, split: Split, index: Int64[np.ndarray, " image"], canvas: Preprocessing | None = None
    ) -> UInt8[np.ndarray, "image 3 height width"]:
        """Pixels at their own size, or on the canvas of a backbone; decoded on all cores."""
        shelf, rows, drawn = self._splits[split], index.tolist(), list[np.ndarray]()
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # PIL decodes and resizes outside the interpreter lock
            for start in range(0, len(rows), _CHUNK):
                try:
                    encoded = [(shelf.read(row), shelf.where(row)) for row in rows[start : start + _CHUNK]]
                    chunk = list(pool.map(partial(_pixels, canvas=canvas), encoded))
                except DataError as error:
                    raise self._with_others(error) from error
                drawn += [pixels for pixels, _ in chunk]
                self._say_frames([where for (_, where), (_, more) in zip(encoded, chunk, strict=True) if more])
        shapes = {image.shape for image in drawn}
        if len(shapes) > 1:
            sizes = sorted(f"{width} x {height}" for height, width, _ in shapes)
            raise DataError(f"{self.name} has images of several sizes ({', '.join(sizes[:3])}, ...) and no canvas.")
        if not drawn:
            side = 0 if canvas is None else canvas.resize
            return np.zeros((0, 3, side, side), dtype=np.uint8)
        return np.stack(drawn).transpose(0, 3, 1, 2)

    def survey(self) -> tuple[list[str], list[str]]:
        """One pass over all images: what is wrong with those that cannot be decoded, and which are twins.

        A twin is a test image that is byte for byte a training image; its id.
        """
        broken, twins, known = list[str](), list[str](), set[bytes]()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for split in SPLITS:
                shelf = self._splits[split]
                for start in range(0, len(shelf.labels), _CHUNK):
                    rows = range(start, min(start + _CHUNK, len(shelf.labels)))
                    found = [_read(shelf, row) for row in rows]
                    broken += [said for said in pool.map(_complaint, found) if said is not None]
                    digests = [b"" if isinstance(one, str) else sha256(one[0]).digest() for one in found]
                    if split == "test":
                        twins += [shelf.id(row) for row, digest in zip(rows, digests, strict=True) if digest in known]
                    else:
                        known.update(filter(None, digests))
        return broken, twins

    def shelf(self, split: Split) -> Shelf:
        """The encoded images of a split."""
        return self._splits[split]

    def _with_others(self, first: DataError) -> DataError:
        """`first`, or one error that names every unreadable image: nobody mends a data set one run at a time."""
        found, _ = self.survey()
        if len(found) < 2:
            return first
        more = f" And {len(found) - _LISTED} more." if len(found) > _LISTED else ""
        return DataError(f"{len(found)} images of {self.name} are broken: {' '.join(found[:_LISTED])}{more}")

    def _say_frames(self, places: Sequence[str]) -> None:
        if places and not self._said:
            self._said = True
            log.warning("%s holds several frames or pages. Of such images the first is used.", places[0])

    def digest(self, split: Split, index: Int64[np.ndarray, " image"]) -> str:
        """SHA-256 over the SHA-256 of every encoded image: no image can lend bytes to its neighbour."""
        shelf, state = self._splits[split], sha256()
        for row in index.tolist():
            state.update(sha256(shelf.read(row)).digest())
        return state.hexdigest()

    def masks(
        self,
        split: Split,
        index: Int64[np.ndarray, " image"],
        canvas: Preprocessing | None = None,
    ) -> Bool[np.ndarray, "image height width"] | None:
        """Photographs come without masks."""
        return None


def _pixels(encoded: tuple[bytes, str], canvas: Preprocessing | None) -> tuple[np.ndarray, bool]:
    """Pixels of an image, and whether it holds more pictures than this one."""
    image, more = _decoded(*encoded)
    return np.asarray(image if canvas is None else to_canvas(image, canvas)), more


def _read(shelf: Shelf, row: int) -> tuple[bytes, str] | str:
    """An image and its place, or what is wrong with it."""
    try:
        return shelf.read(row), shelf.where(row)
    except DataError as error:
        return str(error)


def _complaint(encoded: tuple[bytes, str] | str) -> str | None:
    if isinstance(encoded, str):
        return encoded
    try:
        decode(*encoded)
    except DataError as error:
        return str(error)
    return None


def header_size(encoded: bytes, where: str) -> Size:
    """Height and width of an image as it stands upright, without decoding its pixels."""
    try:
        with Image.open(BytesIO(encoded)) as image:
            width, height = image.size
            if isinstance(image, TiffImagePlugin.TiffImageFile):  # newer releases of PIL turn its size themselves
                width, height = image.tag_v2[TiffImagePlugin.IMAGEWIDTH], image.tag_v2[TiffImagePlugin.IMAGELENGTH]
            lying = width != height and image.getexif().get(_ORIENTATION, 1) >= 5
    except Exception as error:
        raise _unreadable(where, error) from error
    return (width, height) if lying else (height, width)


def decode(encoded: bytes, where: str, side: int | None = None) -> Image.Image:
    """An RGB image, turned upright as its EXIF data say. Transparent parts show white; `where` names it in errors.

    With `side`, a JPEG may come smaller, with both sides still at least so long: for thumbnails of large photographs.

    Of several frames or pages it is the first. Grey values of 16 or 32 bits, and floating-point ones, are scaled to
    8 bits (see `_eight_bits`).

    Raises:
        DataError: not an image, damaged, cut short, or grey values on no known scale.
    """
    return _decoded(encoded, where, side)[0]


def _decoded(encoded: bytes, where: str, side: int | None = None) -> tuple[Image.Image, bool]:
    try:
        with Image.open(BytesIO(encoded)) as image:
            if side is not None:
                image.draft(None, (side, side))  # pyright: ignore[reportArgumentType] - the mode as it is
            grey = _eight_bits(image) if image.mode[0] in "IF" else image
            return _as_rgb(ImageOps.exif_transpose(grey)), _has_more(image)  # in this order: looking on moves on
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    except Exception as error:  # PIL's plugins raise all sorts of things on damaged files
        raise _unreadable(where, error) from error


def _has_more(image: Image.Image) -> bool:
    try:
        return image.format in _FRAMED and getattr(image, "is_animated", False)
    except Exception:  # damage behind the first picture, which is all that is used
        return True


def _unreadable(where: str, error: Exception) -> DataError:
    reason = "no image format that PIL knows" if isinstance(error, Image.UnidentifiedImageError) else one_line(error)
    return DataError(f"{where} cannot be read as an image ({reason or type(error).__name__}).")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits (0..65535), or of a TIFF file in 32-bit numbers, which say nothing of their scale.

    Those are floating-point values in 0..1, or any in 0..255 or 0..65535; the smallest scale that holds the largest
    value is taken. PIL's own conversion would clip: floating-point values in 0..1 would all be black.
    """
    values = np.asarray(image).astype(np.float64)
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    scales = (1, 255, 65535) if image.mode == "F" else (255, 65535)
    if image.mode.startswith("I;16") or image.format != "TIFF":
        scales = scales[-1:] if image.mode != "F" else scales
    scale = next((scale for scale in scales if high <= scale), None)
    if scale is None or not low >= 0:  # also what is not a number
        understood = ", ".join(f"0..{scale}" for scale in scales)
        raise DataError(f"grey values from {low:g} to {high:g} are on no known scale ({understood}).")
    grey = Image.fromarray((values * (255 / scale)).round().astype(np.uint8))
    if (orientation := image.getexif().get(_ORIENTATION, 1)) != 1:
        grey.getexif()[_ORIENTATION] = orientation
    return grey


def _as_rgb(image: Image.Image) -> Image.Image:
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")  # what lies under a transparent pixel is arbitrary, so it must not be shown
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def to_canvas(image: Image.Image, canvas: Preprocessing) -> Image.Image:
    """The square that a backbone's evaluation crop is cut from: `resize` x `resize` pixels.

    Preset "whole" squeezes the image into it; the others resize its shortest side and keep the middle, as
    torchvision's Resize and CenterCrop do. Masks (mode "1") keep hard edges.
    """
    side = canvas.resize
    smooth = Image.Resampling.BICUBIC if canvas.interpolation == "bicubic" else Image.Resampling.BILINEAR
    how = Image.Resampling.NEAREST if image.mode == "1" else smooth
    if canvas.preset == "whole":
        return image.resize((side, side), how)
    width, height = image.size
    reach = _SLENDER * min(width, height)
    if max(width, height) > reach:
        image = _middle(image, min(width, reach), min(height, reach))
        width, height = image.size
    short = min(width, height)
    image = image.resize((int(side * width / short), int(side * height / short)), how)
    return _middle(image, side, side)


def _middle(image: Image.Image, width: int, height: int) -> Image.Image:
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))
