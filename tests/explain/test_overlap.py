"""Energy and pointing game by hand."""

import pytest
import torch

from cillab.core.pixels import Preprocessing
from cillab.explain.overlap import as_seen, energy_inside, pointing_game


def mask(top: int, left: int, height: int, width: int, size: int = 8) -> torch.Tensor:
    found = torch.zeros(1, size, size, dtype=torch.bool)
    found[:, top : top + height, left : left + width] = True
    return found


def test_energy_by_hand() -> None:
    maps = torch.tensor([[[3.0, 1.0], [0.0, 4.0]]])  # 2 x 2 cells of 4 x 4 pixels
    assert energy_inside(maps, mask(0, 0, 4, 4)).item() == pytest.approx(3 / 8)
    assert energy_inside(maps, mask(0, 0, 4, 8)).item() == pytest.approx(4 / 8)
    assert energy_inside(maps, mask(2, 4, 4, 4)).item() == pytest.approx((0.5 * 1 + 0.5 * 4) / 8)  # half of two cells
    assert energy_inside(maps, mask(0, 0, 8, 8)).item() == pytest.approx(1)
    assert energy_inside(maps, mask(0, 0, 0, 0)).item() == 0


def test_uniform_map_has_the_energy_of_the_masks_area() -> None:
    assert energy_inside(torch.full((1, 4, 4), 0.3), mask(1, 2, 5, 3)).item() == pytest.approx(15 / 64)


def test_energy_ignores_scale_but_not_position() -> None:
    maps, inside = torch.rand(1, 4, 4, generator=torch.Generator().manual_seed(0)), mask(0, 0, 3, 5)
    assert energy_inside(7 * maps, inside).item() == pytest.approx(energy_inside(maps, inside).item())
    assert energy_inside(maps.flip(2), inside).item() != pytest.approx(energy_inside(maps, inside).item())


@pytest.mark.parametrize(
    ("tolerance", "where", "hit"),
    [
        (0, (6, 2, 1, 1), 1),  # the hottest cell is row 1, column 0: its centre is pixel (6, 2)
        (0, (6, 3, 1, 1), 0),
        (1, (6, 3, 1, 1), 1),
        (None, (4, 0, 1, 1), 1),  # by default a touch of the cell is enough
        (None, (6, 5, 1, 1), 0),
    ],
)
def test_pointing_by_hand(tolerance: int | None, where: tuple[int, int, int, int], hit: int) -> None:
    maps = torch.tensor([[[0.0, 1.0], [2.0, 0.0]]])
    assert pointing_game(maps, mask(*where), tolerance=tolerance).item() == hit


def test_dead_map_is_not_a_number() -> None:
    dead = torch.zeros(1, 2, 2)
    assert energy_inside(dead, mask(0, 0, 4, 4)).isnan().all()
    assert pointing_game(dead, mask(0, 0, 4, 4)).isnan().all()


def test_masks_are_cropped_as_images() -> None:
    half = (0.5, 0.5, 0.5)
    seen = as_seen(mask(0, 0, 8, 4), Preprocessing(16, 0.5, "bicubic", half, half))  # 8 -> 32 pixels, middle 16
    assert seen[:, :, :8].all()
    assert not seen[:, :, 8:].any()
