"""Gaussian transport against hand-made Gaussians, POT, and the identities that define the map."""

import math

import numpy as np
import ot
import pytest
from hypothesis import given, settings, strategies as st

from cillab.geometry import transport

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**31)


def randn(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def covariance(seed: int, d: int) -> np.ndarray:
    x = randn(seed, 3 * d, d)
    return x.T @ x / (3 * d)


@given(seed=seeds, d=st.integers(1, 8))
@few
def test_map_and_distance_agree_with_pot_and_with_their_identities(seed: int, d: int) -> None:
    m_s, m_t, c_s, c_t = randn(seed, d), randn(seed + 1, d), covariance(seed, d), covariance(seed + 1, d)
    a, b = transport.gaussian_map(m_s, c_s, m_t, c_t)
    pot_a, pot_b = ot.gaussian.bures_wasserstein_mapping(m_s, m_t, c_s, c_t)
    assert np.allclose(a, pot_a, atol=1e-6)
    assert np.allclose(b, pot_b.flatten(), atol=1e-6)
    assert np.array_equal(a, a.T)
    assert np.linalg.eigvalsh(a).min() > 0
    assert np.allclose(a @ c_s @ a, c_t, atol=1e-9)
    assert np.allclose(a @ m_s + b, m_t, atol=1e-9)
    w2 = transport.w2_gaussian(m_s, c_s, m_t, c_t)
    assert w2 == pytest.approx(float(ot.gaussian.bures_wasserstein_distance(m_s, m_t, c_s, c_t)), abs=1e-6)
    eye = np.eye(d)
    assert np.square(w2) == pytest.approx(
        float(np.square(m_s - m_t).sum() + ((a - eye) @ c_s @ (a - eye)).trace()), abs=1e-9
    )
    assert w2 == pytest.approx(transport.w2_gaussian(m_t, c_t, m_s, c_s), abs=1e-9)


def test_diagonal_gaussians_by_hand() -> None:
    c_s, c_t = np.diag(np.array([1.0, 4.0])), np.diag(np.array([9.0, 1.0]))
    a, b = transport.gaussian_map(np.zeros(2), c_s, np.array([3.0, 4.0]), c_t)
    assert np.allclose(a, np.diag(np.array([3.0, 0.5])), atol=1e-12)
    assert b.tolist() == pytest.approx([3, 4])
    w2 = transport.w2_gaussian(np.zeros(2), c_s, np.array([3.0, 4.0]), c_t)
    assert w2 == pytest.approx(math.sqrt(25 + (1 - 3) ** 2 + (2 - 1) ** 2))


def test_a_planted_symmetric_map_is_recovered_and_a_rotation_is_invisible() -> None:
    c, m = covariance(0, 5), randn(1, 5)
    a = covariance(2, 5) + np.eye(5)
    found, offset = transport.gaussian_map(m, c, a @ m + 1, a @ c @ a)
    assert np.allclose(found, a, atol=1e-9)
    assert np.allclose(offset, np.ones(5), atol=1e-8)
    eye = np.eye(5)
    q = np.linalg.qr(randn(3, 5, 5)).Q
    unseen, _ = transport.gaussian_map(m, 2 * eye, m, q @ (2 * eye) @ q.T)
    assert np.allclose(unseen, eye, atol=1e-9)  # the law did not change, so nothing moves


def test_rank_deficient_covariances_stay_finite() -> None:
    x, y = randn(0, 4, 10), randn(1, 3, 10)  # rank 4 and 3 in 10 dimensions
    c_s, c_t = x.T @ x, y.T @ y
    a, _ = transport.gaussian_map(np.zeros(10), c_s, np.zeros(10), c_t)
    assert np.isfinite(a).all()
    assert np.allclose(a @ c_s @ a, c_t, atol=1e-3 * float(np.abs(c_t).max()))
    assert transport.bures(c_s, c_s) == pytest.approx(0, abs=1e-6)
    assert transport.bures(c_s, np.zeros((10, 10))) == pytest.approx(float(c_s.trace()))


def test_shrink_keeps_the_trace_and_bounds_the_condition_number() -> None:
    c = np.stack([np.diag(np.array([4.0, 0.0])), np.eye(2)])
    s = transport.shrink(c, 0.1)
    assert s[0].diagonal().tolist() == pytest.approx([3.8, 0.2])
    assert np.allclose(s[1], np.eye(2))
    assert np.array_equal(transport.shrink(c, 0.0), c)


@given(seed=seeds)
@few
def test_costs_are_the_pairwise_squared_distances(seed: int) -> None:
    means, covs = randn(seed, 5, 4), np.stack([covariance(seed + i, 4) for i in range(5)])
    costs = transport.gaussian_costs(means[:2], covs[:2], means[2:], covs[2:])
    for i in range(2):
        for j in range(3):
            w2 = transport.w2_gaussian(means[i], covs[i], means[2 + j], covs[2 + j])
            assert costs[i, j] == pytest.approx(np.square(w2), rel=1e-9)


@given(seed=seeds, scale=st.floats(1e-3, 1e3))
@few
def test_plan_has_its_marginals_and_ignores_the_scale_of_costs(seed: int, scale: float) -> None:
    cost, weights = np.square(randn(seed, 4, 3)), np.square(randn(seed + 1, 4)) + 0.1
    plan = transport.class_plan(cost, weights)
    assert np.allclose(plan.sum(axis=1), weights / weights.sum(), atol=1e-6)
    assert np.allclose(plan.sum(axis=0), np.full((3,), 1 / 3), atol=1e-6)
    assert np.allclose(transport.class_plan(scale * cost, weights), plan, atol=1e-6)
    # the optimality condition of entropic transport: log P + C / eps splits into row + column terms
    dual = np.log(plan) + cost / cost.max() / 0.05
    residue = dual - dual.mean(axis=0) - dual.mean(axis=1, keepdims=True) + dual.mean()
    assert np.abs(residue).max() < 1e-6


def test_plan_goes_from_one_to_one_to_all_to_all() -> None:
    cost = 1 - np.eye(3)
    assert np.allclose(transport.class_plan(cost, regularisation=0.02), np.eye(3) / 3, atol=1e-6)
    assert np.allclose(transport.class_plan(cost, regularisation=1e3), np.ones((3, 3)) / 9, atol=1e-3)
    exact = ot.emd(np.ones(3) / 3, np.ones(3) / 3, cost)
    assert np.allclose(transport.class_plan(cost, regularisation=0.02), exact, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: transport.shrink(np.eye(2), 1.5), r"in \[0, 1\], got 1.5"),
        (lambda: transport.class_plan(-np.eye(2)), "finite costs >= 0"),
        (lambda: transport.class_plan(np.eye(2), np.array([1.0, 0.0])), "weights_s must be 2 positive numbers"),
        (
            lambda: transport.gaussian_map(np.zeros(2), np.zeros((2, 2)), np.zeros(2), np.eye(2)),
            "cov_s has no positive eigenvalue",
        ),
        (
            lambda: transport.gaussian_map(np.zeros(2), np.eye(2), np.zeros(2), np.array([[1.0, 1], [0, 1]])),
            "cov_t must be a finite symmetric",
        ),
    ],
)
def test_errors_say_what_was_given(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
