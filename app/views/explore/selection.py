"""The selected probe images, as text for the URL: one bit per image, at its position in the probe.

Positions in the probe never change. A place among the images that a filter leaves is another thing and is never kept:
the same selection means the same images whatever the filters say.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from app.shell import state
from app.shell.store import Opened


def mark(view: Opened) -> str:
    """Tells probes apart, so that a selection is not read for other images."""
    return hashlib.blake2b("|".join(map(str, view.run.probe.ids)).encode(), digest_size=3).hexdigest()


def encode(view: Opened, positions: Iterable[int]) -> str | None:
    """`mark.bits`, or None for no selection. 2,000 images take at most 340 characters."""
    bits = np.zeros(len(view.run.probe), dtype=bool)
    chosen = [at for at in positions if 0 <= at < len(bits)]
    if not chosen:
        return None
    bits[chosen] = True
    packed = np.packbits(bits).tobytes().rstrip(b"\0")
    return f"{mark(view)}.{base64.urlsafe_b64encode(packed).decode().rstrip('=')}"


def decode(view: Opened, text: str | None) -> list[int]:
    """Positions, ascending; empty for a selection of another probe or text that is none."""
    name, _, body = (text or "").partition(".")
    if not body or name != mark(view):
        return []
    try:
        packed = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
    except (binascii.Error, ValueError):
        return []
    bits = np.unpackbits(np.frombuffer(packed, dtype=np.uint8))[: len(view.run.probe)]
    return np.flatnonzero(bits).tolist()


def current(view: Opened) -> list[int]:
    """What is selected now, by the URL."""
    return decode(view, state.get("sel"))


def keep(view: Opened, positions: Sequence[int]) -> None:
    """Put a selection into the URL."""
    state.put("sel", encode(view, positions))
