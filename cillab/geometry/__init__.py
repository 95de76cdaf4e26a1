"""The geometry of features: pure functions of NumPy arrays, in float64. They know no model, no disk and no device.

There is one implementation of each formula. No module loads PyTorch, so that pages and figures start fast; learners,
whose features are tensors, come through `cillab.core.arrays.through_numpy`. Importing this package imports none of its
modules.
"""

from importlib import import_module
from types import ModuleType

_MODULES = (
    "accuracy",
    "association",
    "collapse",
    "drift",
    "etf",
    "heads",
    "incremental",
    "moments",
    "nc1",
    "nc2",
    "nc3",
    "pairing",
    "predictions",
    "retention",
    "rows",
    "seeds",
    "spectrum",
    "transport",
)


def __getattr__(name: str) -> ModuleType:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"cillab.geometry has no module {name!r}. Valid: {', '.join(_MODULES)}.")


def __dir__() -> list[str]:
    return list(_MODULES)
