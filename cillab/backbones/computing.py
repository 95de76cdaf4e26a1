"""Where a backbone computes and in which precision, where nobody has said."""

from typing import Literal

import torch

from cillab.core.devices import check_device
from cillab.core.errors import InvalidRequestError

Precision = Literal["auto", "fp32", "bf16"]


def resolve_device(device: str | torch.device) -> torch.device:
    """`auto` is CUDA where there is one, else the CPU; Apple's MPS only by name.

    MPS has no float64, in which means, Gram matrices and covariances are summed: those lie on the CPU (`doubles_on`).
    """
    if device != "auto":
        check_device(str(device))
        found = torch.device(device)
        usable = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}.get(found.type, lambda: True)
        if not usable():
            raise InvalidRequestError(f"device = {str(device)!r}: the installed torch cannot use it. Take auto or cpu.")
        return found
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def resolve_precision(precision: Precision, device: torch.device) -> Literal["fp32", "bf16"]:
    """`auto` is bf16 where that is faster: CUDA with bf16, CPUs with AMX.

    A CPU with AVX512-BF16 alone is slower in bf16 than in fp32 (`benchmarks/precision.py`).

    Raises:
        InvalidRequestError: none of auto, fp32, bf16.
    """
    match precision:
        case "fp32" | "bf16":
            return precision
        case "auto" if device.type == "cuda":
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
        case "auto" if device.type == "cpu":
            return "bf16" if _cpu_has_amx() else "fp32"
        case "auto":
            return "fp32"
        case _:
            raise InvalidRequestError(f"precision = {precision!r}. Valid: auto, fp32, bf16.")


def _cpu_has_amx() -> bool:
    """Torch asks the CPU, but has no stable public name for the question in all supported versions."""
    return getattr(torch.cpu, "_is_amx_tile_supported", bool)()
