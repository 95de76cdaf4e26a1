"""What a launcher of several processes (`accelerate launch`, `torchrun`) has said: read without loading torch."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path


def expected() -> int:
    """Processes that the launcher has announced; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def is_first() -> bool:
    """Is this the process that writes and speaks?"""
    return expected() == 1 or int(os.environ["RANK"]) == 0


def aside() -> Path:
    """A folder for what a process writes that is not the first one; it goes when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="cillab-process-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder / "run"
