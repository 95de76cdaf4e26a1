"""CPT's losses against planted geometry: what is a minimum, what they cannot see, what they must see."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cillab.geometry.etf import simplex_etf
from cillab.parts.prompt_losses import class_convergence, rotation_stabilisation, textual_etf

DIM = 24
CLUSTERS = torch.tensor([0] * 5 + [1] * 3 + [2] * 2 + [3])


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def frame(classes: int, seed: int) -> Tensor:
    return torch.from_numpy(simplex_etf(classes, DIM, np.random.default_rng(seed)))


def planted(seed: int = 0) -> Tensor:
    """An ETF per cluster, each turned on its own: no angle between clusters is special."""
    parts = [frame(k, seed + k) for k in (5, 3, 2)]
    return torch.cat([*parts, F.normalize(torch.randn(1, DIM, generator=rng(9), dtype=torch.float64), dim=-1)])


def drawn(count: int = len(CLUSTERS), seed: int = 3) -> Tensor:
    return torch.randn(count, DIM, generator=rng(seed), dtype=torch.float64)


def rotation(seed: int = 5) -> Tensor:
    return torch.linalg.qr(torch.randn(DIM, DIM, generator=rng(seed), dtype=torch.float64))[0]


def by_hand(g: Tensor, clusters: Tensor) -> float:
    """The paper's sum of matrices, diagonal included, less the constant that the diagonal is."""
    g, total = F.normalize(g, dim=-1), 0.0
    for m in clusters.unique():
        p = g[clusters == m].T
        k = p.shape[1]
        if k > 1:
            target = (torch.ones(k, k) - torch.eye(k)) / (k - 1)
            total += float((p.T @ p + target).square().sum()) - k
    return total / len(clusters.unique())


def test_an_etf_in_every_cluster_is_the_minimum() -> None:
    g = planted().requires_grad_()
    loss = textual_etf(g, CLUSTERS)
    assert float(loss.detach()) == pytest.approx(0, abs=1e-20)
    (gradient,) = torch.autograd.grad(loss, g)
    assert float(gradient.abs().max()) < 1e-10


@pytest.mark.parametrize("per_pair", [False, True])
def test_anything_else_is_more(per_pair: bool) -> None:
    assert float(textual_etf(drawn(), CLUSTERS, per_pair=per_pair)) > 0.01


def test_equals_the_matrix_form_of_the_paper() -> None:
    assert float(textual_etf(drawn(), CLUSTERS)) == pytest.approx(by_hand(drawn(), CLUSTERS))


def test_angles_between_clusters_do_not_matter() -> None:
    g = drawn()
    turned = g.clone()
    turned[CLUSTERS == 1] = turned[CLUSTERS == 1] @ rotation()  # one cluster as a body
    assert not torch.allclose(g @ g.T, turned @ turned.T)
    assert float(textual_etf(turned, CLUSTERS)) == pytest.approx(float(textual_etf(g, CLUSTERS)))


def test_a_class_feels_nothing_of_other_clusters() -> None:
    g = drawn().requires_grad_()
    moved = g.detach().clone()
    moved[CLUSTERS == 0] = drawn(5, seed=11)
    (here,) = torch.autograd.grad(textual_etf(g, CLUSTERS), g)
    there = moved.requires_grad_()
    (changed,) = torch.autograd.grad(textual_etf(there, CLUSTERS), there)
    torch.testing.assert_close(here[CLUSTERS != 0], changed[CLUSTERS != 0])
    assert not here[CLUSTERS == 3].any()  # a cluster of one
    assert here[CLUSTERS == 0].any()


def test_a_common_rotation_is_invisible_to_the_etf_loss_but_not_to_rotation_stabilisation() -> None:
    g, frozen = planted(), planted()
    turned = g @ rotation()
    assert float(textual_etf(turned, CLUSTERS)) == pytest.approx(float(textual_etf(g, CLUSTERS)), abs=1e-12)
    assert float(rotation_stabilisation(g, frozen)) == 0
    assert float(rotation_stabilisation(turned, frozen)) > 1


