"""Folders on this machine. The environment is read here and nowhere else; everybody else is handed a path."""

import os
from pathlib import Path


def feature_dir() -> Path | None:
    """Where runs share the features of naked backbones: `$CILLAB_FEATURES`; not set, every run computes its own."""
    given = os.environ.get("CILLAB_FEATURES", "").strip()
    return Path(given).expanduser() if given else None


def data_dir() -> Path | None:
    """Where a person keeps data sets, a folder each, called by their names: `$CILLAB_DATA`."""
    given = os.environ.get("CILLAB_DATA", "").strip()
    return Path(given).expanduser() if given else None


def cache_dir() -> Path:
    """Where downloads and things that can be made again are kept: `$CILLAB_CACHE`, or `~/.cache/cillab`.

    Nothing is created: whoever writes makes the folder.
    """
    given = os.environ.get("CILLAB_CACHE", "").strip()
    return Path(given).expanduser() if given else Path.home() / ".cache" / "cillab"
