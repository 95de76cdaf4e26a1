"""Rank correlations against SciPy, pingouin's definition of the partial one, and planted relations."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from cillab.geometry import association as a

few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**31)


@given(seed=seeds, n=st.integers(4, 60), ties=st.booleans())
@few
def test_spearman_is_scipys_and_sees_only_the_order(seed: int, n: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, n))
    x, y = (np.round(2 * x), np.round(y)) if ties else (x, y)
    wanted = stats.spearmanr(x, y).statistic if np.ptp(x) and np.ptp(y) else np.nan
    assert a.spearman(x, y) == pytest.approx(wanted, abs=1e-12, nan_ok=True)
    assert a.spearman(np.exp(x), -y) == pytest.approx(-wanted, abs=1e-12, nan_ok=True)
    assert a.spearman(np.r_[x, np.nan], np.r_[y, 1.0]) == pytest.approx(wanted, abs=1e-12, nan_ok=True)


@given(seed=seeds)
@few
def test_the_partial_one_is_the_correlation_of_residual_ranks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=40)
    x, y = z + rng.normal(size=40), z - rng.normal(size=40)
    rank = [stats.rankdata(values) for values in (x, y, z)]
    design = np.c_[np.ones(40), rank[2]]
    rest = [r - design @ np.linalg.lstsq(design, r, rcond=None)[0] for r in rank[:2]]
    assert a.partial_spearman(x, y, z) == pytest.approx(stats.pearsonr(*rest).statistic, abs=1e-10)


def test_what_a_third_quantity_explains_is_gone_and_the_rest_stays() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=2000)
    x, y = z + 0.3 * rng.normal(size=2000), z + 0.3 * rng.normal(size=2000)
    assert a.spearman(x, y) > 0.85
    assert abs(a.partial_spearman(x, y, z)) < 0.06
    assert a.partial_spearman(x, y, rng.normal(size=2000)) == pytest.approx(a.spearman(x, y), abs=0.02)
    assert np.isnan(a.partial_spearman(x, z, z))


def paradox() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inside every group y falls with x, over the groups it rises."""
    groups = np.repeat(np.arange(8), 10)
    inside = np.tile(np.arange(10.0), 8)
    return 20 * groups + inside, 5.0 * groups - 0.1 * inside, groups


def test_between_and_within_tell_simpsons_paradox() -> None:
    x, y, groups = paradox()
    assert a.between(x, y, groups) == pytest.approx(1)
    assert a.within(x, y, groups) == pytest.approx(-1)
    assert a.spearman(x, y) > 0.9
    assert np.isnan(a.within(x[:2], y[:2], groups[:2]))


def test_within_is_the_correlation_of_ranks_taken_group_by_group() -> None:
    rng = np.random.default_rng(3)
    groups = rng.permutation(np.repeat([5, 1, 8, 2], [6, 2, 9, 4]))  # the group of two says nothing
    x, y = np.round(3 * rng.normal(size=(2, len(groups))))
    parts = [
        [2 * (stats.rankdata(v[groups == g]) - 1) / ((groups == g).sum() - 1) - 1 for g in (5, 8, 2)] for v in (x, y)
    ]
    wanted = stats.pearsonr(*map(np.concatenate, parts)).statistic
    assert a.within(x, y, groups) == pytest.approx(wanted, abs=1e-12)


def test_groups_in_which_something_is_constant_have_no_say() -> None:
    """Four groups agree wholly; in two x does not move, in one y once NaN is out, and one has two observations."""
    groups = np.repeat(np.arange(8), [5] * 7 + [2])
    x, y = np.random.default_rng(4).normal(size=(2, len(groups)))
    agree = groups < 4
    y[agree] = np.exp(x[agree])
    x[(groups == 4) | (groups == 5)] = 0
    y[groups == 6] = [1, 1, 1, 1, np.nan]
    assert a.within(x, y, groups) == pytest.approx(1)
    found = a.correlation(a.within, x, y, groups, draws=50)
    assert (found.value, found.low, found.high) == pytest.approx((1, 1, 1))
    assert (found.count, found.groups) == (20, 4)
    assert a.has_say(x, y, groups).tolist() == agree.tolist()
    rest = a.correlation(a.within, x[~agree], y[~agree], groups[~agree])
    assert np.isnan([rest.value, rest.low, rest.high]).all() and (rest.count, rest.groups) == (0, 0)


def test_groups_of_different_size_weigh_by_their_observations_and_names_do_not_matter() -> None:
    rng = np.random.default_rng(1)
    groups = np.repeat([3, 9, 4], [5, 30, 8])
    x, y = rng.normal(size=(2, len(groups)))
    other = np.array([7, 0, 2])[np.searchsorted([3, 4, 9], groups)]
    assert a.within(x, y, groups) == pytest.approx(a.within(x, y, other), abs=1e-12)
    assert a.between(x, y, groups) == pytest.approx(a.between(x, y, other), abs=1e-12)


def test_the_interval_covers_as_often_as_it_says() -> None:
    """Groups of 4 that share a component: a bootstrap over rows would be far too narrow."""
    rng, hits, narrow = np.random.default_rng(2), 0, 0
    groups = np.repeat(np.arange(30), 4)
    for trial in range(40):
        shared = rng.normal(size=(2, 30))
        x, y = (shared[i][groups] + 0.3 * rng.normal(size=120) for i in (0, 1))  # the true correlation is 0
        low, high = a.bootstrapped(lambda i, _, x=x, y=y: a.spearman(x[i], y[i]), groups, draws=100, seed=trial)
        hits += low <= 0 <= high
        low, high = a.bootstrapped(lambda i, _, x=x, y=y: a.spearman(x[i], y[i]), np.arange(120), 100, seed=trial)
        narrow += low <= 0 <= high
    assert hits >= 34  # 95 % of 40 is 38
    assert narrow < hits - 6


def test_a_group_drawn_twice_is_two_groups() -> None:
    x, y, groups = paradox()
    found = a.correlation(a.within, x, y, groups, draws=200)
    assert (found.value, found.low, found.high) == pytest.approx((-1, -1, -1))
    assert (found.count, found.groups) == (80, 8)


def test_too_little_is_nan_not_a_number_that_looks_right() -> None:
    nothing = a.correlation(a.spearman, np.full(5, np.nan), np.arange(5.0), np.arange(5))
    assert np.isnan(nothing.value) and nothing.count == 0
    two = a.correlation(a.spearman, np.arange(6.0), np.arange(6.0), np.repeat([0, 1], 3))
    assert two.value == pytest.approx(1)
    assert np.isnan(two.low)
    assert np.isnan(a.spearman(np.ones(5), np.arange(5.0)))
