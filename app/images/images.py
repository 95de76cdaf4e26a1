"""Pictures as data URLs: the sprite atlas, single sprites, saliency laid over an image."""

import base64
import io
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from app.shell.html import safe
from app.shell.store import Opened

_HEAT = np.array(  # dark to bright with rising lightness, so that it also reads in grey
    [[20, 11, 53], [92, 18, 110], [171, 51, 92], [229, 92, 48], [251, 165, 10], [252, 255, 164]], dtype=np.float64
)


def data_url(image: Image.Image) -> str:
    """An image inside the page. JPEG: it is made ten times as fast as WebP, and a page holds dozens."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def file_url(path: Path) -> str:
    """A picture file inside the page, as it is; read once, until the file changes."""
    stat = path.stat()
    return _file_url(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=16)  # about 0.5 MB each
def _file_url(path: Path, changed: int, size: int) -> str:
    kind = {".webp": "webp", ".png": "png", ".jpg": "jpeg"}[path.suffix]
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def heat_css() -> str:
    """The colour scale as a CSS gradient."""
    return "linear-gradient(90deg," + ",".join(f"rgb({int(r)} {int(g)} {int(b)})" for r, g, b in _HEAT) + ")"


@cache
def _table() -> np.ndarray:
    """The scale at 256 values."""
    at = np.linspace(0, len(_HEAT) - 1, 256)
    low = np.minimum(at.astype(int), len(_HEAT) - 2)
    share = (at - low)[:, None]
    return (_HEAT[low] * (1 - share) + _HEAT[low + 1] * share).astype(np.float32)


def heat(values: np.ndarray) -> np.ndarray:
    """Values in [0, 1] as colours in [0, 255], [..., 3]."""
    return _table()[np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)]


def overlay(image: np.ndarray, values: np.ndarray, size: int = 192) -> Image.Image:
    """A saliency map in [0, 1] over a greyed image: nothing stays grey, what speaks for the class glows."""
    picture = Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)
    grey = np.asarray(picture.convert("L"), dtype=np.float32)[..., None] * 0.72 + 40
    smooth = Image.fromarray(values.astype(np.float32), mode="F").resize((size, size), Image.Resampling.BICUBIC)
    strength = np.clip(np.asarray(smooth, dtype=np.float32), 0, 1)
    alpha = (0.92 * strength**0.8)[..., None]
    return Image.fromarray((grey * (1 - alpha) + heat(strength) * alpha).clip(0, 255).astype(np.uint8))


def overlay_url(image: np.ndarray, values: np.ndarray, size: int) -> str:
    """The same inside the page. Remembered: a map is shown again whenever its page runs, to whoever looks."""
    values = np.ascontiguousarray(values, dtype=np.float32)
    return _overlay_url(image.tobytes(), image.shape, values.tobytes(), values.shape, size)


@lru_cache(maxsize=2000)  # about 10 kB each
def _overlay_url(image: bytes, shape: tuple, values: bytes, grid: tuple, size: int) -> str:
    pixels, cells = np.frombuffer(image, np.uint8).reshape(shape), np.frombuffer(values, np.float32).reshape(grid)
    return data_url(overlay(pixels, cells, size))


def plain(image: np.ndarray, size: int = 192) -> Image.Image:
    """An image enlarged."""
    return Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)


def has_sprites(view: Opened) -> bool:
    """Can the probe images be shown?"""
    path = view.run.probe.sprites
    return path is not None and path.is_file()


def tile(at: int, columns: int, rows: int, label: str = "") -> str:
    """Piece `at` of a small atlas that a parent holds as `--atlas`; `label` names it for those who cannot see."""
    row, column = divmod(at, columns)
    x, y = 100 * column / max(columns - 1, 1), 100 * row / max(rows - 1, 1)
    place = f"background-size:{100 * columns}% {100 * rows}%;background-position:{x:.2f}% {y:.2f}%"
    name = f' role="img" aria-label="{safe(label)}" title="{safe(label)}"' if label else ""
    return f'<span{name} style="background-image:var(--atlas);{place}"></span>'


def crop_atlas(view: Opened, indices: list[int], columns: int) -> str:
    """A small atlas of the given sprites only, as a data URL."""
    probe = view.run.probe
    rows = max(1, -(-len(indices) // columns))
    sheet = Image.new("RGB", (columns * probe.tile, rows * probe.tile))
    for at, index in enumerate(indices):
        row, column = divmod(at, columns)
        sheet.paste(Image.fromarray(np.ascontiguousarray(probe.sprite(index))), (column * probe.tile, row * probe.tile))
    return data_url(sheet)
