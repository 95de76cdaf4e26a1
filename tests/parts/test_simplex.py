"""A simplex as a classifier: its three ways to stand, against the geometry that each is made of."""

import numpy as np
import pytest
import torch
from torch import Tensor

from cillab.core import rng
from cillab.core.errors import InvalidRequestError
from cillab.geometry.etf import gram_error, growth_angle, nearest_etf
from cillab.parts.simplex import Simplex

DIM = 12
MEANS = torch.randn(5, DIM, generator=torch.Generator().manual_seed(0))


def placed(kind: str, count: int, **how: object) -> Simplex:
    head = Simplex(DIM, None, kind, 6)
    head.grow(tuple(range(count)))
    head.place(MEANS[:count], rng.numpy_stream(0, "draws"), **how)
    return head


def angles(one: Tensor, other: Tensor) -> Tensor:
    return (one.double() * other.double()).sum(dim=1).clamp(-1, 1).acos()


@pytest.mark.parametrize("kind", ["nearest", "prefix", "fixed"])
def test_vertices_are_a_simplex_with_a_row_for_each_class(kind: str) -> None:
    head = placed(kind, 5)
    assert head.vertices.shape == (5, DIM) and head.vertices.dtype == torch.float32
    assert gram_error(head.whole.double().numpy()) < 1e-5
    assert len(head.whole) == (6 if kind == "fixed" else 5)
    torch.testing.assert_close(head(MEANS), MEANS @ head.rows().weight.T)


def test_the_nearest_one_is_that_of_the_geometry_in_any_order_of_classes() -> None:
    weights = np.array([3.0, 3.0, 1.0, 1.0, 1.0])
    expected = torch.from_numpy(nearest_etf(MEANS.double().numpy(), weights)).float()
    torch.testing.assert_close(placed("nearest", 5, old=2, hold=3.0).vertices, expected)
    head, order = placed("nearest", 5), torch.tensor([3, 0, 4, 1, 2])
    before = head.vertices
    head.place(MEANS[order])
    torch.testing.assert_close(head.vertices, before[order])


def test_a_basis_stays_where_no_class_is_new() -> None:
    head = placed("prefix", 3)
    vertices, basis = head.vertices.clone(), head.kept["basis"].clone()
    head.place(MEANS[2:5], rng.numpy_stream(1, "draws"), old=3)
    assert torch.equal(head.vertices, vertices) and torch.equal(head.kept["basis"], basis)


def test_a_basis_grows_by_columns_and_old_vertices_turn_by_the_known_angle() -> None:
    head = placed("prefix", 3)
    before, basis = head.vertices, head.kept["basis"]
    head.grow((3, 4))
    head.place(draws=rng.numpy_stream(1, "draws"), old=3)
    assert torch.equal(head.kept["basis"][:, :3], basis)
    torch.testing.assert_close(
        angles(before, head.vertices[:3]), torch.full((3,), growth_angle(3, 5)).double(), rtol=1e-3, atol=1e-4
    )
    rebuilt = head.vertices
    head.rebuild()
    assert torch.equal(head.vertices, rebuilt)


def test_a_fixed_one_hands_its_vertices_out_and_is_drawn_once() -> None:
    head = placed("fixed", 2)
    whole = head.whole
    head.grow((2, 3))
    head.place(draws=rng.numpy_stream(1, "other draws"))
    assert torch.equal(head.whole, whole) and torch.equal(head.vertices, whole[:4])


def test_what_has_no_room_is_refused_in_words() -> None:
    with pytest.raises(InvalidRequestError, match="hold 2 to 13 vertices"):
        Simplex(DIM, None, "fixed", 14)
    with pytest.raises(InvalidRequestError, match="room for 6 classes, not 7: give a larger capacity"):
        Simplex(DIM, None, "fixed", 6).grow(tuple(range(7)))
    with pytest.raises(InvalidRequestError, match="room for 13 classes, not 14 on 12 features"):
        Simplex(DIM).grow(tuple(range(14)))
    with pytest.raises(InvalidRequestError, match="two classes"):
        Simplex(DIM).grow((0,))


def test_a_state_brings_everything_back() -> None:
    head, other = placed("prefix", 3), Simplex(DIM, None, "prefix")
    other.load(head.state())
    assert other.classes == head.classes and torch.equal(other.vertices, head.vertices)
    for one in (head, other):
        one.grow((3,))
        one.place(draws=rng.numpy_stream(1, "draws"), old=3)
    assert torch.equal(other.vertices, head.vertices)
