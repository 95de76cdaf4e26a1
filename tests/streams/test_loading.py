"""Augmentation: the distribution of torchvision's RandomResizedCrop, replay, and pixels against PIL."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import RandomResizedCrop

from cillab.core.errors import InvalidRequestError
from cillab.core.params import build
from cillab.streams.loading import Augment, Drawn


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(count: int, height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (count, 3, height, width), generator=rng(height + width), dtype=torch.uint8)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (248, 248), (40, 90), (1, 1), (3, 200), (200, 3)])
@pytest.mark.parametrize("kind", ["rrc-flip", "flip", "none"])
def test_boxes_are_whole_pixels_inside_the_image(height: int, width: int, kind: str) -> None:
    boxes = Augment(kind=kind).draw(rng(), 500, height, width).boxes
    top, left, box_height, box_width = boxes.unbind(1)
    assert torch.equal(boxes, boxes.round())
    assert (torch.stack([top, left]) >= 0).all()
    assert (torch.stack([box_height, box_width]) >= 1).all()
    assert (top + box_height <= height).all()
    assert (left + box_width <= width).all()


@pytest.mark.parametrize(("height", "width", "scale"), [(64, 64, (0.05, 1.0)), (50, 120, (0.3, 0.9))])
def test_boxes_are_distributed_as_torchvisions(height: int, width: int, scale: tuple[float, float]) -> None:
    """Means and spreads of area, shape and place over 1,500 draws, within 5 standard errors."""
    ours = Augment(scale=scale).draw(rng(), 1500, height, width).boxes.double()
    image = torch.empty(3, height, width)
    with torch.random.fork_rng():  # the oracle draws from the global generator
        torch.manual_seed(0)
        theirs = torch.tensor([RandomResizedCrop.get_params(image, list(scale), [3 / 4, 4 / 3]) for _ in range(1500)])

    def facts(boxes: Tensor) -> Tensor:
        top, left, h, w = boxes.double().unbind(1)
        return torch.stack([h * w / (height * width), (w / h).log(), (top + h / 2) / height, (left + w / 2) / width])

    for a, b in zip(facts(ours), facts(theirs), strict=True):
        error = math.sqrt((a.var() + b.var()) / 1500)
        assert abs(a.mean() - b.mean()) < 5 * error
        assert 0.85 < a.std() / b.std() < 1.15


@pytest.mark.parametrize(("height", "width"), [(3, 200), (200, 3), (10, 10)])
def test_when_no_attempt_fits_the_crop_is_torchvisions_fallback(height: int, width: int) -> None:
    augment = Augment(scale=(1.0, 1.0), ratio=(2.0, 2.0) if height == width else (3 / 4, 4 / 3))
    ours = augment.draw(rng(), 3, height, width).boxes
    theirs = RandomResizedCrop.get_params(torch.empty(3, height, width), [1.0, 1.0], list(augment.ratio))
    assert ours.tolist() == [list(map(float, theirs))] * 3


def test_half_are_mirrored_and_none_is_none() -> None:
    assert 0.45 < Augment().draw(rng(), 4000, 8, 8).mirrored.float().mean() < 0.55
    assert 0.45 < Augment(kind="flip").draw(rng(), 4000, 8, 8).mirrored.float().mean() < 0.55
    assert not Augment(kind="none").draw(rng(), 100, 8, 8).mirrored.any()


def test_a_draw_repeats_with_its_seed_and_touches_no_global_randomness() -> None:
    before, augment = torch.get_rng_state(), Augment(brightness=0.3)
    first, again, other = (augment.draw(rng(seed), 20, 30, 40) for seed in (1, 1, 2))
    for name in ("boxes", "mirrored", "brightness"):
        assert torch.equal(getattr(first, name), getattr(again, name))
        assert not torch.equal(getattr(first, name), getattr(other, name))
    assert torch.equal(torch.get_rng_state(), before)


def test_applying_is_crop_resize_mirror_as_pil_does_it() -> None:
    images, augment = noise(12, 40, 30), Augment()
    drawn = augment.draw(rng(), 12, 40, 30)
    views = augment.apply(images, drawn, 24)
    for view, image, box, flip in zip(views, images, drawn.boxes.int().tolist(), drawn.mirrored, strict=True):
        top, left, height, width = box
        part = Image.fromarray(image.permute(1, 2, 0).numpy()).crop((left, top, left + width, top + height))
        how = Image.Resampling.BICUBIC
        expected = part.resize((24, height), how).resize((24, 24), how)  # columns first in every version of Pillow
        expected = expected.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else expected
        assert np.abs(view.permute(1, 2, 0).numpy().astype(int) - np.asarray(expected)).max() <= 2


def test_applying_is_replayable_and_leaves_its_arguments_alone() -> None:
    images, augment = noise(5, 20, 20), Augment(brightness=0.5)
    drawn, before = augment.draw(rng(), 5, 20, 20), images.clone()
    assert torch.equal(augment.apply(images, drawn, 16), augment.apply(images, drawn, 16))
    assert torch.equal(images, before)


def test_none_at_its_own_size_changes_nothing_and_keeps_the_middle() -> None:
    augment = Augment(kind="none")
    square, wide = noise(2, 16, 16), noise(2, 16, 22)
    assert torch.equal(augment.apply(square, augment.draw(rng(), 2, 16, 16), 16), square)
    assert torch.equal(augment.apply(wide, augment.draw(rng(), 2, 16, 22), 16), wide[:, :, :, 3:19])
    cut = augment.draw(rng(), 2, 20, 20, crop_fraction=0.8)
    assert torch.equal(augment.apply(noise(2, 20, 20), cut, 16), noise(2, 20, 20)[:, :, 2:18, 2:18])


def test_brightness_multiplies_and_saturates() -> None:
    images = torch.tensor([10, 200]).to(torch.uint8).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    boxes = torch.tensor([[0.0, 0, 4, 4]] * 2)
    drawn = Drawn(boxes, torch.zeros(2, dtype=torch.bool), torch.tensor([0.55, 1.5]))
    views = Augment(brightness=0.5).apply(images, drawn, 4)
    assert views[:, 0, 0, 0].tolist() == [5, 255]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scale": (0.9, 0.1)}, "scale must rise"),
        ({"ratio": (0.0, 1.0)}, "ratio must rise and be positive"),
        ({"brightness": 2.0}, "brightness = 2.0"),
        ({"kind": "cutout"}, "'rrc-flip', 'flip' or 'none'"),
        ({"brigthness": 0.1}, "Did you mean 'brightness'"),
    ],
)
def test_bad_numbers_are_refused_in_one_line(values: dict, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        build(Augment, values, "augment")


@pytest.mark.gpu
def test_views_agree_between_devices() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs CUDA")
    images, augment = noise(16, 40, 40), Augment(brightness=0.2)
    drawn = augment.draw(rng(), 16, 40, 40)
    here, there = augment.apply(images, drawn, 32), augment.apply(images.cuda(), drawn, 32).cpu()
    assert (here.int() - there.int()).abs().max() <= 2
