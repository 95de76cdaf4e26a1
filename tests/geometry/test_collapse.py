"""The whole record: perfect collapse, few and empty classes, frozen backbones, blocks by age, notes."""

import math
from inspect import unwrap  # our own errors, behind the shape checker of the tests

import numpy as np
import pytest

from cillab.demo import demo_runs
from cillab.geometry.collapse import Collapse, blocks, collapse
from cillab.geometry.etf import simplex_etf
from cillab.geometry.incremental import READING, prototype_gap, reworded
from cillab.geometry.moments import Moments
from cillab.runs import Run


def gen(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def cloud(seed: int, k: int = 6, d: int = 9, n: int = 20, noise: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    g = gen(seed)
    labels = np.arange(k).repeat(n)
    means = g.standard_normal((k, d))
    return means[labels] + noise * g.standard_normal((k * n, d)), labels


def everything(x: np.ndarray, y: np.ndarray, scatter="full", **options) -> Collapse:
    m = Moments.of(x, y, scatter)
    return collapse(m, m.means(), np.zeros(len(m.classes)), features=x, labels=y, **options)


@pytest.mark.parametrize(("k", "d"), [(3, 2), (10, 64), (20, 19)])
def test_a_perfect_etf_cloud_is_zero_zero_zero_one(k: int, d: int) -> None:
    v = simplex_etf(k, d, gen(0))
    x, y = (3 * v + 2).repeat(5, axis=0), np.arange(k).repeat(5)
    bias = -2 * v.sum(axis=1)  # undoes the shift by 2; without it head and nearest mean disagree
    c = collapse(Moments.of(x, y, "full"), v, bias, features=x, labels=y)
    assert (c.nc1, c.nc2, c.nc3, c.nc4) == pytest.approx((0, 0, 0, 1), abs=1e-7)
    zero = ("nc1_svd", "nc1_quotient", "cdnv", "nc2_equinorm", "nc2_equinorm_head", "nc2_equiangularity")
    zero += ("nc2_maximal_angle", "gnc2_log_variance", "gnc2_riesz_variance", "nc3_uniformity", "nc3_structure")
    assert {name: c.scalars()[name] for name in zero} == pytest.approx(dict.fromkeys(zero, 0.0), abs=1e-7)
    assert c.effective_rank_between == pytest.approx(k - 1)
    assert c.participation_between == pytest.approx(k - 1)
    assert c.nc3_cosine == pytest.approx(1)


def test_noise_takes_every_number_away_from_collapse() -> None:
    c = everything(*cloud(0))
    assert min(c.nc1, c.nc2, c.nc2_equinorm, c.nc2_maximal_angle, c.nc2_equiangularity, c.cdnv) > 0.01
    assert c.spectral is not None
    assert c.nc1 == pytest.approx(float((c.spectral.within / c.spectral.eigenvalues).sum()) / 6)
    assert c.nc1_quotient == pytest.approx(float(c.per_class_quotient.mean()))  # balanced classes
    assert c.cdnv == pytest.approx(float(np.nanmean(c.pair_cdnv)))
    assert c.per_class_top_share is not None
    assert c.per_class_top_share.shape == (6,)


def test_order_of_classes_batches_and_shards_do_not_matter() -> None:
    x, y = cloud(1)
    whole = collapse(Moments.of(x, y)).scalars()
    shuffle = gen(2).permutation(len(x))
    parts = [Moments.of(x[i], y[i]) for i in np.split(shuffle, range(17, len(x), 17))]
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merged(part)
    assert collapse(merged).scalars() == pytest.approx(whole, rel=1e-8, abs=1e-10, nan_ok=True)


def test_head_rows_may_come_in_another_order() -> None:
    x, y = cloud(3)
    m = Moments.of(x, y)
    w, b = gen(4).standard_normal((6, 9)), gen(5).standard_normal(6)
    straight = collapse(m, w, b, features=x, labels=y)
    flipped = collapse(m, w[::-1], b[::-1], head_classes=range(5, -1, -1), features=x, labels=y)
    assert flipped.scalars() == pytest.approx(straight.scalars(), nan_ok=True)
    unnamed = collapse(m, w[::-1], b[::-1], features=x, labels=y)
    assert unnamed.nc3 != pytest.approx(straight.nc3, abs=1e-3)
    logits = collapse(m, features=x, labels=y, logits=(x @ w.T + b)[:, ::-1], head_classes=range(5, -1, -1))
    assert logits.nc4 == straight.nc4


def test_it_works_from_the_first_class_on() -> None:
    x, y = cloud(6)
    one = everything(x[y < 1], y[y < 1], task_of_class={0: 0})
    assert all(math.isnan(v) for v in (one.nc1, one.nc2, one.nc3, one.cdnv, one.nc1_quotient))
    assert one.nc4 == 1
    assert any(n.startswith("1 class:") for n in one.notes)
    two = everything(x[y < 2], y[y < 2])
    assert two.nc1 > 0
    assert (two.nc2, two.nc2_equinorm, two.nc2_maximal_angle) == pytest.approx((0, 0, 0), abs=1e-9)
    assert math.isnan(two.nc2_equiangularity)
    assert any("by construction" in n for n in two.notes)
    none = collapse(Moments(4))
    assert none.classes == ()
    assert all(math.isnan(v) for v in none.scalars().values())


def test_one_image_classes_empty_classes_and_more_classes_than_dimensions() -> None:
    x, y = cloud(7, k=12, d=3, n=4)
    keep = (y != 5) | (np.arange(len(y)) % 4 == 0)  # one image of class 5
    m = Moments(3)
    m.declare([99])
    m.add(x[keep], y[keep])
    c = collapse(m)
    assert 99 not in c.classes
    assert len(c.classes) == 12
    assert "Classes without an image are left out: [99]." in c.notes
    assert "Classes with one image have no spread: [5]." in c.notes
    assert READING["dimension"] in c.notes
    assert all(math.isfinite(v) for n, v in c.scalars().items() if n[:3] in ("nc1", "nc2", "gnc") and "head" not in n)
    singles = collapse(Moments.of(x[::4], y[::4]))
    assert singles.nc1 == 0  # and the note says why nobody may celebrate
    assert any(n.startswith("1 image per class.") for n in singles.notes)


def test_equal_means_are_explained_not_raised() -> None:
    c = collapse(Moments.of(np.ones((6, 2)), np.arange(6) // 2))
    assert math.isnan(c.nc2)
    assert any(n.startswith("Undefined here: class mean") for n in c.notes)


def test_notes_of_older_runs_are_read_in_the_words_of_today() -> None:
    for note in everything(*cloud(8), data="test").notes:
        assert reworded(note) == note
    assert reworded("20 to 20 images per class. Few.") == "20 images per class. Few."
    assert reworded("1 to 1 images per class. Few.") == "1 image per class. Few."
    assert reworded("1 to 12 images per class. Few.") == "1 to 12 images per class. Few."
    old = "On a frozen backbone old classes move in NC1 and NC2 only through the global mean; any other movement"
    assert reworded(f"{old} is a bug.") == READING["frozen"]
    for run in map(Run, demo_runs().values()):
        notes = run.snapshot(run.steps[-1]).notes()
        assert READING["frozen"] in notes and not any("is a bug" in note for note in notes)


def test_notes_always_carry_how_to_read_the_numbers() -> None:
    c = everything(*cloud(8), data="test")
    assert c.notes[0].startswith("Measured on test images. Neural collapse is a statement about training features")
    for key in ("prototypes", "head", "target", "frozen", "companions"):
        assert READING[key] in c.notes
    assert READING["dimension"] not in c.notes
    assert any(n.startswith("20 images per class.") for n in c.notes)
    trace = collapse(Moments.of(*cloud(8), scatter="trace"))
    assert math.isnan(trace.nc1)
    assert trace.nc1_quotient == pytest.approx(c.nc1_quotient)
    assert any("hold no Sigma_W" in n for n in trace.notes)


def test_on_a_frozen_backbone_old_classes_move_only_through_the_global_mean() -> None:
    x, y = cloud(9, k=8)
    old, new = y < 5, y >= 5
    before = Moments.of(x[old], y[old], "full")
    after = before.merged(Moments.of(x[new], y[new], "full"))
    kept = after.selected(before.classes)
    assert collapse(kept).scalars() == pytest.approx(collapse(before).scalars(), rel=1e-12, nan_ok=True)
    first, second = collapse(before), collapse(after)
    assert np.allclose(second.pair_cdnv[:5, :5], first.pair_cdnv, equal_nan=True, rtol=1e-12)  # no mu_G in it
    assert first.cosines is not None
    assert second.cosines is not None
    assert not np.allclose(second.cosines[:5, :5], first.cosines, atol=1e-3)  # mu_G moved
    shifted = kept.means() - after.global_mean()  # ... and only mu_G: with the later one the old block is the same
    unit = shifted / np.linalg.norm(shifted, axis=1, keepdims=True)
    assert np.allclose(unit @ unit.T, second.cosines[:5, :5], atol=1e-12)


def test_blocks_by_age_by_hand() -> None:
    cosines = np.array([[1.0, 0.1, 0.2, 0.3], [0.1, 1, 0.4, 0.5], [0.2, 0.4, 1, 0.6], [0.3, 0.5, 0.6, 1]])
    b = blocks(cosines, [0, 0, 1, 1])
    assert b.target == pytest.approx(-1 / 3)
    assert b.old_old.cosines.tolist() == pytest.approx([0.1])
    assert sorted(b.old_new.cosines.tolist()) == pytest.approx([0.2, 0.3, 0.4, 0.5])
    assert b.new_new.cosines.tolist() == pytest.approx([0.6])
    assert b.old_new.mean == pytest.approx(0.35)
    assert b.old_new.deviation == pytest.approx(0.35 + 1 / 3)
    assert b.old_new.std == pytest.approx(math.sqrt(0.0125))
    assert blocks(cosines, [0, 0, 1, 1], target=0.35).old_new.deviation == pytest.approx(0.1)
    first = blocks(cosines, [0, 0, 0, 0])
    assert math.isnan(first.old_old.mean)
    assert len(first.new_new.cosines) == 6
    with pytest.raises(ValueError, match="3 tasks of classes do not fit"):
        blocks(cosines, [0, 0, 1])


def test_the_target_moves_with_the_classes_and_an_etf_stays_on_it() -> None:
    for k in (4, 8):
        v = simplex_etf(k, 16, gen(0))
        x, y = v.repeat(3, axis=0), np.arange(k).repeat(3)
        b = everything(x, y, task_of_class={c: c // 4 for c in range(k)}).blocks
        assert b is not None
        assert b.target == pytest.approx(-1 / (k - 1))
        assert b.new_new.deviation == pytest.approx(0, abs=1e-12)


def test_prototype_gap_by_hand() -> None:
    stored, now = np.array([[0.0, 0], [4, 0]]), np.array([[3.0, 4], [4, 0]])
    gap = prototype_gap(stored, now, np.array([25.0, 1.0]))
    assert gap.relative.tolist() == [1, 0]
    assert gap.value == 0.5
    assert prototype_gap(now, now, np.ones(2)).value == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head_classes": [0, 1]}, "lack classes"),
        ({"head_weight": np.zeros((6, 4))}, r"Expected a head \[6, 9\].*got \[6, 4\]"),
        ({"head_bias": np.zeros(6)}, "head_bias was given without head_weight"),
        ({"task_of_class": {0: 0}}, r"no task for classes \[1, 2, 3, 4, 5\]"),
        ({"data": "validation"}, "Unknown data 'validation'. Valid: unstated, train, memory, test"),
        ({"logits": np.zeros((5, 3))}, "3 columns for 6 head classes"),
    ],
)
def test_errors_say_what_was_given(options, message: str) -> None:
    m = Moments.of(*cloud(0))
    with pytest.raises(ValueError, match=message):
        unwrap(collapse)(m, **options)
