"""Simplex ETFs against their Gram matrix, the closed-form growth angle, and a search over rotations."""

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from cillab.geometry import etf
from cillab.geometry.rows import unit

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**31)


def gen(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def rotation(seed: int, dim: int) -> np.ndarray:
    return np.linalg.qr(gen(seed).standard_normal((dim, dim))).Q


@pytest.mark.parametrize(("k", "d"), [(2, 1), (3, 2), (10, 64), (64, 64), (65, 64), (100, 768)])
def test_random_etf_has_the_gram_matrix_by_definition(k: int, d: int) -> None:
    v = etf.simplex_etf(k, d, gen(0))
    assert v.shape == (k, d)
    gram = v @ v.T
    assert np.allclose(gram.diagonal(), np.ones(k), atol=1e-12)
    off = gram[~np.eye(k, dtype=bool)]
    assert np.allclose(off, np.full_like(off, -1 / (k - 1)), atol=1e-12)
    assert etf.gram_error(v) < 1e-12
    assert np.abs(v.sum(axis=0)).max() < 1e-12


def test_gram_error_sees_one_wrong_vertex() -> None:
    v = etf.simplex_etf(4, 5, gen(0))
    v[2] *= 1.5
    assert etf.gram_error(v) == pytest.approx(1.5**2 - 1, abs=1e-12)


def test_ideal_cosine() -> None:
    assert [etf.ideal_cosine(k) for k in (2, 3, 11)] == [-1, -0.5, -0.1]


@given(seed=seeds)
@few
def test_generator_alone_decides(seed: int) -> None:
    a, b, c = (etf.simplex_etf(5, 7, gen(s)) for s in (seed, seed, seed + 1))
    assert np.array_equal(a, b)
    assert not np.allclose(a, c)


@pytest.mark.parametrize(
    ("old", "new", "degrees"), [(5, 10, 19.47), (10, 20, 13.26), (20, 30, 7.55), (90, 100, 1.92), (10, 100, 17.55)]
)
def test_growth_angle_matches_vertices_and_known_degrees(old: int, new: int, degrees: float) -> None:
    basis = etf.orthonormal_basis(128, old, gen(0))
    grown = etf.extend_basis(basis, new - old, gen(1))
    assert np.array_equal(grown[:, :old], basis)  # the prefix is kept bit for bit
    before, after = etf.etf_from_basis(basis), etf.etf_from_basis(grown)
    cosines = (before * after[:old]).sum(axis=1).clip(-1, 1)
    angle = etf.growth_angle(old, new)
    assert np.allclose(np.arccos(cosines), np.full_like(cosines, angle), atol=1e-7)
    assert math.degrees(angle) == pytest.approx(degrees, abs=5e-3)
    assert etf.gram_error(after) < 1e-12


def test_no_growth_is_no_turn() -> None:
    assert etf.growth_angle(7, 7) == 0


def test_basis_filled_to_the_last_dimension_stays_orthonormal() -> None:
    basis = etf.orthonormal_basis(30, 29, gen(3))
    full = etf.extend_basis(basis, 1, gen(4))
    assert np.allclose(full.T @ full, np.eye(30), atol=1e-13)
    assert np.array_equal(etf.extend_basis(full, 0, gen(5)), full)


@given(seed=seeds, k=st.integers(2, 9), spare=st.integers(-1, 4), scale=st.floats(1e-3, 1e3))
@few
def test_nearest_etf_recovers_a_moved_etf(seed: int, k: int, spare: int, scale: float) -> None:
    planted = etf.simplex_etf(k, k + spare, gen(seed))
    found = etf.nearest_etf(scale * planted + 3.0)
    assert np.allclose(found, planted, atol=1e-9)


@given(seed=seeds, k=st.integers(3, 6), spare=st.integers(-1, 3))
@few
def test_no_rotation_agrees_better_than_the_nearest_etf(seed: int, k: int, spare: int) -> None:
    d = k + spare
    means = gen(seed).standard_normal((k, d))
    weights = gen(seed + 1).random(k) + 0.1
    h = unit(means - means.mean(axis=0)) * weights[:, None]
    best = etf.nearest_etf(means, weights)
    assert etf.gram_error(best) < 1e-12
    for i in range(50):
        rival = best @ rotation(seed + i, d) if i % 2 else etf.simplex_etf(k, d, gen(seed + i))
        assert (rival * h).sum() <= (best * h).sum() + 1e-12


def test_weights_change_the_answer_and_pull_towards_the_heavy_class() -> None:
    means = gen(2).standard_normal((4, 6))
    heavy = np.array([100.0, 1, 1, 1])
    h = unit(means - means.mean(axis=0))
    plain, pulled = etf.nearest_etf(means), etf.nearest_etf(means, heavy)
    assert (pulled[0] * h[0]).sum() > (plain[0] * h[0]).sum() + 1e-4
    assert np.allclose(etf.nearest_etf(means, np.ones(4)), plain, atol=1e-12)


def test_nearest_etf_of_degenerate_means_is_still_an_etf() -> None:  # rank 1, dim = classes - 1
    means = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [6, 0, 0]])
    assert etf.gram_error(etf.nearest_etf(means)) < 1e-12


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: etf.simplex_etf(10, 8, gen(0)), "at least 9 dimensions, got 8"),
        (lambda: etf.simplex_etf(1, 8, gen(0)), "at least 2 classes, got 1"),
        (lambda: etf.ideal_cosine(1), "at least 2 classes, got 1"),
        (lambda: etf.growth_angle(5, 4), "at least k_old = 5, got 4"),
        (lambda: etf.orthonormal_basis(3, 4, gen(0)), "room for 0 to 3 more, got 4"),
        (lambda: etf.etf_from_basis(2 * np.eye(3)), "must be orthonormal"),
        (lambda: etf.nearest_etf(np.array([[1.0], [0.0], [-1.0]])), "at least 2 dimensions, got 1"),
        (lambda: etf.nearest_etf(np.array([[1.0, 0], [0, 0], [-1, 0]])), "class mean 1 equals the global mean"),
        (lambda: etf.nearest_etf(np.eye(3), np.array([1.0, 0, 1])), "3 positive numbers"),
    ],
)
def test_errors_say_what_was_given(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(("classes", "dim"), [(2, 2), (5, 5), (5, 9), (20, 64)])
def test_a_basis_makes_its_vertices_again_and_can_grow(classes, dim) -> None:
    vertices = etf.simplex_etf(classes, dim, gen(0))
    basis = etf.basis_of(vertices, gen(1))
    np.testing.assert_allclose(basis.T @ basis, np.eye(classes), atol=1e-7)
    np.testing.assert_allclose(etf.etf_from_basis(basis), vertices, atol=1e-7)


def test_no_basis_for_what_is_no_etf_or_leaves_no_room() -> None:
    with pytest.raises(ValueError, match="no simplex ETF"):
        etf.basis_of(np.eye(3, 5), gen(0))
    with pytest.raises(ValueError, match="at most 3"):
        etf.basis_of(etf.simplex_etf(4, 3, gen(0)), gen(0))
