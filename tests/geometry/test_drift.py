"""Drift measures against hand-made moves, NumPy, SciPy, scikit-learn and POT."""

import math

import numpy as np
import ot
import pytest
import scipy.linalg
from hypothesis import given, settings, strategies as st
from sklearn.linear_model import Ridge

from cillab.geometry import drift, retention, transport
from cillab.geometry.rows import centre, squared_distances, unit
from cillab.geometry.seeds import bootstrap

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**31)


def gen(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def randn(seed: int, *shape: int) -> np.ndarray:
    return gen(seed).standard_normal(shape)


def rotation(seed: int, dim: int) -> np.ndarray:
    return np.linalg.qr(randn(seed, dim, dim)).Q


def test_identical_snapshots_have_not_moved() -> None:
    x, m, v, w = randn(0, 40, 6), randn(1, 5, 6), np.ones(5), randn(2, 5, 6)
    assert drift.cosine_drift(m, m).value == pytest.approx(0, abs=1e-12)
    assert drift.relative_drift(m, m, v).value == 0
    assert drift.sample_drift(x, x).value == pytest.approx(0, abs=1e-12)
    assert drift.linear_cka(x, x) == pytest.approx(1, abs=1e-12)
    assert drift.linear_cka(x, x, debiased=True) == pytest.approx(1, abs=1e-12)
    assert drift.procrustes_distance(x, x) == pytest.approx(0, abs=1e-12)
    assert drift.subspace_overlap(x, x, 3).value == pytest.approx(1, abs=1e-12)
    assert drift.sliced_wasserstein(x, x, 10, gen(0)).value == 0
    assert drift.head_misalignment(w, m, w, m).value == 0


def test_a_pure_rotation_is_change_for_cosines_and_none_for_cka_and_procrustes() -> None:
    x, q = randn(3, 50, 6), rotation(4, 6)
    y = x @ q
    assert drift.procrustes_distance(x, y) == pytest.approx(0, abs=1e-10)
    assert drift.linear_cka(x, y) == pytest.approx(1, abs=1e-12)
    assert drift.sample_drift(x, y).value > 0.1
    assert drift.procrustes_distance(x, randn(5, 50, 6)) > 0.1
    assert drift.linear_cka(x, randn(5, 50, 6)) < 0.5


@given(seed=seeds, scale=st.floats(1e-2, 1e2))
@few
def test_scale_and_shift_change_neither_cka_nor_procrustes(seed: int, scale: float) -> None:
    x, y = randn(seed, 30, 5), randn(seed + 1, 30, 5)
    moved = scale * y @ rotation(seed + 2, 5) + 3
    for debiased in (False, True):
        assert drift.linear_cka(x, moved, debiased) == pytest.approx(drift.linear_cka(x, y, debiased), abs=1e-8)
    assert drift.procrustes_distance(x, moved) == pytest.approx(drift.procrustes_distance(x, y), abs=1e-8)
    swap = gen(seed).permutation(30)
    assert drift.linear_cka(x[swap], y[swap]) == pytest.approx(drift.linear_cka(x, y), abs=1e-9)


def test_cosine_drift_by_hand_and_why_centring_matters() -> None:
    s, t = np.array([[1.0, 0], [0, 2]]), np.array([[0.0, 1], [0, 6]])
    assert drift.cosine_drift(s, t).detail.tolist() == pytest.approx([1, 0])
    far = np.array([100.0, 0, 0, 0])
    a, b = randn(0, 6, 4), randn(1, 6, 4)
    assert drift.cosine_drift(a + far, b + far).value < 0.01
    assert drift.cosine_drift(a + far, b + far, centred=True).value > 0.3
    zero = drift.cosine_drift(np.zeros((2, 2)), np.eye(2))
    assert np.isnan(zero.detail).all()


def test_relative_drift_by_hand() -> None:
    s, t = np.zeros((2, 2)), np.array([[3.0, 4.0], [0, 0]])
    d = drift.relative_drift(s, t, np.array([1.0, 9.0]))  # mean std = 2
    assert d.detail.tolist() == pytest.approx([2.5, 0])
    assert d.value == pytest.approx(1.25)
    assert drift.relative_drift(s, s + 7, np.ones(2), centred=True).value == pytest.approx(0, abs=1e-12)
    assert drift.relative_drift(s, 10 * t, np.array([100.0, 900.0])).value == pytest.approx(1.25)


@given(seed=seeds, n=st.integers(4, 20))
@few
def test_cka_matches_gram_matrices(seed: int, n: int) -> None:
    x, y = randn(seed, n, 6), randn(seed + 1, n, 3) + 2
    h = np.eye(n) - 1 / n
    k, m = h @ x @ x.T @ h, h @ y @ y.T @ h
    biased = np.trace(k @ m) / np.sqrt(np.trace(k @ k) * np.trace(m @ m))
    assert drift.linear_cka(np.array(x), np.array(y)) == pytest.approx(biased, abs=1e-9)

    def hsic(a: np.ndarray, b: np.ndarray) -> float:  # Song et al.: zero diagonals, on uncentred Grams
        a, b, one = a - np.diag(np.diag(a)), b - np.diag(np.diag(b)), np.ones(n)
        total = one @ a @ one * (one @ b @ one) / ((n - 1) * (n - 2))
        return np.trace(a @ b) + total - 2 / (n - 2) * (one @ a @ b @ one)

    gx, gy = x @ x.T, y @ y.T
    if hsic(gx, gx) * hsic(gy, gy) > 1e-6:
        debiased = hsic(gx, gy) / np.sqrt(hsic(gx, gx) * hsic(gy, gy))
        assert drift.linear_cka(np.array(x), np.array(y), True) == pytest.approx(debiased, abs=1e-6)


def test_debiased_cka_of_unrelated_features_is_near_zero_where_the_biased_one_is_not() -> None:
    pairs = [(randn(2 * s, 20, 100), randn(2 * s + 1, 20, 100)) for s in range(40)]
    assert np.mean([drift.linear_cka(*p) for p in pairs]) > 0.7
    assert abs(np.mean([drift.linear_cka(*p, debiased=True) for p in pairs])) < 0.05


@given(seed=seeds)
@few
def test_procrustes_matches_scipy(seed: int) -> None:
    x, y = (a - a.mean(axis=0) for a in (randn(seed, 12, 4), randn(seed + 1, 12, 4)))
    x, y = x / np.linalg.norm(x), y / np.linalg.norm(y)
    q, _ = scipy.linalg.orthogonal_procrustes(x, y)
    expected = np.linalg.norm(x @ q - y) ** 2
    assert drift.procrustes_distance(np.array(x), np.array(y)) == pytest.approx(expected, abs=1e-9)


@given(seed=seeds, k=st.integers(1, 4))
@few
def test_subspace_overlap_matches_scipy(seed: int, k: int) -> None:
    x, y = randn(seed, 20, 6), randn(seed + 1, 25, 6)
    u, v = (np.linalg.svd(a - a.mean(axis=0))[2][:k].T for a in (x, y))
    expected = np.cos(scipy.linalg.subspace_angles(u, v))
    got = drift.subspace_overlap(x, y, k)
    assert sorted(got.cosines.tolist()) == pytest.approx(sorted(expected), abs=1e-8)
    assert got.value == pytest.approx(np.mean(expected**2), abs=1e-8)


def test_a_planted_angle_between_subspaces_is_recovered() -> None:
    line, angle = randn(0, 50, 1), 0.4
    x = np.concatenate([line, 0 * line], axis=1)
    y = np.concatenate([math.cos(angle) * line, math.sin(angle) * line], axis=1)
    assert drift.subspace_overlap(x, y, 1).cosines == pytest.approx(math.cos(angle), abs=1e-12)


@given(seed=seeds, n=st.integers(1, 12), m=st.integers(1, 12))
@few
def test_sliced_wasserstein_matches_pot(seed: int, n: int, m: int) -> None:
    x, y = randn(seed, n, 3), randn(seed + 1, m, 3)
    u = unit(randn(seed, 8, 3))
    expected = [ot.wasserstein_1d(x @ d, y @ d, p=2) ** 0.5 for d in u]
    got = drift.sliced_wasserstein(x, y, 8, gen(seed))
    assert got.detail.tolist() == pytest.approx(expected, abs=1e-7)
    assert got.value == pytest.approx(math.sqrt(np.mean(np.square(expected))), abs=1e-7)


def test_sliced_wasserstein_of_a_shift_and_its_seed() -> None:
    x, shift = randn(0, 30, 4), np.array([2.0, 0, 0, 0])
    far = drift.sliced_wasserstein(x, x + shift, 4000, gen(1)).value
    assert far == pytest.approx(2 / math.sqrt(4), rel=0.03)
    assert far == drift.sliced_wasserstein(x, x + shift, 4000, gen(1)).value
    assert far != drift.sliced_wasserstein(x, x + shift, 4000, gen(2)).value


def test_bures_wasserstein_of_diagonal_gaussians_by_hand() -> None:
    means_s, means_t = np.zeros((2, 2)), np.array([[3.0, 4.0], [0, 0]])
    covs_s = np.stack([np.eye(2), np.diag(np.array([1.0, 4.0]))])
    covs_t = np.stack([np.eye(2), np.diag(np.array([9.0, 1.0]))])
    got = drift.bures_wasserstein(means_s, covs_s, means_t, covs_t)
    assert got.location.tolist() == pytest.approx([25, 0])
    assert got.shape.tolist() == pytest.approx([0, 5], abs=1e-9)
    assert got.value == pytest.approx((5 + math.sqrt(5)) / 2)


def test_head_misalignment_recovers_a_planted_angle() -> None:
    means = np.array([[1.0, 0], [-1, 0]])
    angle = 0.25
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    got = drift.head_misalignment(3 * means, means, 3 * means, means @ turn)
    assert got.then.tolist() == pytest.approx([0, 0], abs=1e-12)
    assert got.change.tolist() == pytest.approx([angle, angle], abs=1e-12)


def test_semantic_drift_is_exact_for_a_common_shift_and_local_for_two() -> None:
    features, shift = randn(0, 50, 3), np.array([1.0, -2, 0.5])
    old = randn(1, 4, 3)
    got = drift.semantic_drift(old, features, features + shift, old + shift, sigma=0.7)
    assert got.relative_error.tolist() == pytest.approx([0] * 4, abs=1e-12)
    assert got.cosines.tolist() == pytest.approx([1] * 4)
    near = np.array([[0.0], [100.0]])
    moved = np.array([[1.0], [90.0]])
    two = drift.semantic_drift(near, near, moved, moved, sigma=1.0)
    assert two.estimated.flatten().tolist() == pytest.approx([1, -10])
    blurred = drift.semantic_drift(near, near, moved, moved, sigma=1e6)
    assert blurred.estimated.flatten().tolist() == pytest.approx([-4.5, -4.5])
    assert blurred.value > two.value + 0.1


def test_semantic_drift_matches_the_formula() -> None:
    s, t, old, new = randn(0, 20, 3), randn(1, 20, 3), randn(2, 2, 3), randn(3, 2, 3)
    got = drift.semantic_drift(old, s, t, new, sigma=1.3)
    for c in range(2):
        w = [math.exp(-float(np.square(x - old[c]).sum()) / (2 * 1.3**2)) for x in s]
        shift = sum(wi * (b - a) for wi, a, b in zip(w, s, t, strict=True)) / sum(w)
        assert got.estimated[c].tolist() == pytest.approx(shift.tolist(), abs=1e-12)
        assert got.relative_error[c] == pytest.approx(
            float(np.linalg.norm(shift - new[c] + old[c]) / np.linalg.norm(new[c] - old[c]))
        )


# ---- probes


def labelled(seed: int, n: int = 90, d: int = 5) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(n) % 3 * 7
    return randn(seed, n, d) + 1.5 * randn(77, 15, d)[labels], labels


@given(seed=seeds, ridge=st.floats(1e-4, 1e2))
@few
def test_ridge_probe_matches_scikit_learn(seed: int, ridge: float) -> None:
    x, y = labelled(seed)
    probe = retention.ridge_probe(x, y, ridge)
    centred = x - x.mean(axis=0)
    alpha = ridge * float(np.square(centred).sum()) / x.shape[1]
    oracle = Ridge(alpha=alpha).fit(x, np.eye(3)[y // 7])
    assert np.allclose(probe.weight, oracle.coef_, atol=1e-8)
    assert np.allclose(probe.bias, oracle.intercept_, atol=1e-8)
    assert probe.classes == (0, 7, 14)
    moved = retention.ridge_probe(100 * x @ rotation(seed, 5) + 8, y, ridge)
    assert np.array_equal(moved.predict(100 * x @ rotation(seed, 5) + 8), probe.predict(x))


def test_rotated_features_retain_and_erased_features_forget() -> None:
    (train, y), (test, z) = labelled(1), labelled(2)
    q = rotation(3, 5)
    kept = retention.probe_retention(train, train @ q, y, test_s=test, test_t=test @ q, test_labels=z)
    assert kept.value == 0
    assert kept.accuracy_s > 0.7
    assert kept.accuracy_s == pytest.approx(float(kept.per_class_s.mean()))  # 30 images each
    noise_train, noise_test = randn(4, 90, 5), randn(5, 90, 5)
    lost = retention.probe_retention(train, noise_train, y, test_s=test, test_t=noise_test, test_labels=z)
    assert lost.value < -0.3


def test_forgetting_splits_into_deep_and_shallow() -> None:
    split = retention.split_forgetting(head_s=0.9, head_t=0.3, probe_s=0.92, probe_t=0.82)
    assert (split.total, split.deep, split.shallow) == pytest.approx((0.6, 0.1, 0.5))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: drift.linear_cka(np.eye(3), np.eye(3), True), "at least 4, got 3 and 3"),
        (lambda: drift.subspace_overlap(np.eye(3), np.eye(3), 3), "directions must be 1 to 2"),
        (lambda: drift.semantic_drift(*[np.eye(3)] * 4, sigma=0.0), "sigma must be positive, got 0.0"),
        (lambda: drift.sliced_wasserstein(np.eye(3), np.eye(3), 0, gen(0)), "got 0"),
        (lambda: retention.ridge_probe(np.ones((4, 2)), np.arange(4)), "not constant"),
        (lambda: retention.ridge_probe(np.eye(4), np.arange(4), 0.0), "ridge > 0, got 4 images and 0.0"),
    ],
)
def test_errors_say_what_was_given(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_w2_of_images_is_that_of_their_gaussians_and_of_pot() -> None:
    a, b = randn(1, 20, 6) + 3, 2 * randn(2, 15, 6)
    covs = [np.cov(x.T, bias=True) for x in (a, b)]
    ours = transport.w2_of_images(a, b)
    assert ours == pytest.approx(transport.w2_gaussian(a.mean(0), covs[0], b.mean(0), covs[1]), rel=1e-7)
    pot = ot.gaussian.bures_wasserstein_distance(a.mean(0), b.mean(0), covs[0], covs[1])
    assert ours == pytest.approx(float(pot), rel=1e-6)
    assert transport.w2_of_images(a, a) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("images", [5, 40])  # fewer than features, and more: another product is taken
def test_cka_is_the_same_by_either_product(images: int) -> None:
    x, y = centre(randn(3, images, 12)), centre(randn(4, images, 12))
    grams = np.square(x.T @ y).sum() / np.sqrt(np.square(x.T @ x).sum() * np.square(y.T @ y).sum())
    assert drift.linear_cka(x, y) == pytest.approx(grams, rel=1e-12)


def test_bootstrap_covers_like_a_normal_interval_and_leaves_out_what_is_missing() -> None:
    x = np.random.default_rng(6).normal(size=400)
    low, high = bootstrap(np.r_[x, np.nan])
    half = 1.96 * x.std() / 20
    assert (low, high) == pytest.approx((x.mean() - half, x.mean() + half), abs=0.15 * half)
    assert bootstrap(x) == bootstrap(x)
    assert all(math.isnan(end) for end in bootstrap(np.array([1.0])))


@given(seed=seeds, gap=st.floats(1e-9, 10))
@few
def test_distances_keep_their_digits_where_rows_are_close(seed: int, gap: float) -> None:
    a = randn(seed, 4, 6) + 50
    b = a + gap * randn(seed + 1, 4, 6)
    wanted = np.square(a[:, None] - b).sum(axis=2)
    np.testing.assert_allclose(squared_distances(a, b), wanted, rtol=1e-12)
