"""Importing a vision model costs neither a compiler nor the models that nobody asked for.

Two libraries load all of `torch.compile` for what they seldom need.

`torchvision.ops.roi_align` imports `torch._dynamo.utils` for one question, and timm decorates three functions of one
model with `torch.compiler.disable` as it is imported. Either loads TorchDynamo, Inductor and Triton: about as much time
as torch itself, in every process that names a model. While these two modules are loaded, stand-ins take their wishes
down; the question or the function loads the real thing when it is asked or called.

timm, torchvision and open_clip import every model they have when one file of theirs is imported. These packages wait
(`LATE`): a file of theirs is imported alone, and the package itself when somebody asks it for a name of its own.
"""

import atexit
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache, wraps
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from threading import RLock
from types import ModuleType
from typing import Any

COMPILER, ASKED = "torch._dynamo", "torch._dynamo.utils"


def load_no_compiler() -> None:
    """Settle it for this process; once is enough."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


@contextmanager
def uncollected() -> Iterator[None]:
    """While this block loads libraries and data, nobody looks for garbage among them; nor ever after.

    torch alone brings half a million objects that stay. Python looks through all of them each time a quarter more have
    come: half a second on the way to a run's first image.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        atexit.register(gc.unfreeze)  # an interpreter that is taken down piece by piece looks for them
        if was:
            gc.enable()


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
LATE: dict[str, str | None] = {  # package -> the file of it that is asked first, where it has the names others want
    "timm": "version",
    "timm.data": "constants",
    "timm.models": None,
    "torchvision": None,
    "torchvision.models": None,
    "torchvision.ops": None,
    "open_clip": "version",
}


_OF_PACKAGES = {"__all__", "__version__"}  # what a package says of itself


class _Finder(MetaPathFinder):
    """Finds these modules, as they would be found anyway."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        beside = fullname in BESIDE and COMPILER not in sys.modules
        if not beside and fullname not in LATE:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Beside(spec.loader, BESIDE[fullname]) if beside else _Late(spec.loader, LATE[fullname])
        return spec


class _Loader(Loader):
    """The module's own loader, but for `exec_module`."""

    def __init__(self, own: Any) -> None:
        self._own = own

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._own.create_module(spec)


class _Beside(_Loader):
    """With a stand-in in its place for as long as the module runs."""

    def __init__(self, own: Any, stand_in: Callable[[], AbstractContextManager[None]]) -> None:
        super().__init__(own)
        self._stand_in = stand_in

    def exec_module(self, module: ModuleType) -> None:
        with self._stand_in():
            self._own.exec_module(module)


class _Late(_Loader):
    """A package that runs when it is asked for a name that none of its imported files is called."""

    def __init__(self, own: Any, first: str | None) -> None:
        super().__init__(own)
        self._first = first

    def exec_module(self, module: ModuleType) -> None:
        lock, package, own = RLock(), module.__name__, vars(module)

        def load() -> None:
            with lock:
                if own.pop("__getattr__", None) is not None:
                    del own["__dir__"]
                    try:
                        self._own.exec_module(module)
                    except BaseException:  # asked again, it says again what it lacks
                        own.update(__getattr__=asked, __dir__=names)
                        raise

        def asked(name: str) -> Any:
            if self._first and hasattr(file := import_module(f"{package}.{self._first}"), name):
                return getattr(file, name)
            # Whoever looks through all modules for what each of them may have wants none of these loaded.
            if name.startswith("__") and name not in _OF_PACKAGES:
                raise AttributeError(f"module {package!r} has no attribute {name!r}")
            load()
            return getattr(module, name)

        def names() -> list[str]:
            load()
            return dir(module)

        own.update(__getattr__=asked, __dir__=names)
