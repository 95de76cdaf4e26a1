"""A server that others reach: what it must not do, and what it must not say."""

import os
import re

_PATH = re.compile(r"(?<![\w/.~])(?:~?/)(?:[^\s/'\"]+/)+([^\s/'\"]+)")


def read_only() -> bool:
    """Is this a public server, where nothing may be started, uploaded or registered: is `CILLAB_READONLY=1` set?"""
    return os.environ.get("CILLAB_READONLY", "").strip().lower() not in ("", "0", "false", "no")


def without_places(text: object) -> str:
    """`text`; on a public server every absolute path in it is cut to its last name, whoever wrote it."""
    return _PATH.sub(r"\1", str(text)) if read_only() else str(text)
