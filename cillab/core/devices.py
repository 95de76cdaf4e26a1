"""Names of devices, and whether this machine can have them: asked of the driver, without torch."""

import ctypes
import os
import platform
import re
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

from cillab.core.errors import InvalidRequestError, shown

if TYPE_CHECKING:
    import torch

_VALID = "auto, cpu, cuda, cuda:0, mps"
_NAME = re.compile(r"auto|cpu|mps|cuda(?::(\d{1,4}))?")
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_WITHOUT_DOUBLES = {"mps": "cpu"}  # by kind of device: where its float64 lives instead
_DRIVERS = ("libcuda.so.1", "libcuda.so", "nvcuda.dll")


def check_device(name: str) -> None:
    """Refuse a device that this machine cannot have.

    Raises:
        InvalidRequestError: another name, no driver, or fewer devices.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise InvalidRequestError(f"device = {shown(name)}. Valid: {_VALID}.")
    if name == "mps" and (platform.system(), platform.machine()) != ("Darwin", "arm64"):
        raise InvalidRequestError("device = 'mps' is Apple's, and this is no Apple machine. Take auto or cpu.")
    if name.startswith("cuda"):
        count = cuda_devices()
        index = int(found[1] or 0)
        if count == 0:
            raise InvalidRequestError(f"device = {name!r}: this machine has no CUDA driver. Take auto or cpu.")
        if count is not None and index >= count:
            valid = "cuda:0" if count == 1 else f"cuda:0 to cuda:{count - 1}"
            raise InvalidRequestError(f"device = {name!r}: this machine has {count}. Valid: {valid}.")


def doubles_on(device: "torch.device | None") -> "torch.device | None":
    """Where float64 lives for what is on `device`: there, or on the CPU for a device that has none (Apple's MPS).

    The one place that says so. Sums, Gram matrices, covariances and their factors ask here, through `arrays.double`
    and `parts.module.empty`; what answers images stays on the device in float32.
    """
    if device is None or device.type not in _WITHOUT_DOUBLES:
        return device
    return type(device)(_WITHOUT_DOUBLES[device.type])


@cache
def cuda_devices() -> int | None:
    """Number of devices that CUDA's driver sees; 0 without a driver, None where only torch can tell (ROCm)."""
    if Path("/dev/kfd").exists():
        return None
    for library in _DRIVERS:
        with suppress(OSError, AttributeError):
            driver, count = ctypes.CDLL(library), ctypes.c_int(0)
            if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0:
                return count.value
            return 0
    return 0


def check_compiler(device: str) -> None:
    """Refuse to compile where nothing can: C++ for a CPU (`auto` without CUDA is one), Triton for CUDA.

    Raises:
        InvalidRequestError: what is missing, and what gets it.
    """
    if device.startswith("cuda") or (device == "auto" and cuda_devices() != 0):
        if find_spec("triton") is None:
            raise InvalidRequestError("compile on CUDA needs Triton: pip install triton, or leave compile out.")
        return
    if device == "mps":
        raise InvalidRequestError("compile = true: blocks are compiled for CPUs and CUDA. Leave compile out on mps.")
    usual = ["cl"] if os.name == "nt" else ["g++", "clang++"]
    names = os.environ.get("CXX", "").split()[:1] or usual
    if not any(which(name) for name in names):
        wanted = " or ".join(names)
        raise InvalidRequestError(f"compile on a CPU needs a C++ compiler: {wanted} is not there. Leave compile out.")


def one_of_many(number: int) -> dict[str, str]:
    """Environment that shows process `number` (from 0) one of several CUDA devices, in turn; empty for a single one.

    A subset that the user has made visible is kept to.
    """
    count = cuda_devices() or 0
    if count < 2:
        return {}
    visible = [name for name in os.environ.get(_VISIBLE, "").split(",") if name.strip()][:count]
    names = visible or [str(index) for index in range(count)]
    return {_VISIBLE: names[number % len(names)].strip()}
