"""Heads from sums: penalties of one decomposition, LDA against scikit-learn and SciPy, random Fourier features."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from sklearn.covariance import oas as sklearns_oas
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics.pairwise import rbf_kernel
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from cillab.core.errors import DataError
from cillab.parts import least_squares
from cillab.parts.heads import columns_of
from cillab.parts.least_squares import LDA, POWERS, FourierFeatures, RandomFeatures, Ridge, oas

CLASSES = (7, 401, 3)
DIM = 9


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def data(seed: int = 0, n: int = 90, dim: int = DIM) -> tuple[Tensor, Tensor]:
    labels = torch.tensor(CLASSES)[torch.randint(3, (n,), generator=rng(seed + 1))]
    mix = torch.randn(dim, dim, generator=rng(99))
    return torch.randn(n, dim, generator=rng(seed)) @ mix + columns_of(labels, CLASSES)[:, None] + 4, labels


def one_hot(labels: Tensor) -> Tensor:
    return (labels[:, None] == torch.tensor(CLASSES)).double()


# Ridge: the penalty


def test_seventeen_penalties_of_one_decomposition_are_seventeen_solves() -> None:
    """The held-out error of every candidate, against a solve of its own that shares nothing with the head."""
    (old, old_labels), (new, new_labels) = data(0), data(5, n=50)
    head = Ridge(DIM)
    head.grow(CLASSES)
    head.add(old, old_labels)
    errors = head.held_errors(new, new_labels)
    assert len(POWERS) == 17 and errors is not None
    x = torch.cat([old, new[:40]]).double().numpy()
    y = one_hot(torch.cat([old_labels, new_labels[:40]])).numpy()
    for gamma, error in zip(POWERS, errors.tolist(), strict=True):
        weight = np.linalg.solve(x.T @ x + gamma * np.eye(DIM), x.T @ y)
        expected = ((new[40:].double().numpy() @ weight - one_hot(new_labels[40:]).numpy()) ** 2).sum() / 10
        assert error == pytest.approx(expected, rel=1e-6)
    assert head.best_gamma(new, new_labels) == POWERS[int(errors.argmin())]


def test_looking_for_a_penalty_changes_no_sum_and_no_weight() -> None:
    head = Ridge(DIM)
    head.add(*data())
    head.solve()
    before = {name: tensor.clone() for name, tensor in head.state().tensors.items()}
    head.best_gamma(*data(3))
    assert all(torch.equal(before[name], tensor) for name, tensor in head.state().tensors.items())


def test_one_image_keeps_the_penalty_that_was_there() -> None:
    head = Ridge(DIM, gamma=3.0)
    h, labels = data(n=1)
    assert head.best_gamma(h, labels) == 3.0 and head.held_errors(h, labels) is None


class Sizes(TorchDispatchMode):
    """How many numbers every new tensor holds."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        several = found if isinstance(found, tuple | list) else (found,)
        given = {t.data_ptr() for t in args if isinstance(t, Tensor)}  # written in place, it is not new
        self.seen += [t.numel() for t in several if isinstance(t, Tensor) and t.data_ptr() not in given]
        return found


def test_nothing_is_as_large_as_images_by_images_or_holds_all_random_features(monkeypatch) -> None:
    monkeypatch.setattr(least_squares, "ROWS", 32)
    expand = RandomFeatures(DIM, 64, "normal", rng(), torch.device("cpu"))
    head, (h, labels) = Ridge(64, reads=expand), data(n=2000)
    with Sizes() as sizes:
        head.add(h, labels)
        head.solve(head.best_gamma(h, labels))
    assert max(sizes.seen) <= 2000 * DIM  # the images' own features; 64 x 64 is 4,096


def test_a_batch_makes_no_other_gram_matrix() -> None:
    """Of 10,000 features it would take 800 MB for every batch."""
    head, (h, labels) = Ridge(64), data(n=40)
    wide = F.pad(h, (0, 64 - DIM))
    head.add(wide[:8], labels[:8])
    with Sizes() as sizes:
        for start in range(8, 40, 8):
            head.add(wide[start : start + 8], labels[start : start + 8])
    assert max(sizes.seen) < 64 * 64


# LDA


def lda(batches: list[tuple[Tensor, Tensor]], **options) -> LDA:
    head = LDA(DIM, **options)
    head.grow(CLASSES)
    for h, labels in batches:
        head.add(h, labels)
    head.solve()
    return head


@pytest.mark.parametrize("shrinkage", [0.0, 0.3])
def test_lda_is_scikit_learns(shrinkage: float) -> None:
    h, labels = data()
    oracle = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage or None)
    oracle.fit(h.double().numpy(), columns_of(labels, CLASSES).numpy())
    mine = lda([(h, labels)], shrinkage=shrinkage, prior=True)(h).log_softmax(dim=1)
    np.testing.assert_allclose(mine, oracle.predict_log_proba(h.double().numpy()), rtol=1e-4, atol=1e-3)


