"""Importing a vision model costs no compiler: two libraries load all of `torch.compile` for what they seldom need.

`torchvision.ops.roi_align` imports `torch._dynamo.utils` for one question, and timm decorates three functions of one
model with `torch.compiler.disable` as it is imported. Either loads TorchDynamo, Inductor and Triton: about as much time
as torch itself, in every process that names a model. While these two modules are loaded, stand-ins take their wishes
down; the question or the function loads the real thing when it is asked or called.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache, wraps
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

COMPILER, ASKED = "torch._dynamo", "torch._dynamo.utils"


def load_no_compiler() -> None:
    """Settle it for this process; once is enough."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


@contextmanager
def _question() -> Iterator[None]:
    """A module that holds `is_compile_supported` and nothing else."""
    stand_in: Any = ModuleType(ASKED)
    stand_in.is_compile_supported = lambda device: import_module(ASKED).is_compile_supported(device)
    sys.modules[ASKED] = stand_in
    try:
        yield
    finally:
        if sys.modules.get(ASKED) is stand_in:
            del sys.modules[ASKED]


@contextmanager
def _decorator() -> Iterator[None]:
    """A `torch.compiler.disable` that is applied when the function is first called."""
    compiler: Any = import_module("torch.compiler")
    own = compiler.disable

    def disable(function: Callable[..., Any] | None = None, **options: Any) -> Any:
        if function is None:
            return lambda found: disable(found, **options)
        made = cache(lambda: own(function, **options))

        @wraps(function)
        def called(*args: Any, **named: Any) -> Any:
            return made()(*args, **named)

        return called

    compiler.disable = disable
    try:
        yield
    finally:
        compiler.disable = own


BESIDE: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "torchvision.ops.roi_align": _question,
    "timm.layers.typing": _decorator,
}


class _Finder(MetaPathFinder):
    """Finds these modules, as they would be found anyway."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname not in BESIDE or COMPILER in sys.modules:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Beside(spec.loader, BESIDE[fullname])
        return spec


class _Beside(Loader):
    """The module's own loader, with a stand-in in its place for as long as it runs."""

    def __init__(self, own: Any, stand_in: Callable[[], AbstractContextManager[None]]) -> None:
        self._own, self._stand_in = own, stand_in

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._own.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        with self._stand_in():
            self._own.exec_module(module)
