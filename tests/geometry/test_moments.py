"""`Moments` against NumPy's two-pass statistics, for every scatter, batch size and merge order."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from cillab.geometry import moments as module
from cillab.geometry.moments import Moments

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**31)
KINDS = ("trace", "diagonal", "pooled", "full")


def sample(seed: int, n: int = 60, d: int = 5, k: int = 6, offset: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    g = np.random.default_rng(seed)
    labels = g.integers(0, k, n) * 101 + 7  # sparse class ids
    return g.standard_normal((n, d)) + offset + labels[:, None] / 50, labels


def oracle(features: np.ndarray, labels: np.ndarray) -> dict[int, tuple[int, np.ndarray, np.ndarray]]:
    """Count, mean and scatter matrix per class by NumPy, two passes."""
    x, y = features, labels
    found = {}
    for c in np.unique(y):
        rows = x[y == c]
        centred = rows - rows.mean(axis=0)
        found[int(c)] = (len(rows), rows.mean(axis=0), centred.T @ centred)
    return found


def check(moments: Moments, features: np.ndarray, labels: np.ndarray, rtol: float = 1e-10) -> None:
    truth = oracle(features, labels)
    assert set(moments.classes) == set(truth)
    scale = sum(np.trace(s) for _, _, s in truth.values())
    for row, c in enumerate(moments.classes):
        n, mean, scatter = truth[c]
        assert int(moments.counts[row]) == n
        np.testing.assert_allclose(moments.means()[row], mean, rtol=1e-12)
        np.testing.assert_allclose(moments.variances()[row] * n, np.trace(scatter), rtol=rtol, atol=rtol * scale)
        if moments.scatter in ("diagonal", "full"):
            np.testing.assert_allclose(moments.diagonals()[row] * n, np.diag(scatter), rtol=rtol, atol=rtol * scale)
        if moments.scatter == "full":
            np.testing.assert_allclose(moments.covariance(c) * n, scatter, rtol=rtol, atol=rtol * scale)
            if n > 1:
                np.testing.assert_allclose(moments.covariance(c, ddof=1) * (n - 1), scatter, atol=rtol * scale)
    if moments.scatter in ("pooled", "full"):
        pooled = sum(s for _, _, s in truth.values()) / len(labels)
        np.testing.assert_allclose(moments.pooled_within(), pooled, atol=rtol * scale)


@pytest.mark.parametrize("kind", KINDS)
@given(seed=seeds, batch=st.integers(1, 61), cut=st.integers(0, 60))
@few
def test_any_batch_size_and_any_merge_give_the_two_pass_statistics(kind, seed: int, batch: int, cut: int) -> None:
    x, y = sample(seed)
    streamed, left, right = (Moments(5, kind) for _ in range(3))
    for start in range(0, len(x), batch):
        streamed.add(x[start : start + batch], y[start : start + batch])
    left.add(x[:cut], y[:cut])
    right.add(x[cut:], y[cut:])
    for moments in (streamed, left.merged(right), right.merged(left), Moments.of(x, y, kind)):
        check(moments, x, y)
    order = tuple(dict.fromkeys(y.tolist()))
    assert streamed.classes == left.merged(right).classes == order  # order of first appearance


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_do_not_matter(kind, monkeypatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", 7)
    x, y = sample(1)
    check(Moments.of(x, y, kind), x, y)


@pytest.mark.parametrize("kind", KINDS)
def test_merging_shards_is_associative(kind) -> None:
    shards = [Moments.of(*sample(s), scatter=kind) for s in range(3)]
    a, b, c = shards
    one, two = a.merged(b).merged(c).arrays(), a.merged(b.merged(c)).arrays()
    for name in one:
        assert np.allclose(one[name], two[name], rtol=1e-12), name


def test_merging_changes_neither_operand_and_shares_no_memory() -> None:
    a, b = Moments.of(*sample(1), scatter="full"), Moments.of(*sample(2), scatter="full")
    before = {k: v.copy() for k, v in a.arrays().items()}
    merged = a.merged(b)
    merged.add(*sample(3))
    assert all(np.array_equal(before[k], v) for k, v in a.arrays().items())
    assert not np.array_equal(merged.counts[: len(a.classes)], a.counts)


def test_a_large_offset_costs_no_digits() -> None:  # sum of squares minus square of the sum would lose all of them
    x, y = sample(4, offset=1e7)
    check(Moments.of(x, y, "full"), x, y, rtol=1e-8)
    near, far = (Moments.of(*sample(4, offset=o), scatter="trace").variances() for o in (0.0, 1e7))
    assert np.allclose(near, far, rtol=1e-8)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_low_precision_features_are_accumulated_in_float64(dtype) -> None:
    x, y = sample(5)
    low = x.astype(dtype)
    check(Moments.of(low, y, "full"), low.astype(np.float64), y)
    assert Moments.of(low, y).means().dtype == np.float64


def test_caller_tensors_are_untouched() -> None:
    x, y = sample(6)
    copy_x, copy_y = x.copy(), y.copy()
    Moments.of(x, y, "full")
    assert np.array_equal(x, copy_x)
    assert np.array_equal(y, copy_y)


def test_state_round_trip_is_bit_identical_and_goes_on_identically() -> None:
    for kind in KINDS:
        a = Moments.of(*sample(7), scatter=kind)
        b = Moments.from_arrays(a.arrays())
        for m in (a, b):
            m.add(*sample(8))
        assert b.classes == a.classes
        assert b.scatter == kind
        assert all(np.array_equal(v, b.arrays()[k]) for k, v in a.arrays().items())
    empty = Moments.from_arrays(Moments(4, "full").arrays())
    assert (empty.dim, empty.scatter, empty.classes) == (4, "full", ())


def test_one_image_in_a_class_and_an_empty_class() -> None:
    m = Moments(2, "full")
    m.declare([5, 9])
    m.add(np.array([[1.0, 2.0]]), np.array([9]))
    assert m.classes == (5, 9)
    assert m.counts.tolist() == [0, 1]
    assert np.isnan(m.means()[0]).all()
    assert m.means()[1].tolist() == [1, 2]
    assert np.isnan(m.variances()[0])
    assert m.variances()[1] == 0
    assert m.global_mean().tolist() == [1, 2]
    assert np.abs(m.pooled_within()).max() == 0
    merged = m.merged(m)
    assert merged.counts.tolist() == [0, 2]
    assert merged.means()[1].tolist() == [1, 2]
    with pytest.raises(ValueError, match="class 9 has 1 samples: a covariance with ddof 1 needs at least 2"):
        m.covariance(9, ddof=1)


def test_global_mean_and_between_by_hand() -> None:  # class a: 0, 2; class b: 10
    m = Moments.of(np.array([[0.0], [2.0], [10.0]]), np.array([0, 0, 1]), "full")
    assert m.global_mean() == 5.5
    assert m.global_mean("samples") == 4
    assert m.between() == pytest.approx(4.5**2)
    assert m.between("samples") == pytest.approx((2 * 3**2 + 6**2) / 3)


@given(seed=seeds)
@few
def test_total_scatter_is_within_plus_between(seed: int) -> None:
    x, y = sample(seed)
    m = Moments.of(x, y)
    total = np.cov(x.T, bias=True)
    assert np.allclose(m.pooled_within() + m.between("samples"), total, atol=1e-10)


def test_mapped_equals_moments_of_mapped_features() -> None:
    x, y = sample(9)
    a, b = np.random.default_rng(3).normal(size=(5, 5)), np.ones(5)
    check(Moments.of(x, y, "full").mapped(a, b), x @ a.T + b, y)


def test_selected_keeps_the_rows_asked_for() -> None:
    x, y = sample(10)
    m = Moments.of(x, y, "full")
    two = m.classes[3], m.classes[1]
    picked = m.selected(two)
    assert picked.classes == two
    assert np.array_equal(picked.covariance(two[0]), m.covariance(two[0]))
    with pytest.raises(ValueError, match="needs Moments"):
        Moments.of(x, y).selected(two)


def test_non_finite_features_are_refused_by_class_and_count_and_change_nothing() -> None:
    x, y = sample(11)
    m = Moments.of(x, y)
    before = m.arrays()
    bad, labels = np.zeros((4, 5)), np.array([3, 3, 8, 4])
    bad[0, 1], bad[1, 0], bad[1, 2], bad[2, 4] = np.nan, np.inf, np.nan, -np.inf
    with pytest.raises(ValueError, match=r"NaN or Inf in 3 of 4 images \(class 3: 2, class 8: 1\)"):
        m.add(bad, labels)
    assert all(np.array_equal(v, m.arrays()[k]) for k, v in before.items())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Moments(0), "dim must be at least 1, got 0"),
        (lambda: Moments(3).add(np.zeros((2, 4)), np.zeros(2).astype(int)), r"features \[image, 3\].*got \[2, 4\]"),
        (lambda: Moments(3).merged(Moments(4)), "Cannot merge moments of dim 3.*dim 4"),
        (lambda: Moments(3).merged(Moments(3, "full")), "Cannot merge"),
        (lambda: Moments(3).covariance(0), "covariance.. needs Moments.scatter='full'., got 'pooled'"),
        (lambda: Moments(3, "trace").pooled_within(), "needs Moments.scatter='pooled' or 'full'"),
        (lambda: Moments.from_arrays({"means": np.zeros((1, 2))}), "Not the state of Moments"),
        (
            lambda: Moments.from_arrays({**Moments(3).arrays(), "counts": np.zeros(2)}),
            r"'counts' has shape \[2\], expected \[0\]",
        ),
    ],
)
def test_errors_say_what_was_given(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_unknown_class_is_named() -> None:
    with pytest.raises(KeyError, match=r"Unknown class 5\. Valid"):
        Moments.of(*sample(0), scatter="full").covariance(5)
