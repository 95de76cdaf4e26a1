"""Distance of stored Gaussians to images. Oracle: the closed form with d x d roots."""

from typing import Any

import numpy as np
import pytest
import torch

from cillab.core.arrays import array, through_numpy
from cillab.geometry.transport import w2_gaussian
from cillab.lab.measures import Seen
from cillab.lab.stored import stored_gaussians, w2_to_images
from cillab.parts.gaussian_memory import GaussianMemory
from cillab.parts.heads import Table


def cloud(count: int, seed: int, dim: int = 5) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(count, dim, generator=g) @ torch.randn(dim, dim, generator=g) + seed


def memory_of(*pairs: tuple[int, torch.Tensor], kind: Any = "full") -> GaussianMemory:
    memory = GaussianMemory(5, kind)
    for c, h in pairs:
        memory.add(h, torch.full((len(h),), c))
    return memory


def distance(*arguments: torch.Tensor) -> float:
    return w2_to_images(*map(array, arguments))


@pytest.mark.parametrize("count", [3, 40])
@pytest.mark.parametrize("kind", ["full", "diagonal"])
def test_it_is_w2_by_the_closed_form(count: int, kind: str) -> None:
    memory, h = memory_of((0, cloud(30, 1)), kind=kind), cloud(count, 2).double()
    stored = memory.covariances[0].double()
    full = stored if kind == "full" else torch.diag(stored)
    centred = h - h.mean(dim=0)
    expected = through_numpy(w2_gaussian, h, memory.means[0], full, h.mean(dim=0), centred.T @ centred / count)
    assert distance(memory.means[0], memory.covariances[0], h) == pytest.approx(expected, rel=1e-5)


def test_the_images_own_gaussian_is_nearest() -> None:
    h = cloud(60, 1)
    own = memory_of((0, h))
    assert distance(own.means[0], own.covariances[0], h) == pytest.approx(0, abs=1e-2)
    moved = distance(own.means[0] + torch.tensor([3.0, 0, 0, 0, 0]), own.covariances[0], h)
    assert moved == pytest.approx(3, rel=1e-3)


def test_old_classes_of_parts_that_hold_gaussians() -> None:
    """Class 7 is old and was calibrated to where it is, class 4 is old and was moved away, class 9 is new."""
    now = {7: cloud(30, 1), 4: cloud(30, 2), 9: cloud(30, 3)}
    parts: Any = {
        "memory": memory_of((7, now[7]), (4, now[4] + 5), (9, now[9])),
        "memory_before": memory_of((7, now[7] + 1), (4, now[4] + 1)),
        "empty": memory_of(),
        "other": Table(),
    }
    trains = [Seen(h.numpy(), h.numpy(), np.full(len(h), c)) for c, h in now.items()]
    arrays, scalars = stored_gaussians(parts, (7, 4, 9), trains, {7: 0, 4: 0, 9: 1}, 1)
    assert set(arrays) == {"gaussian/w2/memory", "gaussian/w2/memory_before"}
    assert np.isnan(arrays["gaussian/w2/memory_before"][2])
    assert arrays["gaussian/w2/memory_before"][0] == pytest.approx(5**0.5, rel=1e-3)
    assert scalars["transport/w2/memory"] == pytest.approx(arrays["gaussian/w2/memory"][:2].mean())
    assert scalars["transport/improved"] == 0.5
    assert stored_gaussians(parts, (9,), trains, {9: 1}, 1)[1] == {}  # no class is old
