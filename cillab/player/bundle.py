"""The player's ES modules as one text: hosts that are handed source have no address for `import` to start from."""

import re
from functools import cache
from pathlib import Path

_HOME = Path(__file__).with_name("js")
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([\w-]+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=const |function |class )", re.MULTILINE)


def source(entry: str) -> str:
    """`entry`.js behind all it imports, each module once; only `entry` exports.

    Our modules keep to what makes this true: named imports of neighbours, no second name for anything, and no name at
    the top of two modules (a test loads every bundle).
    """
    changed = tuple(path.stat().st_mtime_ns for path in sorted(_HOME.glob("*.js")))
    return _bundled(entry, changed)


@cache
def _bundled(entry: str, changed: tuple[int, ...]) -> str:
    del changed  # part of the key: a module that was edited is read again
    modules: dict[str, str] = {}
    _collect(f"{entry}.js", modules)
    *others, last = modules.values()
    return "\n".join([*(_EXPORT.sub("", text) for text in others), last])


def _collect(name: str, modules: dict[str, str]) -> None:
    """Add a module behind those it imports."""
    text = (_HOME / name).read_text(encoding="utf-8")
    for needed in _IMPORT.findall(text):
        if needed not in modules:
            _collect(needed, modules)
    modules[name] = _IMPORT.sub("", text)
