"""The memory of class Gaussians against NumPy, the law it samples from, and what a linear map does to moments."""

import numpy as np
import pytest
import torch

from cillab.core.errors import DataError, NotObservedError
from cillab.core.state import pack, unpack
from cillab.parts import gaussian_memory
from cillab.parts.gaussian_memory import GaussianMemory

DIM = 6


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cloud(seed: int = 0, count: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    mix = torch.randn(DIM, DIM, generator=rng(7))
    h = torch.randn(count, DIM, generator=rng(seed)) @ mix + 5
    labels = torch.tensor([401, 7, 33])[torch.arange(count) % 3]
    return h + labels[:, None] / 100, labels


def filled(kind: str = "full", parts: int = 1) -> GaussianMemory:
    memory = GaussianMemory(DIM, kind)  # type: ignore[arg-type]
    h, labels = cloud()
    for chosen in torch.arange(len(h)).chunk(parts):
        memory.add(h[chosen], labels[chosen])
    return memory


@pytest.mark.parametrize("parts", [1, 2, 7, 60])
def test_moments_are_numpys_whatever_the_batches(parts) -> None:
    full, diagonal = filled("full", parts), filled("diagonal", parts)
    h, labels = cloud()
    assert full.classes == (401, 7, 33)
    for row, c in enumerate(full.classes):
        mine = h[labels == c].double().numpy()
        covariance = np.cov(mine.T, bias=True)
        np.testing.assert_allclose(full.means[row], mine.mean(0), rtol=1e-5)
        np.testing.assert_allclose(full.covariances[row], covariance, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(diagonal.covariances[row], np.diag(covariance), rtol=1e-4, atol=1e-4)
        assert int(full.counts[row]) == len(mine)


@pytest.mark.parametrize("kind", ["full", "diagonal"])
def test_samples_have_the_moments_within_the_error_of_their_number(kind) -> None:
    memory, count = filled(kind), 20_000
    drawn, labels = memory.sample(count, rng(1), floor=0.0)
    for row, c in enumerate(memory.classes):
        mine = drawn[labels == c]
        sigma = mine.std(dim=0)
        assert len(mine) == count
        assert ((mine.mean(dim=0) - memory.means[row]).abs() < 5 * sigma / count**0.5).all()
        found = mine.T.cov(correction=0) if kind == "full" else mine.var(dim=0, correction=0)
        assert float((found - memory.covariances[row]).norm() / memory.covariances[row].norm()) < 0.05


def test_only_some_classes_in_the_order_asked_for() -> None:
    memory = filled()
    drawn, labels = memory.sample(4, rng(), classes=(33, 401))
    assert labels.tolist() == [33] * 4 + [401] * 4 and drawn.shape == (8, DIM)
    some = memory.only((33, 401))
    assert some.classes == (33, 401) and torch.equal(some.means[1], memory.means[0])


def test_a_part_of_a_memory_stays_as_it_was() -> None:
    memory = GaussianMemory(3)
    memory.add(torch.randn(8, 3), torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]))
    part, before = memory.only((0, 1)), memory.only((0, 1)).state().tensors
    memory.add(torch.randn(4, 3) + 5, torch.tensor([0, 0, 1, 1]))
    for name, value in part.state().tensors.items():
        assert torch.equal(value, before[name])
    assert not torch.equal(part.means, memory.means)


@pytest.mark.parametrize("block", [1, 1 << 22])
def test_batches_are_one_sample_dealt_out(block, monkeypatch) -> None:
    """What is drawn for several steps at once, class by class, goes to them in turn."""
    monkeypatch.setattr(gaussian_memory, "_BLOCK", block)
    memory = filled()
    dealt = list(memory.batches(5, 3, rng(2), (33, 401)))
    assert [len(features) for features, _ in dealt] == [6] * 5
    assert all(labels.tolist() == [33] * 3 + [401] * 3 for _, labels in dealt)
    together = torch.stack([features.unflatten(0, (2, 3)) for features, _ in dealt], dim=1).flatten(1, 2)
    if block > 1:
        torch.testing.assert_close(together.flatten(0, 1), memory.sample(15, rng(2), (33, 401))[0])
    else:
        draws = rng(2)
        torch.testing.assert_close(dealt[0][0], memory.sample(3, draws, (33, 401))[0])
        torch.testing.assert_close(dealt[1][0], memory.sample(3, draws, (33, 401))[0])


