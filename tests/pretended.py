"""A device that is not there: CPU tensors that behave as if they were on CUDA or MPS, so that wrong-device lines fail.

with Pretended():
    torch.ones(3, device="cuda") + torch.ones(3)  # RuntimeError, as with a real device

The tag belongs to the storage: views, parameters and detached tensors share it without anybody's help. What a call
returns inherits the tag of what went in. Refused, as on the device: two devices in one call (a CPU tensor without
axes may mix, a CPU tensor may index), NumPy of a device tensor, a CPU generator for a draw on the device, float64 on
MPS. `cpu()` and `to()` copy, as across a bus.

What the mode cannot see:
* Calls inside a torch function (`F.cross_entropy`, `backward`, hooks that `backward` calls): only what goes in and
  comes out is looked at. Another thread's calls are not seen either.
* Objects that are no tensors: `torch.Generator(device="cuda")` and `torch.cuda.*` need the real device.
* Kernels: a missing operator, other rounding, asynchronous errors, memory, autocast's casts on the device.
* Calls for which CUDA takes a CPU tensor beyond the rules above, or refuses one without axes (`cat`, `stack` and
  in-place calls are known here; the rest is taken for elementwise).
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode

CPU = torch.device("cpu")
KINDS = ("cuda", "mps")
HOST_ONLY = {"numpy", "__array__", "__dlpack__"}
ACROSS = {"copy_", "__deepcopy__", "_has_compatible_shallow_copy_type"}  # may read another device
NO_SCALARS = {"cat", "concat", "stack", "hstack", "vstack"}  # refuse even a CPU tensor without axes


class Pretended(TorchFunctionMode):
    """While it is on, `cuda` and `mps` may be asked for, and a tensor is where it was asked to be."""

    def __init__(self) -> None:
        super().__init__()
        self._tags: dict[int, tuple[StorageWeakRef, torch.device]] = {}  # a weak reference keeps an address from reuse

    def __enter__(self) -> Any:
        """Also `module.to(tensor)`, whose arguments are read below Python."""
        self._parse, nn = torch._C._nn._parse_to, torch._C._nn

        def parsed(*args: Any, **kwargs: Any) -> Any:
            found = self._parse(*args, **kwargs)
            like = next(_tensors((args, kwargs)), None)
            return found if like is None else (self.where(like), *found[1:])

        nn._parse_to = parsed
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        """The module's own reading again."""
        torch._C._nn._parse_to = self._parse
        super().__exit__(*error)

    def where(self, tensor: Tensor) -> torch.device:
        """The pretended device, or the true one."""
        tagged = self._tags.get(tensor.untyped_storage()._cdata)
        return tagged[1] if tagged else tensor.device

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Answer, refuse, or call `func` and tag what it returns."""
        name, kwargs = _name(func), dict(kwargs or {})
        if name in ("to", "cuda", "cpu", "mps") and isinstance(args[0], Tensor):
            return self._moved(name, func, args, kwargs)
        if name == "device.__get__":
            return self.where(args[0])
        if name in ("is_cuda.__get__", "is_mps.__get__", "is_cpu.__get__"):
            return self.where(args[0]).type == name[3:].partition(".")[0]
        if name == "get_device":
            return -1 if self.where(args[0]) == CPU else self.where(args[0]).index or 0
        if name == "data.__set__":
            func(*args)
            return self._tag(args[0], self.where(args[1]))
        asked = kwargs.get("device")
        target = None if asked is None else _device(asked)
        if target is not None and target.type in KINDS:
            del kwargs["device"]
        given = list(_tensors(args[:1] if name == "__deepcopy__" else (args, kwargs)))
        here = self._together(name, args, kwargs, given) if target is None else target
        if here is not None and here.type in KINDS:
            _no_cpu_generator((*args, *kwargs.values()), here)
            if name in HOST_ONLY:
                raise TypeError(f"can't convert {here} device type tensor to numpy. Use Tensor.cpu() first.")
        found = func(*args, **kwargs)
        if target is not None and any(found is one and self.where(one) != target for one in given):
            found = found.clone()  # as_tensor(x, device=...): the same object here, a copy on a device
        if here is not None:
            for one in _tensors(found):
                self._tag(one, here)
        return found

    def _together(self, name: str, args: Any, kwargs: Any, given: list[Tensor]) -> torch.device | None:
        """The one device of a call.

        Raises:
            RuntimeError: there are two.
        """
        if name in ("__getitem__", "__setitem__"):
            home, indices = self.where(args[0]), list(_tensors(args[1]))
            if odd := [one for one in indices if self.where(one) not in (home, CPU)]:
                raise RuntimeError(f"indices should be on cpu or on {home}, found {self.where(odd[0])}")
            listed = indices or isinstance(args[1], list)
            values = [one for one in _tensors(args[2:]) if one.ndim and listed]  # slices copy across devices
            given = [args[0], *values]
        elif name in ACROSS:
            return self.where(args[0])
        places = {self.where(one): one for one in given}
        devices = [place for place in places if place.type in KINDS]
        if not devices:
            return None
        written = bool(given) and name.endswith("_") and not name.startswith("_") and self.where(given[0]) == CPU
        strict = name in NO_SCALARS or written
        if len(devices) > 1 or any(self.where(one) == CPU and (one.ndim or strict) for one in given):
            raise RuntimeError(f"{name}: Expected all tensors to be on the same device, found {list(map(str, places))}")
        return devices[0]

    def _moved(self, name: str, func: Any, args: Any, kwargs: Any) -> Tensor:
        """`x.to(...)`, `x.cuda()`, `x.cpu()`: a tagged copy, or `x` itself where nothing changes."""
        x, target = args[0], self.where(args[0])
        rest: dict[str, Any] = {key: value for key, value in kwargs.items() if key in ("dtype", "copy")}
        if name == "to":
            flags = iter(("non_blocking", "copy"))
            for one in (*args[1:], *kwargs.get("other", ()), kwargs.get("device")):
                if isinstance(one, Tensor):
                    target, rest["dtype"] = self.where(one), one.dtype
                elif isinstance(one, torch.dtype):
                    rest["dtype"] = one
                elif isinstance(one, bool):
                    rest[next(flags)] = one
                elif one is not None:
                    target = _device(one)
        else:
            target = _device(name)
        rest.pop("non_blocking", None)
        if target.type not in (*KINDS, "cpu"):  # meta
            return func(*args, **kwargs)
        if "memory_format" in kwargs:
            rest["memory_format"] = kwargs["memory_format"]
        found = x.to(**rest) if rest else x
        if target != self.where(x) and found is x:
            found = x.clone()
        return self._tag(found, target)

    def _tag(self, tensor: Tensor, device: torch.device) -> Tensor:
        if device.type == "mps" and tensor.dtype in (torch.float64, torch.complex128):
            raise TypeError("Cannot convert a MPS Tensor to float64: the MPS framework doesn't support it.")
        storage = tensor.untyped_storage()
        if device.type in KINDS:
            self._tags[storage._cdata] = (StorageWeakRef(storage), device)
        else:
            self._tags.pop(storage._cdata, None)
        return tensor


def _name(func: Any) -> str:
    """`add`, and for properties `device.__get__`."""
    name = getattr(func, "__name__", "")
    owner = getattr(func, "__self__", None)
    return f"{owner.__name__}.{name}" if name in ("__get__", "__set__") and owner is not None else name


def _device(asked: Any) -> torch.device:
    """With an index, as tensors have it."""
    device = torch.device("cuda", asked) if isinstance(asked, int) else torch.device(asked)
    return torch.device(device.type, device.index or 0) if device.type in KINDS else torch.device(device.type)


def _tensors(values: Any) -> Iterator[Tensor]:
    """Every tensor in nested lists, tuples and dicts."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        yield from _tensors(list(values.values()))
    elif isinstance(values, list | tuple):
        for one in values:
            yield from _tensors(one)


def _no_cpu_generator(values: Iterable[Any], device: torch.device) -> None:
    if any(isinstance(one, torch.Generator) and one.device.type != device.type for one in values):
        raise RuntimeError(f"Expected a {device.type!r} device type for generator but found 'cpu'")
