"""Gaussian transport against hand-made Gaussians, POT, and the identities that define the map."""

import math

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from cillab.geometry import transport

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**31)


def randn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def covariance(seed: int, d: int) -> Tensor:
    x = randn(seed, 3 * d, d)
    return x.T @ x / (3 * d)


@given(seed=seeds, d=st.integers(1, 8))
@few
def test_map_and_distance_agree_with_pot_and_with_their_identities(seed: int, d: int) -> None:
    m_s, m_t, c_s, c_t = randn(seed, d), randn(seed + 1, d), covariance(seed, d), covariance(seed + 1, d)
    a, b = transport.gaussian_map(m_s, c_s, m_t, c_t)
    pot_a, pot_b = ot.gaussian.bures_wasserstein_mapping(m_s, m_t, c_s, c_t)
    assert torch.allclose(a, pot_a, atol=1e-6)
    assert torch.allclose(b, pot_b.flatten(), atol=1e-6)
    assert torch.equal(a, a.T)
    assert torch.linalg.eigvalsh(a).min() > 0
    assert torch.allclose(a @ c_s @ a, c_t, atol=1e-9)
    assert torch.allclose(a @ m_s + b, m_t, atol=1e-9)
    w2 = transport.w2_gaussian(m_s, c_s, m_t, c_t)
    assert w2.item() == pytest.approx(float(ot.gaussian.bures_wasserstein_distance(m_s, m_t, c_s, c_t)), abs=1e-6)
    eye = torch.eye(d, dtype=torch.float64)
    assert w2.square().item() == pytest.approx(
        float((m_s - m_t).square().sum() + ((a - eye) @ c_s @ (a - eye)).trace()), abs=1e-9
    )
    assert w2.item() == pytest.approx(transport.w2_gaussian(m_t, c_t, m_s, c_s).item(), abs=1e-9)


def test_diagonal_gaussians_by_hand() -> None:
    c_s, c_t = torch.diag(torch.tensor([1.0, 4.0])), torch.diag(torch.tensor([9.0, 1.0]))
    a, b = transport.gaussian_map(torch.zeros(2), c_s, torch.tensor([3.0, 4.0]), c_t)
    assert torch.allclose(a, torch.diag(torch.tensor([3.0, 0.5], dtype=torch.float64)), atol=1e-12)
    assert b.tolist() == pytest.approx([3, 4])
    w2 = transport.w2_gaussian(torch.zeros(2), c_s, torch.tensor([3.0, 4.0]), c_t)
    assert w2.item() == pytest.approx(math.sqrt(25 + (1 - 3) ** 2 + (2 - 1) ** 2))


def test_a_planted_symmetric_map_is_recovered_and_a_rotation_is_invisible() -> None:
    c, m = covariance(0, 5), randn(1, 5)
    a = covariance(2, 5) + torch.eye(5)
    found, offset = transport.gaussian_map(m, c, a @ m + 1, a @ c @ a)
    assert torch.allclose(found, a, atol=1e-9)
    assert torch.allclose(offset, torch.ones(5, dtype=torch.float64), atol=1e-8)
    eye = torch.eye(5, dtype=torch.float64)
    q = torch.linalg.qr(randn(3, 5, 5)).Q
    unseen, _ = transport.gaussian_map(m, 2 * eye, m, q @ (2 * eye) @ q.T)
    assert torch.allclose(unseen, eye, atol=1e-9)  # the law did not change, so nothing moves


def test_rank_deficient_covariances_stay_finite() -> None:
    x, y = randn(0, 4, 10), randn(1, 3, 10)  # rank 4 and 3 in 10 dimensions
    c_s, c_t = x.T @ x, y.T @ y
    a, _ = transport.gaussian_map(torch.zeros(10), c_s, torch.zeros(10), c_t)
    assert a.isfinite().all()
    assert torch.allclose(a @ c_s @ a, c_t, atol=1e-3 * float(c_t.abs().max()))
    assert transport.bures(c_s, c_s).item() == pytest.approx(0, abs=1e-6)
    assert transport.bures(c_s, torch.zeros(10, 10)).item() == pytest.approx(float(c_s.trace()))


def test_shrink_keeps_the_trace_and_bounds_the_condition_number() -> None:
    c = torch.stack([torch.diag(torch.tensor([4.0, 0.0])), torch.eye(2)])
    s = transport.shrink(c, 0.1)
    assert s[0].diagonal().tolist() == pytest.approx([3.8, 0.2])
    assert torch.allclose(s[1], torch.eye(2, dtype=torch.float64))
    assert torch.equal(transport.shrink(c, 0.0), c.double())


@given(seed=seeds)
@few
def test_costs_are_the_pairwise_squared_distances(seed: int) -> None:
    means, covs = randn(seed, 5, 4), torch.stack([covariance(seed + i, 4) for i in range(5)])
    costs = transport.gaussian_costs(means[:2], covs[:2], means[2:], covs[2:])
    for i in range(2):
        for j in range(3):
            w2 = transport.w2_gaussian(means[i], covs[i], means[2 + j], covs[2 + j])
            assert costs[i, j].item() == pytest.approx(w2.square().item(), rel=1e-9)


@given(seed=seeds, scale=st.floats(1e-3, 1e3))
@few
def test_plan_has_its_marginals_and_ignores_the_scale_of_costs(seed: int, scale: float) -> None:
    cost, weights = randn(seed, 4, 3).square(), randn(seed + 1, 4).square() + 0.1
    plan = transport.class_plan(cost, weights)
    assert torch.allclose(plan.sum(dim=1), weights / weights.sum(), atol=1e-6)
    assert torch.allclose(plan.sum(dim=0), torch.full((3,), 1 / 3, dtype=torch.float64), atol=1e-6)
    assert torch.allclose(transport.class_plan(scale * cost, weights), plan, atol=1e-6)
    # the optimality condition of entropic transport: log P + C / eps splits into row + column terms
    dual = plan.log() + cost / cost.max() / 0.05
    residue = dual - dual.mean(dim=0) - dual.mean(dim=1, keepdim=True) + dual.mean()
    assert residue.abs().max() < 1e-6


def test_plan_goes_from_one_to_one_to_all_to_all() -> None:
    cost = 1 - torch.eye(3)
    assert torch.allclose(transport.class_plan(cost, regularisation=0.02), torch.eye(3).double() / 3, atol=1e-6)
    assert torch.allclose(transport.class_plan(cost, regularisation=1e3), torch.ones(3, 3).double() / 9, atol=1e-3)
    exact = ot.emd(np.ones(3) / 3, np.ones(3) / 3, cost.double().numpy())
    assert np.allclose(transport.class_plan(cost, regularisation=0.02).numpy(), exact, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: transport.shrink(torch.eye(2), 1.5), r"in \[0, 1\], got 1.5"),
        (lambda: transport.class_plan(-torch.eye(2)), "finite costs >= 0"),
        (lambda: transport.class_plan(torch.eye(2), torch.tensor([1.0, 0.0])), "weights_s must be 2 positive numbers"),
        (
            lambda: transport.gaussian_map(torch.zeros(2), torch.zeros(2, 2), torch.zeros(2), torch.eye(2)),
            "cov_s has no positive eigenvalue",
        ),
        (
            lambda: transport.gaussian_map(
                torch.zeros(2), torch.eye(2), torch.zeros(2), torch.tensor([[1.0, 1], [0, 1]])
            ),
            "cov_t must be a finite symmetric",
        ),
    ],
)
def test_errors_say_what_was_given(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
