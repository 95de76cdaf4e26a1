"""Test images that are training images: exact copies are counted everywhere, near ones where somebody asks."""

import logging
import os
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from sklearn.datasets import load_sample_image

from cillab.core.pixels import Preprocessing
from cillab.protocol.row import Protocol
from cillab.streams.arrays import ArraySource, Images
from cillab.streams.leaks import _THUMBNAIL, NEAR_BITS, _hashes, near_duplicates, perceptual_hashes
from cillab.streams.opening import open_source
from cillab.streams.pictures import to_canvas
from cillab.streams.sources import Source
from cillab.streams.stream import make_stream

from .worlds import array_source, encoded, folder, picture, table

CELLS = [encoded(picture(seed)) for seed in range(6)]


def photograph(seed: int, side: int = 96) -> Image.Image:
    """A cut-out of a real photograph: noise has no low frequencies to recognise it by."""
    rng = np.random.default_rng(seed)
    whole = np.asarray(load_sample_image("china.jpg"))
    top, left = rng.integers(0, whole.shape[0] - 2 * side), rng.integers(0, whole.shape[1] - 2 * side)
    return Image.fromarray(whole[top : top + 2 * side, left : left + 2 * side]).resize((side, side))


@pytest.mark.parametrize("form", ["parquet", "hf", "one table"])
def test_copies_are_counted_in_tables(tmp_path: Path, form: str, caplog: pytest.LogCaptureFixture) -> None:
    if form == "one table":  # a fifth of each class is held out: the third copy of an image ends on either side
        table(tmp_path / "train.parquet", [CELLS[0]] * 5 + CELLS[1:6], [0] * 5 + [1] * 5, ["ant", "bee"])
        count, tests = 1, 2
    else:
        table(tmp_path / "train.parquet", [*CELLS], [0, 1] * 3, ["ant", "bee"])
        table(tmp_path / "test.parquet", [CELLS[4], encoded(picture(9)), CELLS[1]], [0, 1, 0], ["ant", "bee"])
        count, tests = 2, 3
    source = open_source(f"{'hf' if form == 'hf' else 'parquet'}:{tmp_path}")
    with caplog.at_level(logging.WARNING):
        assert source.leaked == count
        assert source.leaked == count
    assert caplog.text.count(f"{count} of {tests} test images are byte for byte a training image: 't") == 1
    assert len(source.notes) == 2


CHANGES = {
    "smaller": lambda image: image.resize((48, 48)),
    "larger and oblong": lambda image: image.resize((200, 120)),
    "JPEG at 30": lambda image: Image.open(BytesIO(encoded(image, "JPEG", quality=30))),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.15),
    "paler": lambda image: ImageEnhance.Color(image).enhance(0.6),
}


@pytest.mark.parametrize("change", CHANGES)
def test_near_copies_are_found_and_others_are_not(tmp_path: Path, change: str) -> None:
    for split, seeds in (("train", range(8)), ("test", range(6, 14))):
        place = tmp_path / split / "cut"
        place.mkdir(parents=True)
        for seed in seeds:
            image = photograph(seed)
            (CHANGES[change](image) if split == "test" else image).save(place / f"{seed}.png")
    source = open_source(f"folder:{tmp_path}")
    assert source.leaked == 0
    assert near_duplicates(source) == ["test/cut/6.png", "test/cut/7.png"]


