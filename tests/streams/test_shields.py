"""The bundled world: bytes that depend on nothing but the request, exact names, masks that cover the charge.

Oracles: the same picture rendered alone, in another order and in another process of drawing; the enumeration of all
names; and, for masks, the pixels that change when nothing but the tincture of the charge changes.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cillab.streams import shields
from cillab.streams.shields import CLASSES, FAMILIES, PRETRAINING, STYLES, Composition, render
from cillab.streams.shields.charges import CHARGES

FEW = np.arange(12, dtype=np.uint64)


def test_one_hundred_classes_in_ten_families_and_many_others() -> None:
    assert len(CLASSES) == 100
    assert len(FAMILIES) == 10
    assert len(PRETRAINING) >= 1500
    assert [shields.family_of(c) for c in (0, 9, 10, 99)] == [0, 0, 1, 9]


@pytest.mark.parametrize(
    ("class_id", "colours", "charge"),
    [
        (0, [[79.88, 76.03, 77.36], [140.6, 119.55, 86.89]], [109, 232]),
        (37, [[150.52, 127.82, 101.48], [109.26, 84.77, 72.01]], [287, 255]),
        (99, [[89.52, 84.11, 94.04], [70.72, 69.48, 49.08]], [91, 230]),
    ],
)
def test_this_version_of_the_world_draws_these_pictures(class_id: int, colours: list, charge: list[int]) -> None:
    """Rendered images are kept in a cache under WORLD_VERSION: who changes what is drawn has to raise it, then this."""
    found = shields.class_images(class_id, "train", 2)
    mean = found.images.reshape(2, 3, -1).mean(axis=-1)
    assert shields.WORLD_VERSION == 1
    assert np.allclose(mean, colours, atol=0.1), "other pictures under an old version: raise WORLD_VERSION"
    assert found.masks.reshape(2, -1).sum(axis=-1).tolist() == charge


def test_pretraining_never_saw_a_class() -> None:
    assert not set(CLASSES) & set(PRETRAINING)
    assert len(set(PRETRAINING)) == len(PRETRAINING)


def test_every_part_of_a_class_occurs_in_pretraining() -> None:  # else zero-shot could not know the word
    for part in ("division", "field", "second", "charge", "tincture"):
        assert {getattr(c, part) for c in CLASSES} <= {getattr(c, part) for c in PRETRAINING}


def test_names_are_plain_and_unique() -> None:
    names = [c.name for c in (*CLASSES, *PRETRAINING)]
    assert len(set(names)) == len(names)
    assert (
        Composition("striped", "blue", "white", "star", "gold").name == "gold star on a blue and white striped shield"
    )
    assert Composition("plain", "red", "red", "key", "white").name == "white key on a red shield"


def test_families_share_what_their_name_says() -> None:
    members = [CLASSES[10 * f : 10 * f + 10] for f in range(10)]
    for family in members[:6]:
        assert len({c.charge for c in family}) == 1
    for family in members[6:]:
        assert len({(c.division, c.field, c.second) for c in family}) == 1


def test_there_are_confusions_to_expect() -> None:
    pairs = shields.closest_pairs()
    assert len(pairs) >= 50
    assert {c for pair in pairs for c in pair} == set(range(100))  # every class has a near twin


@pytest.mark.parametrize("size", [64, 112])  # under and over the size at which look-ups become bilinear
def test_bytes_do_not_depend_on_batch_mates_or_order(size: int) -> None:
    together = render(CLASSES[:12], FEW, size)
    order = np.random.default_rng(0).permutation(12)
    shuffled = render([CLASSES[i] for i in order], FEW[order], size)
    np.testing.assert_array_equal(shuffled.images, together.images[order])
    np.testing.assert_array_equal(shuffled.masks, together.masks[order])
    alone = render([CLASSES[7]], FEW[7:8], size)
    np.testing.assert_array_equal(alone.images[0], together.images[7])
    assert (render(CLASSES[:12], FEW + np.uint64(100), size).images != together.images).mean() > 0.5


def test_a_longer_list_begins_with_the_shorter_one() -> None:
    short, long = (shields.class_images(5, "train", count) for count in (3, 40))
    np.testing.assert_array_equal(short.images, long.images[:3])
    np.testing.assert_array_equal(short.masks, long.masks[:3])


def test_splits_seeds_and_classes_share_no_image_seed() -> None:
    lists = [shields.image_seeds(c, split, 50, seed) for c in (0, 1, 99) for split in shields.SPLITS for seed in (0, 1)]
    everything = np.concatenate(lists)
    assert len(np.unique(everything)) == len(everything)


@pytest.mark.parametrize("charge", CHARGES)
def test_mask_covers_the_charge(charge: str) -> None:
    """Another tincture of the charge changes the picture inside the mask, and outside only along its soft edge."""
    style = dataclasses.replace(STYLES["clean"], blur=0.0)
    kinds = [Composition("plain", "blue", "blue", charge, tincture) for tincture in ("gold", "white", "red")]
    seeds = np.full(3, 3, dtype=np.uint64)
    images, masks = render(kinds, seeds, 128, style)
    np.testing.assert_array_equal(masks[0], masks[1])
    changed = np.abs(images[0].astype(int) - images[2]).max(axis=0) > 40
    assert (changed & masks[0]).sum() >= 0.9 * masks[0].sum()
    assert (changed & masks[0]).sum() >= 0.85 * changed.sum()
    assert 0.015 < masks[0].mean() < 0.25


def test_obstacles_take_away_from_the_mask() -> None:
    clear = dataclasses.replace(STYLES["worn"], obstacles=0.0)
    blocked = dataclasses.replace(STYLES["worn"], obstacles=1.0)
    seeds = np.arange(40, dtype=np.uint64)
    free, hidden = (render(CLASSES[:40], seeds, 64, style).masks for style in (clear, blocked))
    assert not (hidden & ~free).any()
    assert 0.3 < hidden.sum() / free.sum() < 0.9


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("size", [8, 33, 64, 224])
def test_sizes_and_ranges(size: int, style: str) -> None:
    images, masks = render(CLASSES[:5], FEW[:5], size, style)
    assert images.shape == (5, 3, size, size)
    assert images.dtype == np.uint8
    assert masks.shape == (5, size, size)
    assert masks.dtype == np.bool_
    assert 40 < images.mean() < 200  # neither black nor burnt out
    assert images.std() > 25


def test_nothing_global_is_touched() -> None:
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - the global state is the subject
    seeds = FEW.copy()
    render(CLASSES[:12], seeds)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    np.testing.assert_array_equal(seeds, FEW)


def test_dataset_is_class_by_class_and_the_cache_changes_nothing(tmp_path: Path) -> None:
    images, labels, masks = shields.dataset("test", 2, size=16)
    assert labels.tolist() == [c for c in range(100) for _ in range(2)]
    np.testing.assert_array_equal(images[14:16], shields.class_images(7, "test", 2, size=16).images)
    for _ in ("made", "read"):
        again = shields.dataset("test", 2, size=16, cache=tmp_path)
        np.testing.assert_array_equal(again[0], images)
        np.testing.assert_array_equal(again[2], masks)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:1000])  # a damaged file is made again, not served
    np.testing.assert_array_equal(shields.dataset("test", 2, size=16, cache=tmp_path)[0], images)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Composition("plain", "blue", "red", "star", "gold"), "plain shield cannot be blue and red"),
        (lambda: Composition("plain", "blue", "blue", "stare", "gold"), "'stare'. Valid: star, crescent"),
        (lambda: render(CLASSES[:2], FEW), "one seed per composition, got 2 and 12"),
        (lambda: render(CLASSES[:12], FEW, 4), "smallest size is 8"),
        (lambda: render(CLASSES[:12], FEW, 64, "dirty"), "'dirty'. Valid: clean, worn"),
        (lambda: shields.class_images(100, "train", 1), "classes 0 to 99"),
        (lambda: shields.class_images(0, "val", 1), "'val'. Valid: train, test, validation"),
        (lambda: shields.family_of(-1), "classes 0 to 99"),
    ],
)
def test_errors_say_what_was_given(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
