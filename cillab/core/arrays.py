"""From tensors to NumPy and back: the geometry is written in NumPy float64, learners and backbones hold tensors."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor


def array(values: Tensor | np.ndarray) -> np.ndarray:
    """The same numbers on the host, outside of autograd; bfloat16, which NumPy lacks, becomes float32.

    A CPU tensor of another dtype shares its memory with the result.
    """
    if isinstance(values, np.ndarray):
        return values
    values = values.detach().cpu()
    return (values.float() if values.dtype == torch.bfloat16 else values).numpy()


def through_numpy(function: Callable[..., Any], like: Tensor, *arguments: Any, **named: Any) -> Any:
    """Call a function of NumPy arrays with tensors; arrays in its answer become tensors on the device of `like`.

    What is neither a tensor nor an array passes unchanged, in both directions.
    """
    found = function(*map(_plain, arguments), **{name: _plain(value) for name, value in named.items()})
    if isinstance(found, tuple):
        return tuple(_tensor(value, like) for value in found)
    return _tensor(found, like)


def _plain(value: Any) -> Any:
    return array(value) if isinstance(value, Tensor) else value


def _tensor(value: Any, like: Tensor) -> Any:
    return torch.from_numpy(value).to(like.device) if isinstance(value, np.ndarray) else value
