"""The scenarios, one file each. A file that is put here is found; other packages have the entry point below."""

from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules

GROUP = "cillab.scenarios"
"""Entry points of other packages: each names an object whose import registers a scenario."""

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
for _point in entry_points(group=GROUP):
    _point.load()