def halved(image: Image.Image) -> Image.Image:
    return image.resize((image.width // 2, image.height // 2)).resize(image.size)


def cropped(image: Image.Image) -> Image.Image:
    x, y = (max(1, round(0.02 * side)) for side in image.size)
    return image.crop((x, y, image.width - x, image.height - y)).resize(image.size)


SMALL_CHANGES = {
    "JPEG at 60": (lambda image: Image.open(BytesIO(encoded(image, "JPEG", quality=60))), 0.95),
    "half and back": (halved, 0.95),
    "darker": (lambda image: ImageEnhance.Brightness(image).enhance(0.9), 0.95),
    "brighter": (lambda image: ImageEnhance.Brightness(image).enhance(1.1), 0.95),
    "2 % off every side": (cropped, 0.2),  # many are missed: a limit that finds them takes other images for copies
}


def thumbnails(images: list[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(to_canvas(one.convert("RGB"), _THUMBNAIL)).transpose(2, 0, 1) for one in images])


def rates(source: Source, rows: np.ndarray, size: int) -> tuple[dict[str, float], float]:
    """Share of test images found again after each change, and of those near to another image of their class."""
    canvas = Preprocessing(size, 1.0, "bicubic", (0.5,) * 3, (0.5,) * 3, "whole")
    images = [Image.fromarray(one.transpose(1, 2, 0)) for one in source.images("test", rows, canvas)]
    own, _ = perceptual_hashes(thumbnails(images))
    found = {}
    for name, (change, _) in SMALL_CHANGES.items():
        changed, _ = perceptual_hashes(thumbnails([change(image) for image in images]))
        found[name] = float((np.bitwise_count(own ^ changed) <= NEAR_BITS).mean())
    labels, others = source.labels("test")[rows], source.labels("train")
    among = np.flatnonzero(np.isin(others, labels))
    among = among[:: max(1, len(among) // 2000)]
    train, _ = perceptual_hashes(np.ascontiguousarray(source.images("train", among, _THUMBNAIL)))
    near = np.bitwise_count(own[:, None] ^ train[None]) <= NEAR_BITS
    return found, float((near & (labels[:, None] == others[among][None])).any(axis=1).mean())


def at_least_as_measured(found: dict[str, float], others: float, chance: float) -> None:
    assert {name: share for name, share in found.items() if share < SMALL_CHANGES[name][1]} == {}
    assert others <= chance


def tiles(side: int = 71) -> ArraySource:
    """Two photographs in tiles that share no pixel, in turn to train and to test: other images of the same class."""
    splits = {}
    for split, first in (("train", 0), ("test", 1)):
        cut, labels = [], []
        for label, name in enumerate(("china.jpg", "flower.jpg")):
            whole = np.asarray(load_sample_image(name))
            for top in range(0, whole.shape[0] - side + 1, side):
                for left in range(first * side, whole.shape[1] - side + 1, 2 * side):
                    tile = whole[top : top + side, left : left + side].transpose(2, 0, 1)
                    if tile.mean(axis=0).std() > 20:  # not the sky: of plain tiles a third loses its hash by JPEG
                        cut.append(tile)
                        labels.append(label)
        ids = tuple(f"{split}/{row}" for row in range(len(cut)))
        splits[split] = Images(np.stack(cut), np.array(labels, dtype=np.int64), ids)
    return ArraySource("tiles", ("temple", "flower"), splits)


def test_small_changes_are_found_and_other_images_of_the_class_are_not() -> None:
    source = tiles()
    rows = np.arange(len(source.labels("test")))
    assert len(rows) >= 20
    at_least_as_measured(*rates(source, rows, 71), chance=0.0)


@pytest.mark.real_data
@pytest.mark.parametrize(("data", "size"), [("caltech101_71", 224), ("cifar100", 32)])
def test_the_same_on_photographs(data: str, size: int) -> None:
    root = Path(os.environ.get("CILLAB_TEST_DATA", Path(__file__).parents[3] / "shared" / "data")) / data
    if not (root / "train.parquet").is_file():
        pytest.skip(f"no {data} under {root.parent}: set CILLAB_TEST_DATA")
    source = open_source(f"parquet:{root}")
    rows = np.sort(np.random.default_rng(1).permutation(len(source.labels("test")))[:100])
    at_least_as_measured(*rates(source, rows, size), chance=0.03)  # a few are the same picture, stored twice


def test_hashes_of_different_photographs_are_far_apart() -> None:
    cuts = np.stack([np.asarray(photograph(seed, 32)).transpose(2, 0, 1) for seed in range(20)])
    cuts = cuts[cuts.std(axis=(1, 2, 3)) > 20]  # not the sky
    hashes, told = perceptual_hashes(cuts)
    apart = np.bitwise_count(hashes[:, None] ^ hashes[None])
    assert len(cuts) > 10 and told.all()
    assert apart[np.triu_indices(len(cuts), 1)].min() > 2 * NEAR_BITS
    negative, _ = perceptual_hashes(255 - cuts)
    assert (np.bitwise_count(hashes ^ negative) > 48).all()  # the other half of the bits


def test_flat_images_resemble_nothing() -> None:
    flat = np.full((2, 3, 32, 32), 90, dtype=np.uint8)
    assert not perceptual_hashes(flat)[1].any()
    hashes, rows = _hashes(array_source(), "test")
    assert len(hashes) == len(rows) == 18


def test_near_copies_are_counted_when_asked_for_and_part_of_the_row(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder(tmp_path / "train", {"cat": 3, "dog": 3})
    (tmp_path / "test" / "cat").mkdir(parents=True)
    (tmp_path / "test" / "dog").mkdir()
    photograph(1).save(tmp_path / "train" / "cat" / "a.png")
    photograph(1).save(tmp_path / "test" / "cat" / "b.jpg")
    photograph(2).save(tmp_path / "test" / "dog" / "c.jpg")
    assert make_stream(f"folder:{tmp_path}", "B0-Inc1").source.near_leaked is None
    with caplog.at_level(logging.WARNING):
        stream = make_stream(f"folder:{tmp_path}", "B0-Inc1", near_duplicates=True)
    assert stream.source.near_leaked == 1
    assert stream.source.notes[-1] == "1 of 2 test images look like a training image: 'test/cat/b.jpg'."
    assert caplog.text.count("look like") == 1
    assert Protocol.model_validate({}).near_leaked is None