def test_mapped_samples_have_the_mapped_moments() -> None:
    memory = filled()
    a, b = torch.randn(DIM, DIM, generator=rng(3)), torch.randn(DIM, generator=rng(4))
    h, labels = cloud()
    again = GaussianMemory(DIM)
    again.add(h @ a.T + b, labels)
    moved = memory.moved(a, b)
    torch.testing.assert_close(moved.means, again.means, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(moved.covariances, again.covariances, rtol=1e-3, atol=1e-3)
    assert torch.equal(moved.covariances, moved.covariances.mT)


def test_factor_gives_the_covariance_back() -> None:
    memory = filled()
    f = memory.factor(DIM)
    torch.testing.assert_close(f.mT @ f, memory.covariances, rtol=1e-3, atol=1e-3)
    top = torch.linalg.eigvalsh(memory.covariances)[:, -1]
    torch.testing.assert_close(memory.factor(1)[:, 0].square().sum(dim=1), top, rtol=1e-3, atol=1e-3)


def test_one_image_gives_a_point_that_can_be_sampled() -> None:
    memory = GaussianMemory(DIM)
    memory.add(torch.ones(1, DIM), torch.tensor([3]))
    drawn, _ = memory.sample(5, rng())
    torch.testing.assert_close(drawn, torch.ones(5, DIM), atol=1e-4, rtol=0)


def test_state_goes_round_and_a_slim_one_is_empty() -> None:
    memory = filled("diagonal")
    tensors, meta = pack({"memory": memory.state()})
    other = GaussianMemory(DIM)
    other.load(unpack(tensors, meta)["memory"])
    assert other.kind == "diagonal" and other.classes == memory.classes
    assert torch.equal(other.sample(3, rng(5))[0], memory.sample(3, rng(5))[0])
    tensors, meta = pack({"memory": memory.state()}, slim=True)
    other.load(unpack(tensors, meta)["memory"])
    with pytest.raises(NotObservedError, match="no class"):
        other.sample(1, rng())


def test_an_unknown_class_is_refused() -> None:
    with pytest.raises(DataError):
        filled().only((5,))


KINDS = ("full", "diagonal", "pooled", "low-rank")


def of_kind(kind: str, rank: int = DIM, parts: int = 1) -> GaussianMemory:
    memory = GaussianMemory(DIM, kind, rank=rank)  # type: ignore[arg-type]
    h, labels = cloud()
    for chosen in torch.arange(len(h)).chunk(parts):
        memory.add(h[chosen], labels[chosen])
    return memory


@pytest.mark.parametrize("parts", [1, 4])
def test_pooled_is_the_mean_of_the_covariances_by_images(parts: int) -> None:
    h, labels = cloud(count=61)  # one class has an image more
    memory = GaussianMemory(DIM, "pooled")
    for chosen in torch.arange(len(h)).chunk(parts):
        memory.add(h[chosen], labels[chosen])
    mine = [h[labels == c].double().numpy() for c in memory.classes]
    expected = sum(len(x) * np.cov(x.T, bias=True) for x in mine) / len(h)
    np.testing.assert_allclose(memory.dense()[2], expected, rtol=1e-4, atol=1e-4)


def test_low_rank_keeps_the_leading_directions_and_the_diagonal() -> None:
    full, thin = of_kind("full"), of_kind("low-rank", rank=2)
    torch.testing.assert_close(thin.variances(), full.variances(), rtol=1e-4, atol=1e-4)
    values, vectors = torch.linalg.eigh(full.dense().double())
    expected = (vectors[..., -2:] * values[:, None, -2:]) @ vectors[..., -2:].mT
    torch.testing.assert_close(thin.factors.mT @ thin.factors, expected.float(), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(of_kind("low-rank", parts=7).dense(), full.dense(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_draws_of_every_kind_have_its_moments(kind: str) -> None:
    memory, count = of_kind(kind, rank=2), 40_000
    drawn, labels = memory.sample(count, rng(1), floor=0.0)
    for row, c in enumerate(memory.classes):
        mine, s = drawn[labels == c], memory.dense((c,))[0]
        assert float((mine.mean(dim=0) - memory.means[row]).norm() / s.trace().sqrt()) < 0.02
        assert float((mine.T.cov(correction=0) - s).norm() / s.norm()) < 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_maps_of_every_kind_are_maps_of_the_features(kind: str) -> None:
    """One map for all classes, then one per class; what is thin keeps the diagonal of what a map makes of it."""
    memory, a, b = of_kind(kind), torch.randn(DIM, DIM, generator=rng(3)), torch.randn(DIM, generator=rng(4))
    moved, by_class = memory.moved(a, b), memory.moved(a.expand(3, -1, -1), b.expand(3, -1))
    expected = a @ memory.dense() @ a.T
    if kind == "diagonal":
        expected = torch.diag_embed(expected.diagonal(dim1=1, dim2=2))
    for found in (moved, by_class):
        torch.testing.assert_close(found.means, memory.means @ a.T + b, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found.dense(), expected, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_states_of_every_kind_go_round(kind: str) -> None:
    memory, other = of_kind(kind), GaussianMemory(DIM)
    tensors, meta = pack({"memory": memory.state()})
    other.load(unpack(tensors, meta)["memory"])
    assert torch.equal(other.sample(3, rng(5))[0], memory.sample(3, rng(5))[0])
    h, labels = cloud(3)
    memory.add(h, labels)
    other.add(h, labels)
    assert torch.equal(other.dense(), memory.dense())


def test_longer_means_have_the_same_spread() -> None:
    memory = filled()
    scaled = memory.scaled(torch.tensor([1.0, 0.9, 2.0]))
    torch.testing.assert_close(scaled.means[2], 2 * memory.means[2])
    assert torch.equal(scaled.covariances, memory.covariances)


def test_another_floor_makes_another_root() -> None:
    memory = filled()
    one, two = memory.sample(4, rng(1), floor=0.0)[0], memory.sample(4, rng(1), floor=1.0)[0]
    assert not torch.equal(one, two) and torch.equal(one, memory.sample(4, rng(1), floor=0.0)[0])