def test_one_cluster_is_the_global_etf() -> None:
    one = torch.zeros(6, dtype=torch.int64)
    g = frame(6, 0)
    assert float(textual_etf(g, one)) == pytest.approx(0, abs=1e-20)
    assert float(textual_etf(drawn(6), one)) == pytest.approx(by_hand(drawn(6), one))


def test_two_classes_go_to_opposite_ends() -> None:
    a, b = torch.eye(DIM, dtype=torch.float64)[:2]
    assert float(textual_etf(torch.stack([a, -a]), torch.zeros(2, dtype=torch.int64))) == pytest.approx(0)
    assert float(textual_etf(torch.stack([a, b]), torch.zeros(2, dtype=torch.int64))) == pytest.approx(2)


def test_per_pair_is_the_mean_square_of_the_pairs() -> None:
    g = drawn(4)
    unit, zeros = F.normalize(g, dim=-1), torch.zeros(4, dtype=torch.int64)
    pairs = [(float(unit[i] @ unit[j]) + 1 / 3) ** 2 for i in range(4) for j in range(4) if i != j]
    assert float(textual_etf(g, zeros, per_pair=True)) == pytest.approx(sum(pairs) / len(pairs))


def test_length_does_not_matter_to_the_first_two() -> None:
    g, f, y = drawn(), drawn(8, seed=7), torch.tensor([0, 0, 1, 2, 2, 2, 5, 9])
    assert float(textual_etf(3 * g, CLUSTERS)) == pytest.approx(float(textual_etf(g, CLUSTERS)))
    assert float(class_convergence(2 * f, y, 3 * g)) == pytest.approx(float(class_convergence(f, y, g)))


def test_convergence_is_two_less_two_mean_cosines_with_classes_weighing_the_same() -> None:
    g, f, y = drawn(), drawn(6, seed=7), torch.tensor([4, 4, 4, 4, 4, 7])  # five of the head, one of the tail
    cosines = F.cosine_similarity(f, g[y])
    expected = 2 - 2 * float((cosines[:5].mean() + cosines[5]) / 2)
    assert float(class_convergence(f, y, g)) == pytest.approx(expected)


def test_convergence_of_batches_has_the_whole_set_as_its_mean_where_the_counts_are_given() -> None:
    """Batches of two: with the counts they add up to the equation, without them the head outweighs the tail."""
    g, f, y = drawn(), drawn(6, seed=7), torch.tensor([4, 4, 4, 4, 4, 7])
    counts = y.bincount(minlength=len(g))
    whole = float(class_convergence(f, y, g))
    batches = torch.arange(6).split(2)
    assert float(class_convergence(f, y, g, counts)) == pytest.approx(whole)
    mean = sum(float(class_convergence(f[b], y[b], g, counts)) for b in batches) / 3
    assert mean == pytest.approx(whole)
    alone = sum(float(class_convergence(f[b], y[b], g)) for b in batches) / 3
    assert alone != pytest.approx(whole, rel=1e-3)


def test_convergence_lies_between_0_and_4() -> None:
    g, y = drawn(), torch.arange(len(CLUSTERS))
    assert float(class_convergence(5 * g, y, g)) == pytest.approx(0)
    assert float(class_convergence(-g, y, g)) == pytest.approx(4)


def test_rotation_stabilisation_is_zero_at_the_frozen_prototypes_and_sums_coordinates() -> None:
    g = drawn()
    assert float(rotation_stabilisation(2 * g, g)) == 0  # of unit length both
    assert float(rotation_stabilisation(2 * g, g, normalised=False)) == pytest.approx(float(g.abs().sum(dim=1).mean()))
    one, other = torch.eye(2, dtype=torch.float64)
    assert float(rotation_stabilisation(one[None], other[None])) == 2
    tilted = torch.tensor([[math.cos(0.1), math.sin(0.1)]], dtype=torch.float64)
    assert float(rotation_stabilisation(tilted, one[None])) == pytest.approx(1 - math.cos(0.1) + math.sin(0.1))