def test_ridge_on_the_covariance_by_hand() -> None:
    """W_k = (S + I)^-1 mu_k, b_k = -mu_k^T W_k / 2: the head of first-session adaptation."""
    h, labels = data()
    head, x, y = lda([(h, labels)], ridge=1.0), h.double().numpy(), columns_of(labels, CLASSES).numpy()
    means = np.stack([x[y == c].mean(0) for c in range(3)])
    s = (x - means[y]).T @ (x - means[y]) / len(x)
    weight = np.linalg.solve(s + np.eye(DIM), means.T)
    np.testing.assert_allclose(head.covariance(), s, atol=1e-10)
    np.testing.assert_allclose(head.rows().weight.T, weight, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(head.rows().bias, -(means.T * weight).sum(0) / 2, rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), cuts=st.lists(st.integers(1, 89), max_size=5))
def test_lda_knows_neither_order_nor_batches(seed: int, cuts: list[int]) -> None:
    h, labels = data(seed % 1000)
    order = torch.randperm(90, generator=rng(seed))
    edges = sorted({0, *cuts, 90})
    parts = [(h[order[a:b]], labels[order[a:b]]) for a, b in pairwise(edges)]
    one, many = lda([(h, labels)]), lda(parts)
    torch.testing.assert_close(one.covariance(), many.covariance(), rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(one(h), many(h), rtol=1e-4, atol=1e-4)


def test_lda_solved_after_every_batch_is_lda_solved_once() -> None:
    h, labels = data()
    head = LDA(DIM)
    head.grow(CLASSES)
    for x, y in zip(h.split(20), labels.split(20), strict=True):
        head.add(x, y)
        head.solve() if len(head.classes) and head.counts.sum() > 20 else None
    torch.testing.assert_close(head.weight, lda([(h, labels)]).weight, rtol=1e-5, atol=1e-6)


def test_a_constant_added_to_all_features_changes_no_decision() -> None:
    h, labels = data()
    shift = 30 * torch.randn(DIM, generator=rng(4))
    one, two = lda([(h, labels)])(h), lda([(h + shift, labels)])(h + shift)
    assert torch.equal(one.argmax(1), two.argmax(1))
    torch.testing.assert_close(one.log_softmax(1), two.log_softmax(1), atol=0.1, rtol=0)  # logits of float32


def test_the_sums_of_lda_are_those_of_a_recursive_update() -> None:
    """Welford's update of the scatter, image by image, with the weight n_c / (n_c + 1) of the class."""
    h, labels = data()
    means, counts, scatter = np.zeros((3, DIM)), np.zeros(3), np.zeros((DIM, DIM))
    for x, c in zip(h.double().numpy(), columns_of(labels, CLASSES).tolist(), strict=True):
        gap = x - means[c]
        scatter += np.outer(gap, gap) * counts[c] / (counts[c] + 1)
        means[c] += gap / (counts[c] + 1)
        counts[c] += 1
    np.testing.assert_allclose(lda([(h, labels)]).covariance(), scatter / len(h), atol=1e-8)


@pytest.mark.parametrize("n", [4, 30, 3000])
def test_the_shrinkage_that_nobody_chose_is_scikit_learns(n: int) -> None:
    x = data(n=n)[0].double()
    x = x - x.mean(dim=0)
    assert oas(x.T @ x / n, n) == pytest.approx(sklearns_oas(x.numpy(), assume_centered=True)[1], rel=1e-9)
    h, labels = data(n=n)
    assert n < 30 or lda([(h, labels)], shrinkage=None)(h).isfinite().all()


def test_too_few_images_for_no_shrinkage_are_refused_and_shrinkage_helps() -> None:
    h, labels = data(n=3)
    twice = torch.cat([h, h + torch.randn(h.shape, generator=rng(5))]), labels.repeat(2)
    with pytest.raises(DataError, match="too few images"):
        lda([twice])
    assert lda([twice], ridge=1e-2)(h).isfinite().all()
    with pytest.raises(DataError, match="not finite"):
        lda([(h * torch.nan, labels)])


def test_lda_of_one_image_a_class_is_the_nearest_mean() -> None:
    h, labels = data(n=3)
    head = lda([(h, labels)], shrinkage=None)
    x = data(8)[0]
    order = [head.classes.index(c) for c in labels.tolist()]
    nearest = -torch.cdist(x, h).square() / 2 + x.square().sum(dim=1, keepdim=True) / 2
    torch.testing.assert_close(head(x)[:, order], nearest, rtol=1e-4, atol=1e-4)


def test_lda_comes_back_from_its_state_and_classifies_from_a_slim_one() -> None:
    head, (h, _) = lda([data()]), data(8)
    other = LDA(DIM)
    other.load(head.state())
    assert torch.equal(other(h), head(h)) and torch.equal(other.counts, head.counts)


# Fourier features


def test_fourier_features_are_scikit_learns_kernel_up_to_the_error_of_their_number() -> None:
    h, gamma, count = torch.randn(20, DIM, generator=rng()), 0.05, 20_000
    phi = FourierFeatures(DIM, count, gamma, rng(1), torch.device("cpu"))(h)
    kernel = rbf_kernel(h.numpy(), gamma=gamma)
    assert np.abs((phi @ phi.T).numpy() - kernel).max() < 3 / count**0.5


def test_a_large_head_says_what_it_will_take(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    Ridge(10)
    assert not caplog.text
    monkeypatch.setattr(least_squares, "WORTH_SAYING", 24 * 10**8)
    monkeypatch.setattr(least_squares, "empty", lambda *_, **__: torch.zeros(0))
    Ridge(10_000)
    assert "A least-squares head on 10000 features takes up to 2.4 GB while it learns." in caplog.text
