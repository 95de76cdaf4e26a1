"""Stored Gaussians that follow an encoder: every property of the transport map that theory states."""

from typing import Any

import pytest
import torch
from torch import Tensor

from cillab.core.arrays import through_numpy
from cillab.geometry.transport import gaussian_map, w2_gaussian
from cillab.parts.calibration import CALIBRATIONS, Pairs, gaussian_transport, moments, paired_transport
from cillab.parts.gaussian_memory import GaussianMemory

DIM = 6


def draws(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cloud(count: int = 400, seed: int = 0) -> Tensor:
    mix = torch.randn(DIM, DIM, generator=draws(100 + seed), dtype=torch.float64) + torch.eye(DIM)
    return torch.randn(count, DIM, generator=draws(seed), dtype=torch.float64) @ mix + seed


def pairs(old: Tensor, new: Tensor) -> Pairs:
    return Pairs(old, new, torch.arange(len(old)) % 3)


def memory(kind: Any = "full", classes: int = 4) -> GaussianMemory:
    found = GaussianMemory(DIM, kind)
    for c in range(classes):
        h = cloud(50, 10 + c).float()
        found.add(h, torch.full((len(h),), c))
    return found


def rotation(seed: int = 0) -> Tensor:
    return torch.linalg.qr(torch.randn(DIM, DIM, generator=draws(seed), dtype=torch.float64))[0]


def test_the_map_is_symmetric_positive_and_carries_one_covariance_into_the_other() -> None:
    old, new = cloud(seed=1), cloud(seed=2)
    a, b = gaussian_transport(pairs(old, new), shrinkage=0.0)
    (m_o, s_o), (m_n, s_n) = moments(old), moments(new)
    assert torch.equal(a, a.T)
    assert torch.linalg.eigvalsh(a).min() > 0
    torch.testing.assert_close(a @ s_o @ a, s_n, rtol=0, atol=1e-10 * float(s_n.abs().max()))
    torch.testing.assert_close(a @ m_o + b, m_n)


@pytest.mark.parametrize("name", CALIBRATIONS)
@pytest.mark.parametrize("kind", ["full", "diagonal"])
def test_an_encoder_that_stayed_moves_nothing(name, kind) -> None:
    before, old = memory(kind), cloud()
    after = CALIBRATIONS[name](before, pairs(old, old), 0.05, 0.05)
    torch.testing.assert_close(after.means, before.means, rtol=0, atol=1e-4)
    torch.testing.assert_close(after.covariances, before.covariances, rtol=1e-4, atol=1e-4)
    assert after.classes == before.classes and torch.equal(after.counts, before.counts)


@pytest.mark.parametrize("name", sorted(set(CALIBRATIONS) - {"none"}))
def test_a_translation_is_followed_exactly(name) -> None:
    before, old = memory(), cloud()
    step = torch.arange(DIM, dtype=torch.float64)
    after = CALIBRATIONS[name](before, pairs(old, old + step), 0.05, 0.05)
    torch.testing.assert_close(after.means, before.means + step.float(), rtol=0, atol=1e-3)
    torch.testing.assert_close(after.covariances, before.covariances, rtol=1e-4, atol=1e-3)


def test_no_calibration_leaves_the_memory_where_it_was() -> None:
    before = memory()
    after = CALIBRATIONS["none"](before, pairs(cloud(), cloud(seed=2)), 0.05, 0.05)
    assert torch.equal(after.means, before.means) and torch.equal(after.covariances, before.covariances)


def test_scaling_is_a_multiple_of_the_identity() -> None:
    a, _ = gaussian_transport(pairs(cloud(), 2.5 * cloud()), shrinkage=0.05)
    torch.testing.assert_close(a, 2.5 * torch.eye(DIM, dtype=torch.float64))


def test_diagonal_covariances_give_the_ratio_of_deviations() -> None:
    s_o, s_n = torch.linspace(1, 2, DIM, dtype=torch.float64), torch.linspace(3, 0.5, DIM, dtype=torch.float64)
    zero = torch.zeros(DIM, dtype=torch.float64)
    a, _ = through_numpy(gaussian_map, zero, zero, torch.diag(s_o), zero, torch.diag(s_n))
    torch.testing.assert_close(a, torch.diag((s_n / s_o).sqrt()))


def test_turning_both_spaces_turns_the_map() -> None:
    old, new, q = cloud(seed=1), cloud(seed=2), rotation()
    a, _ = gaussian_transport(pairs(old, new), 0.05)
    turned, _ = gaussian_transport(pairs(old @ q.T, new @ q.T), 0.05)
    torch.testing.assert_close(turned, q @ a @ q.T, rtol=1e-7, atol=1e-8)


def test_distance_is_shift_and_stretch() -> None:
    """W2^2 = ||m - m'||^2 + tr((A - I) S (A - I))."""
    (m_o, s_o), (m_n, s_n) = moments(cloud(seed=1)), moments(cloud(seed=2))
    a, _ = through_numpy(gaussian_map, m_o, m_o, s_o, m_n, s_n)
    stretch = a - torch.eye(DIM, dtype=torch.float64)
    expected = (m_o - m_n).square().sum() + (stretch @ s_o @ stretch).trace()
    assert through_numpy(w2_gaussian, m_o, m_o, s_o, m_n, s_n) ** 2 == pytest.approx(float(expected))


def test_mapped_samples_have_the_mapped_moments() -> None:
    before, affine = memory(classes=1), gaussian_transport(pairs(cloud(seed=1), cloud(seed=2)))
    after = before.moved(*affine)
    drawn, _ = before.sample(20_000, draws(3), floor=0.0)
    mean, covariance = moments(drawn.double() @ affine.a.T + affine.b)
    scale = float(after.covariances[0].diagonal().max())
    torch.testing.assert_close(mean.float(), after.means[0], rtol=0, atol=4 * (scale / 20_000) ** 0.5)
    torch.testing.assert_close(covariance.float(), after.covariances[0], rtol=0, atol=0.05 * scale)


@pytest.mark.parametrize("name", CALIBRATIONS)
@pytest.mark.parametrize("kind", ["full", "diagonal"])
def test_covariances_stay_symmetric_and_positive_over_many_tasks(name, kind) -> None:
    found = memory(kind)
    for task in range(20):
        old = cloud(60, task)
        new = old @ (torch.eye(DIM) + 0.1 * torch.randn(DIM, DIM, generator=draws(task))).double() + 0.1
        found = CALIBRATIONS[name](found, pairs(old, new), 0.05, 0.05)
        full = found.covariances if kind == "full" else torch.diag_embed(found.covariances)
        assert torch.equal(full, full.mT)
        assert torch.linalg.eigvalsh(full.double()).min() > -1e-6 * full.abs().max()
        found.sample(2, draws(0))  # has a root


def test_maps_compose_where_covariances_commute_and_not_elsewhere() -> None:
    zero = torch.zeros(DIM, dtype=torch.float64)
    q = rotation()

    def of(values: list[float]) -> Tensor:
        return q @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ q.T

    def between(s: Tensor, t: Tensor) -> Tensor:
        return through_numpy(gaussian_map, zero, zero, s, zero, t)[0]

    one, two, three = of([1, 2, 3, 4, 5, 6]), of([2, 2, 1, 1, 9, 3]), of([4, 1, 1, 2, 3, 5])
    torch.testing.assert_close(between(two, three) @ between(one, two), between(one, three))
    other = moments(cloud(seed=3))[1]
    assert not torch.allclose(between(other, three) @ between(one, other), between(one, three), rtol=1e-2)


def test_a_rotation_is_seen_by_pairs_alone() -> None:
    """Features of a round law are turned: the law is the same, so transport sees nothing; least squares does."""
    old = torch.randn(4000, DIM, generator=draws(0), dtype=torch.float64)
    old = old - old.mean(dim=0)
    old = old @ torch.linalg.inv(torch.linalg.cholesky(old.T @ old / len(old))).T  # covariance exactly I
    q = rotation()
    blind, _ = gaussian_transport(pairs(old, old @ q.T), 0.0)
    seeing, _ = paired_transport(pairs(old, old @ q.T), 0.0)
    torch.testing.assert_close(blind, torch.eye(DIM, dtype=torch.float64), rtol=0, atol=1e-6)
    torch.testing.assert_close(seeing, q, rtol=0, atol=1e-6)


def test_directions_without_data_stay() -> None:
    """The task moves along one axis; across it there is nothing to learn from."""
    old = cloud()
    old[:, 3:] = 0
    new = old.clone()
    new[:, 0] *= 2
    b, _ = paired_transport(pairs(old, new), 0.01)
    torch.testing.assert_close(b[3:, 3:], torch.eye(3, dtype=torch.float64))
    a, _ = gaussian_transport(pairs(old, old), 0.05)
    torch.testing.assert_close(a, torch.eye(DIM, dtype=torch.float64), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["plan", "shift"])
def test_an_old_class_follows_the_new_class_at_its_place(name) -> None:
    """Two far groups, each with an old and a new class; only the first group moves."""
    before = GaussianMemory(2)
    centres = torch.tensor([[0.0, 0], [50, 50]])
    for c in range(2):
        before.add(centres[c] + torch.randn(40, 2, generator=draws(c)), torch.full((40,), c))
    labels = torch.arange(80) % 2
    old = centres[labels] + torch.randn(80, 2, generator=draws(5))
    step = torch.tensor([[0.0, 3], [0, 0]])
    after = CALIBRATIONS[name](before, Pairs(old, old + step[labels], labels + 2), 0.05, 0.01)
    torch.testing.assert_close(after.means - before.means, step, rtol=0, atol=1e-2)


def test_one_image_moves_the_means_alone() -> None:
    before, one = memory(), cloud(1)
    for name in ("gaussian", "paired", "plan", "shift"):
        after = CALIBRATIONS[name](before, Pairs(one, one + 1, torch.tensor([9])), 0.05, 0.05)
        torch.testing.assert_close(after.means, before.means + 1, rtol=0, atol=1e-4)
        torch.testing.assert_close(after.covariances, before.covariances, rtol=1e-4, atol=1e-4)
