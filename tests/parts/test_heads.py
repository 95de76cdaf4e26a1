"""Heads against the joint closed form (NumPy solve), the recursive form of ACIL, and the symmetries they promise."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from cillab.core.errors import DataError, NotObservedError
from cillab.parts.heads import Averaged, Linear, Prototypes, columns_of
from cillab.parts.least_squares import RandomFeatures, Ridge
from cillab.parts.module import ModulePart

CLASSES = (7, 401, 3)


def data(seed: int = 0, n: int = 60, dim: int = 9) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    labels = torch.tensor(CLASSES)[torch.arange(n) % 3]
    return torch.randn(n, dim, generator=rng) + columns_of(labels, CLASSES).unsqueeze(1), labels


def ridge(batches: list[tuple[Tensor, Tensor]], gamma: float = 2.0, classes: tuple[int, ...] = CLASSES) -> Ridge:
    head = Ridge(9, gamma)
    head.grow(classes)
    for features, labels in batches:
        head.add(features, labels)
    head.solve()
    return head


def joint(features: Tensor, labels: Tensor, gamma: float) -> np.ndarray:
    """The same equation in NumPy, on all data at once."""
    x, y = features.double().numpy(), (labels.unsqueeze(1) == torch.tensor(CLASSES)).double().numpy()
    return np.linalg.solve(x.T @ x + gamma * np.eye(x.shape[1]), x.T @ y)


def test_ridge_is_the_joint_solution() -> None:
    features, labels = data()
    np.testing.assert_allclose(ridge([(features, labels)]).weight, joint(features, labels, 2.0), atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), cuts=st.lists(st.integers(1, 59), max_size=5))
def test_ridge_does_not_depend_on_split_or_order(seed: int, cuts: list[int]) -> None:
    features, labels = data(seed)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(seed))
    edges = sorted({0, *cuts, 60})
    batches = [(features[order[a:b]], labels[order[a:b]]) for a, b in pairwise(edges)]
    np.testing.assert_allclose(ridge(batches).weight, joint(features, labels, 2.0), atol=1e-6)


def test_ridge_equals_the_recursive_form() -> None:
    """Equations of ACIL: B = (I + X R X^T)^-1, R <- R - R X^T B X R, W <- W + R X^T (Y - X W)."""
    features, labels = data()
    covariance, weight = torch.eye(9, dtype=torch.float64) / 2.0, torch.zeros(9, 3, dtype=torch.float64)
    for x, y in zip(features.double().split(13), labels.split(13), strict=True):
        target = (y.unsqueeze(1) == torch.tensor(CLASSES)).double()
        gain = torch.linalg.inv(torch.eye(len(x), dtype=torch.float64) + x @ covariance @ x.T)
        covariance = covariance - covariance @ x.T @ gain @ x @ covariance
        weight = weight + covariance @ x.T @ (target - x @ weight)
    torch.testing.assert_close(ridge([(features, labels)]).weight.double(), weight, atol=1e-6, rtol=0)


def test_four_passes_are_one_with_a_quarter_of_gamma() -> None:
    batch = data()
    np.testing.assert_allclose(ridge([batch] * 4, gamma=8.0).weight, ridge([batch], gamma=2.0).weight, atol=1e-6)


def test_relabelling_permutes_the_columns_only() -> None:
    features, labels = data()
    one, two = ridge([(features, labels)]), ridge([(features, labels)], classes=CLASSES[::-1])
    assert torch.equal(one(features).flip(1).argmax(1), two(features).argmax(1))
    torch.testing.assert_close(one.weight.flip(1), two.weight)


def test_gamma_matters() -> None:
    batch = data()
    assert ridge([batch], gamma=500.0).weight.norm() < 0.5 * ridge([batch], gamma=1.0).weight.norm()


def test_features_that_are_not_finite_are_refused() -> None:
    features, labels = data()
    features[3, 3] = float("nan")
    with pytest.raises(DataError, match="not finite"):
        ridge([(features, labels)])


def test_class_means_by_hand_and_merged_over_batches() -> None:
    features, labels = data()
    stats = Prototypes(9)
    for x, y in zip(features.split(11), labels.split(11), strict=True):
        stats.add(x, y)
    assert stats.classes == CLASSES
    for row, c in zip(stats.means(), CLASSES, strict=True):
        np.testing.assert_allclose(row, features[labels == c].double().mean(0), atol=1e-12)
    with pytest.raises(NotObservedError):
        Prototypes(9).means()


def test_linear_head_grows_and_keeps_old_rows() -> None:
    head = Linear(4)
    head.grow((5, 9), torch.Generator().manual_seed(0))
    old = head.weight.clone()
    head.grow((9, 1))
    assert head.classes == (5, 9, 1)
    assert torch.equal(head.weight[:2], old) and not head.weight[2].any() and old.any()


def test_a_part_inside_another_comes_back_with_its_classes() -> None:
    class Outer(ModulePart):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Prototypes(3)

    full, fresh = Outer(), Outer()
    full.inner.add(torch.eye(3), torch.tensor([4, 9, 4]))
    fresh.load(full.state())
    assert fresh.inner.classes == (4, 9)
    torch.testing.assert_close(fresh.inner.means(), full.inner.means())


def test_columns_of_sparse_ids() -> None:
    assert columns_of(torch.tensor([3, 7, 401, 3]), CLASSES).tolist() == [2, 0, 1, 2]
    with pytest.raises(DataError, match="not among the 3 classes"):
        columns_of(torch.tensor([8]), CLASSES)


@pytest.mark.parametrize("init", ["normal", "uniform"])
def test_random_features_have_the_stated_spread(init: str) -> None:
    draw = RandomFeatures(50, 4000, init, torch.Generator().manual_seed(1), torch.device("cpu"))
    spread = 1.0 if init == "normal" else 4000**-0.5 / 3**0.5
    assert float(draw.matrix.std()) == pytest.approx(spread, rel=0.02)
    assert float(draw(torch.randn(3, 50)).min()) == 0.0


@pytest.mark.parametrize("make", [lambda: ridge([data()]), lambda: Linear(9), lambda: Prototypes(9)])
def test_state_round_trip(make) -> None:
    part, other = make(), make()
    other.load(part.state())
    for name, tensor in part.state().tensors.items():
        assert torch.equal(tensor, other.state().tensors[name]), name


def test_two_heads_answer_by_the_average_of_their_posteriors() -> None:
    one, two = Linear(4), Linear(4)
    for seed, head in enumerate((one, two)):
        head.grow((0, 1, 2), torch.Generator().manual_seed(seed))
    x = 30 * torch.randn(5, 4, generator=torch.Generator().manual_seed(2))
    expected = (one(x).softmax(1) + 3 * two(x).softmax(1)) / 4
    torch.testing.assert_close(Averaged(one, two, 3.0)(x).exp(), expected)
    torch.testing.assert_close(Averaged(one, two, 0.0)(x), one(x).log_softmax(1))


def test_a_buffer_is_contiguous_however_it_was_computed() -> None:
    """LAPACK answers in columns, a file holds rows: a loaded part would round otherwise."""

    class Inner(ModulePart):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("precision", torch.eye(3))

    class Outer(ModulePart):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Inner()
            self.row = torch.nn.Parameter(torch.ones(3))

    part = Outer()
    part.inner.precision = torch.linalg.inv(torch.rand(3, 3)).T.contiguous().T
    row = part.row
    part.row = row
    assert part.state().tensors["inner.precision"].is_contiguous() and part.row is row
    part.put("inner.precision", torch.rand(4, 3).T)
    assert part.inner.precision.shape == (3, 4) and part.inner.precision.is_contiguous()
