"""The geometry of features: pure functions on tensors. They know no model, no disk and no device by name.

Importing this package imports none of its modules, so that `cillab.geometry.accuracy`, which needs only NumPy,
can be read by programs that must start fast; the others load PyTorch when they are first touched.
"""

from importlib import import_module
from types import ModuleType

_MODULES = (
    "accuracy",
    "collapse",
    "drift",
    "etf",
    "heads",
    "incremental",
    "moments",
    "nc1",
    "nc2",
    "nc3",
    "plain",
    "predictions",
    "retention",
    "seeds",
    "spectrum",
    "transport",
    "whatif",
)


def __getattr__(name: str) -> ModuleType:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"cillab.geometry has no module {name!r}. Valid: {', '.join(_MODULES)}.")


def __dir__() -> list[str]:
    return list(_MODULES)
