"""What a backbone's name says about it, before any weight is read or downloaded."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Card:
    """Enough to refuse an impossible combination, and to warn of a download."""

    tag: str  # full and unambiguous
    kind: Literal["vit", "convnet"]
    clip: bool
    needs_download: bool  # the weights are neither in the package nor in the local cache of the hub
