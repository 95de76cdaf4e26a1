"""From tensors to NumPy and back: the geometry is written in NumPy float64, learners and backbones hold tensors."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cillab.core.devices import doubles_on


def array(values: Tensor | np.ndarray) -> np.ndarray:
    """The same numbers on the host, outside of autograd; bfloat16, which NumPy lacks, becomes float32.

    A CPU tensor of another dtype shares its memory with the result.
    """
    if isinstance(values, np.ndarray):
        return values
    values = values.detach().cpu()
    return (values.float() if values.dtype == torch.bfloat16 else values).numpy()


def sent(values: Any, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Numbers of the host as a tensor on `device`, behind what the device still has to do: nobody waits.

    `torch.tensor(..., device=...)` and `x.to(device)` let the host wait until a GPU's queue is empty.
    """
    return torch.as_tensor(values, dtype=dtype).to(device, non_blocking=True)


def counted(rows: Tensor, total: int) -> Tensor:
    """How often each of 0 ... total - 1 stands in `rows`. `torch.bincount` asks a GPU for the largest value first."""
    return torch.zeros(total, dtype=torch.int64, device=rows.device).index_add(0, rows, torch.ones_like(rows))


def double(values: Tensor) -> Tensor:
    """The same numbers in float64, on the device itself or where its float64 lives (`doubles_on`).

    Moved first, converted then: where they come from there may be no float64.
    """
    return values.to(doubles_on(values.device)).double()


def through_numpy(function: Callable[..., Any], like: Tensor, *arguments: Any, **named: Any) -> Any:
    """Call a function of NumPy arrays with tensors; arrays in its answer become tensors on the device of `like`.

    float64 among them is where that device has it (`doubles_on`): `.to(like)` brings float32 home.

    What is neither a tensor nor an array passes unchanged, in both directions.
    """
    found = function(*map(_plain, arguments), **{name: _plain(value) for name, value in named.items()})
    if isinstance(found, tuple):
        return tuple(_tensor(value, like) for value in found)
    return _tensor(found, like)


def _plain(value: Any) -> Any:
    return array(value) if isinstance(value, Tensor) else value


def _tensor(value: Any, like: Tensor) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    found = torch.from_numpy(np.asarray(value, order="C"))  # another layout rounds otherwise, and files keep none
    return found.to(doubles_on(like.device) if found.dtype == torch.float64 else like.device)
