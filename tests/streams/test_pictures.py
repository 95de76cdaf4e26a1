"""Decoding: every mode and orientation against PIL's own conversions, canvases against torchvision."""

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
