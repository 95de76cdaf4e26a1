"""Decoding: every mode and orientation against PIL's own conversions, canvases against torchvision."""

import struct

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import v2 as T

from cillab.core.errors import DataError
from cillab.core.pixels import Preprocessing
from cillab.streams.pictures import decode, header_size, to_canvas

from .worlds import encoded, picture

CANVAS = Preprocessing(20, 0.8, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # a canvas of 25 px


@pytest.mark.parametrize(
    ("mode", "kind"), [("RGB", "PNG"), ("L", "PNG"), ("1", "PNG"), ("CMYK", "TIFF"), ("L", "JPEG")]
)
def test_opaque_modes_are_pils_rgb(mode: str, kind: str) -> None:
    image = picture(1, mode=mode)
    data = encoded(image, kind)
    expected = np.asarray(image.convert("RGB"))
    ours = np.asarray(decode(data, "x"))
    assert np.abs(ours.astype(int) - expected).max() <= (0 if kind != "JPEG" else 90)  # JPEG of noise is far off itself
    assert header_size(data, "x") == (10, 12)


def test_palette_shows_its_colours() -> None:
    image = picture(2).quantize(16)
    assert np.array_equal(decode(encoded(image), "x"), image.convert("RGB"))


def test_transparent_parts_are_white_and_opaque_ones_untouched() -> None:
    image = picture(3, mode="RGBA")
    alpha = np.zeros((10, 12), dtype=np.uint8)
    alpha[:, 6:] = 255
    image.putalpha(Image.fromarray(alpha))
    ours = np.asarray(decode(encoded(image), "x"))
    assert (ours[:, :6] == 255).all()
    assert np.array_equal(ours[:, 6:], np.asarray(picture(3))[:, 6:])


def test_a_transparent_palette_entry_is_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    ours = np.asarray(decode(encoded(image, transparency=0), "x"))
    assert ours.tolist() == [[[255, 255, 255], [200, 100, 50]]]


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    ramp = Image.fromarray(np.array([[0, 257 * 100, 65535]], dtype=np.uint16))
    assert np.asarray(decode(encoded(ramp), "x"))[0, :, 0].tolist() == [0, 100, 255]


@pytest.mark.parametrize(
    ("values", "grey"),
    [
        (np.array([[0, 0.5, 1]], np.float32), [0, 128, 255]),  # the scale of scikit-image and of tifffile's users
        (np.array([[0, 100, 255]], np.float32), [0, 100, 255]),
        (np.array([[0, 25700, 65535]], np.float32), [0, 100, 255]),
        (np.array([[0, 100, 255]], np.int32), [0, 100, 255]),
        (np.array([[0, 25700, 65535]], np.int32), [0, 100, 255]),
        (np.array([[0, 25700, 65535]], np.uint16), [0, 100, 255]),
        (np.array([[0, 100, 255]], np.uint16), [0, 0, 1]),  # 16 bits say their scale
    ],
)
def test_grey_of_more_than_eight_bits_in_a_tiff(values: np.ndarray, grey: list[int]) -> None:
    assert np.asarray(decode(encoded(Image.fromarray(values), "TIFF"), "x"))[0].tolist() == [[v] * 3 for v in grey]


def test_big_endian_sixteen_bits() -> None:
    little = encoded(Image.fromarray(np.array([[0, 25700, 65535]], np.uint16)), "TIFF")
    assert little[:2] == b"II"
    big = tiff(b"MM", np.array([[0, 25700, 65535]], ">u2"))
    assert np.asarray(decode(big, "x"))[0, :, 0].tolist() == [0, 100, 255]


def tiff(order: bytes, values: np.ndarray) -> bytes:
    """One uncompressed strip of 16-bit grey, written by hand: PIL writes no big-endian file."""
    mark, (height, width) = ">" if order == b"MM" else "<", values.shape
    tags = [(256, width), (257, height), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1), (278, height)]
    tags.append((279, values.nbytes))
    body = values.tobytes()
    entries = b"".join(struct.pack(f"{mark}HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    start = struct.pack(f"{mark}HI", 42, 8 + len(body))
    return order + start + body + struct.pack(f"{mark}H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize("values", [[[-1.0, 1.0]], [[0.0, 1e6]], [[0.0, float("nan")]]])
def test_grey_values_on_no_known_scale_are_refused(values: list[list[float]]) -> None:
    with pytest.raises(DataError, match=r"scan.tif: grey values from .* no known scale \(0..1, 0..255, 0..65535\)"):
        decode(encoded(Image.fromarray(np.array(values, np.float32)), "TIFF"), "scan.tif")


@pytest.mark.parametrize(
    ("kind", "values"),
    [("TIFF", np.float32([[0, 1]])), ("TIFF", np.uint16([[0, 65535]])), ("PNG", np.uint16([[0, 65535]]))],
)
def test_scaled_grey_is_turned_upright_too(kind: str, values: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.fromarray(values), kind, exif=exif)
    assert np.asarray(decode(data, "x"))[:, :, 0].tolist() == [[0], [255]]
    assert header_size(data, "x") == (2, 1)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG"])
def test_of_several_frames_the_first_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "white")]
    shown = np.asarray(decode(encoded(frames[0], kind, save_all=True, append_images=frames[1:]), "x")).astype(int)
    assert np.abs(shown - [255, 0, 0]).max() <= 2


def test_cmyk_jpeg_is_not_inverted() -> None:
    white = Image.new("CMYK", (8, 8), (0, 0, 0, 0))
    assert np.asarray(decode(encoded(white, "JPEG"), "x")).min() >= 250


def test_exif_orientation_turns_the_picture_and_its_header_size() -> None:
    image, exif = picture(4, 12, 10), Image.Exif()
    exif[0x0112] = 6  # stored lying on its side: to be turned clockwise
    data = encoded(image, exif=exif)
    assert np.array_equal(decode(data, "x"), image.transpose(Image.Transpose.ROTATE_270))
    assert header_size(data, "x") == (12, 10)


@pytest.mark.parametrize("damage", [b"", b"not an image", encoded(picture(5, 64, 64))[:900]])
def test_a_broken_image_is_named(damage: bytes) -> None:
    with pytest.raises(DataError, match=r"photos/cat/7.png cannot be read as an image"):
        decode(damage, "photos/cat/7.png")


@pytest.mark.parametrize(("width", "height"), [(25, 25), (40, 31), (31, 40), (1, 1), (2, 90), (300, 200)])
def test_canvas_is_torchvisions_resize_and_crop(width: int, height: int) -> None:
    image = picture(6, width, height)
    how = T.InterpolationMode.BICUBIC
    ours = np.asarray(to_canvas(image, CANVAS)).astype(int)
    expected = np.asarray(T.Compose([T.Resize(25, how), T.CenterCrop(25)])(image)).astype(int)
    assert ours.shape == expected.shape == (25, 25, 3)
    slender = max(width, height) > 8 * min(width, height)  # cut before: the middle moves by a fraction of a pixel
    assert np.abs(ours - expected).max() <= (24 if slender else 0)


def test_whole_squeezes() -> None:
    image = picture(7, 30, 50)
    assert np.array_equal(to_canvas(image, CANVAS.under("whole")), image.resize((20, 20), Image.Resampling.BICUBIC))


def test_a_very_long_image_needs_no_very_large_memory() -> None:
    assert to_canvas(Image.new("RGB", (60000, 1)), CANVAS.under("tag", 512)).size == (640, 640)
