"""Batched resampling against PIL, and evaluation crops against torchvision on PIL images.

The two passes of a resize commute only where the cubic filter does not overshoot. Pillow 13 exchanges them when the
height shrinks much more than the width; so oracles are two explicit passes, or images that cannot overshoot.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2 as T

from cillab.core.pixels import (
    Preprocessing,
    centre_crop,
    evaluation_crop,
    filter_rows,
    normalise,
    resample,
    resize,
)

GREY_LEVELS = 2  # PIL rounds its filter weights to 22 bits and its first pass to bytes: rarely 1 level, never 3
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
TAG = Preprocessing(96, 0.9, "bicubic", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def noise(count: int, height: int, width: int, low: int = 0, high: int = 256) -> Tensor:
    """White noise: the hardest thing to resample, every filter weight shows."""
    rng = torch.Generator().manual_seed(height * 1000 + width)
    return torch.randint(low, high, (count, 3, height, width), generator=rng, dtype=torch.uint8)


def pale_noise(count: int, height: int, width: int) -> Tensor:
    """Noise of medium contrast: its cubic overshoot stays far from 0 and 255."""
    return noise(count, height, width, 64, 192)


def two_passes(image: Image.Image, height: int, width: int, interpolation: str) -> Image.Image:
    how = FILTERS[interpolation]
    return image.resize((width, image.height), how).resize((width, height), how)


def to_pil(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def to_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def assert_same_picture(ours: Tensor, image: Image.Image) -> None:
    expected = to_tensor(image)
    assert ours.shape == expected.shape
    assert (ours.int() - expected.int()).abs().max() <= GREY_LEVELS


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(
    ("source", "target"),
    [
        ((32, 32), (224, 224)),
        ((32, 32), (7, 19)),
        ((100, 61), (64, 64)),
        ((5, 300), (248, 31)),
        ((1, 1), (8, 8)),
        ((9, 9), (1, 1)),
    ],
)
def test_resize_is_pils(source: tuple[int, int], target: tuple[int, int], interpolation: str) -> None:
    images = noise(2, *source)
    for ours, image in zip(resize(images, *target, interpolation), images, strict=True):
        assert_same_picture(ours, two_passes(to_pil(image), *target, interpolation))
    images = pale_noise(2, *source)
    for ours, image in zip(resize(images, *target, interpolation), images, strict=True):
        assert_same_picture(ours, to_pil(image).resize(target[::-1], FILTERS[interpolation]))


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(16, 16), (64, 64), (45, 90)])
def test_resample_is_crop_then_resize_then_flip(size: tuple[int, int], interpolation: str) -> None:
    images = noise(4, 40, 56)
    boxes = [(0, 0, 40, 56), (7, 11, 20, 13), (39, 55, 1, 1), (0, 30, 33, 26)]
    mirrored = [False, True, True, False]
    ours = resample(images, torch.tensor(boxes).float(), *size, interpolation, torch.tensor(mirrored))
    for view, image, (top, left, height, width), flip in zip(ours, images, boxes, mirrored, strict=True):
        box = to_pil(image).crop((left, top, left + width, top + height))
        expected = two_passes(box, *size, interpolation)
        assert_same_picture(view, expected.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else expected)


def test_an_image_does_not_depend_on_its_batch() -> None:
    images, boxes = noise(3, 20, 20), torch.tensor([[0.0, 0, 20, 20], [3, 4, 9, 8], [1, 1, 5, 18]])
    together = resample(images, boxes, 24, 24)
    alone = torch.cat([resample(images[k : k + 1], boxes[k : k + 1], 24, 24) for k in range(3)])
    assert (together.int() - alone.int()).abs().max() <= 1  # another matrix product may round the other way


@settings(max_examples=60, deadline=None)
@given(
    source=st.integers(1, 40),
    target=st.integers(1, 60),
    span=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    bicubic=st.booleans(),
)
def test_weights_sum_to_one_and_stay_inside_the_box(
    source: int, target: int, span: tuple[float, float], bicubic: bool
) -> None:
    start = int(span[0] * (source - 1))
    length = 1 + int(span[1] * (source - start - 1))
    box = torch.tensor([start]).float(), torch.tensor([length]).float()
    rows = filter_rows(*box, source, target, "bicubic" if bicubic else "bilinear")[0]
    torch.testing.assert_close(rows.sum(dim=1), torch.ones(target))
    outside = torch.ones(source, dtype=torch.bool)
    outside[start : start + length] = False
    assert (rows[:, outside] == 0).all()
    assert rows.isfinite().all()


def test_a_constant_image_stays_constant() -> None:
    images = torch.full((1, 3, 13, 9), 201, dtype=torch.uint8)
    assert (resize(images, 50, 4) == 201).all()


def oracle_crop(image: Image.Image, size: int, resized: int | tuple[int, int], interpolation: str) -> Image.Image:
    how = T.InterpolationMode(interpolation)
    return T.Compose([T.Resize(resized, how), T.CenterCrop(size)])(image)


@pytest.mark.parametrize("shape", [(32, 32), (120, 80), (81, 133), (300, 260)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_evaluation_crops_are_torchvisions(shape: tuple[int, int], interpolation: str) -> None:
    images = pale_noise(1, *shape)
    own = Preprocessing(96, 0.9, interpolation, TAG.mean, TAG.std)
    wanted = {"tag": 106, "pilot_compat": 109, "whole": (96, 96)}  # floor(96 / .9), floor(96 * 256 / 224)
    for preset, resized in wanted.items():
        ours = evaluation_crop(images, own.under(preset))
        assert_same_picture(ours[0], oracle_crop(to_pil(images[0]), 96, resized, interpolation))


def test_pilots_224_is_256_then_224() -> None:
    assert TAG.under("pilot_compat", 224).resize == 256
    assert TAG.under("tag", 224).resize == 248  # timm's own crop of .9


@pytest.mark.parametrize(("shape", "size"), [((10, 7), 4), ((9, 9), 4), ((31, 30), 30)])
def test_centre_crop_is_torchvisions(shape: tuple[int, int], size: int) -> None:
    images = noise(1, *shape)
    assert torch.equal(centre_crop(images, size), T.CenterCrop(size)(images))


def test_normalise_is_torchvisions() -> None:
    images = noise(2, 6, 5)
    expected = T.Normalize(TAG.mean, TAG.std)(images / 255)
    torch.testing.assert_close(normalise(images, TAG.mean, TAG.std), expected)


def test_pilot_compat_leaves_values_between_zero_and_one() -> None:
    pilot = TAG.under("pilot_compat")
    torch.testing.assert_close(normalise(noise(1, 4, 4), pilot.mean, pilot.std), noise(1, 4, 4) / 255)
