"""Tensors to NumPy and back."""

import numpy as np
import torch

from cillab.core.arrays import array, through_numpy


def test_array_leaves_autograd_and_knows_bfloat16() -> None:
    x = torch.ones(2, 3, requires_grad=True)
    np.testing.assert_array_equal(array(x), np.ones((2, 3)))
    assert array(torch.ones(2, dtype=torch.bfloat16)).dtype == np.float32
    assert array(torch.ones(2, dtype=torch.float64)).dtype == np.float64
    own = np.zeros(2)
    assert array(own) is own


def test_tensors_come_back_and_everything_else_passes() -> None:
    def function(a: np.ndarray, factor: float, *, name: str, b: np.ndarray) -> tuple:
        assert isinstance(a, np.ndarray) and isinstance(b, np.ndarray)
        return factor * a.astype(np.float64), name, (a + b).sum()

    x = torch.arange(3.0)
    scaled, name, total = through_numpy(function, x, x, 2.0, name="kept", b=x)
    assert isinstance(scaled, torch.Tensor) and scaled.dtype == torch.float64 and scaled.tolist() == [0, 2, 4]
    assert name == "kept" and float(total) == 6
    assert torch.equal(through_numpy(np.square, x, x), x.square())
