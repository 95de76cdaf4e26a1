"""NC1 to NC5 and the spectra against definitions written out in NumPy, closed forms and their symmetries."""

import math
from inspect import unwrap  # our own shape errors, behind the shape checker of the tests
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from sklearn.neighbors import NearestCentroid

from cillab.geometry import nc1, nc2, nc3, spectrum
from cillab.geometry.etf import simplex_etf
from cillab.geometry.moments import Moments

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**31)


def gen(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def randn(seed: int, *shape: int) -> np.ndarray:
    return gen(seed).standard_normal(shape)


def rotation(seed: int, dim: int) -> np.ndarray:
    return np.linalg.qr(randn(seed, dim, dim)).Q


def cloud(seed: int, k: int = 6, d: int = 9, n: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Unbalanced classes: class c has n + c images."""
    labels = np.concatenate([np.full((n + c,), c) for c in range(k)])
    return 2 * randn(seed, k, d)[labels] + randn(seed + 1, len(labels), d) @ randn(seed + 2, d, d) / 3, labels


def numpy_nc1(features: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The four variants term by term, with D x D matrices and NumPy's pseudo-inverse."""
    x, y = features, labels
    ids = np.unique(y)
    k, means = len(ids), np.stack([x[y == c].mean(axis=0) for c in ids])
    mu_g = means.mean(axis=0)
    within = sum(np.outer(h - means[c], h - means[c]) for h, c in zip(x, np.searchsorted(ids, y), strict=True)) / len(x)
    between = sum(np.outer(m - mu_g, m - mu_g) for m in means) / k
    variances = [np.mean(np.sum((x[y == c] - m) ** 2, axis=1)) for c, m in zip(ids, means, strict=True)]
    pairs = [
        (variances[a] + variances[b]) / (2 * np.sum((means[a] - means[b]) ** 2)) for a, b in combinations(range(k), 2)
    ]
    values, vectors = np.linalg.eigh(between)
    top = np.argsort(values)[::-1][: min(k - 1, x.shape[1])]
    return {
        "pinv": np.trace(within @ np.linalg.pinv(between, rcond=1e-10)) / k,
        "svd": sum(vectors[:, i] @ within @ vectors[:, i] / values[i] for i in top) / k,
        "quotient": np.trace(within) / np.trace(between),
        "cdnv": float(np.mean(pairs)),
    }


def our_nc1(features: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    m = Moments.of(features, labels)
    centred = nc2.centre(m.means())
    return {
        "pinv": nc1.nc1_pinv(m.pooled_within(), centred).value,
        "svd": nc1.nc1_svd(m.pooled_within(), centred).value,
        "quotient": nc1.nc1_quotient(m.variances(), m.counts, centred).value,
        "cdnv": nc1.cdnv(m.variances(), m.means()).value,
    }


@given(seed=seeds, k=st.integers(2, 12), d=st.integers(2, 9))  # K > D included
@few
def test_nc1_matches_numpy(seed: int, k: int, d: int) -> None:
    x, y = cloud(seed, k, d)
    assert our_nc1(x, y) == pytest.approx(numpy_nc1(x, y), rel=1e-6)


@given(seed=seeds, scale=st.floats(1e-2, 1e2))
@few
def test_nc1_ignores_rotation_scale_shift_and_class_names(seed: int, scale: float) -> None:
    x, y = cloud(seed)
    moved = our_nc1(scale * x @ rotation(seed, 9) + 5.0, 10 - y)
    assert moved == pytest.approx(our_nc1(x, y), rel=1e-7)


def test_nc1_grows_with_the_spread_by_the_square() -> None:
    x, y = cloud(3)
    means = Moments.of(x, y).means()[y]
    wide = our_nc1(means + 2 * (x - means), y)
    assert wide == pytest.approx({name: 4 * v for name, v in our_nc1(x, y).items()}, rel=1e-9)


def test_nc1_of_isotropic_noise_around_an_etf_in_closed_form() -> None:
    # ||mu_c|| = 1: Sigma_B has K-1 eigenvalues 1/(K-1). Sigma_W = s^2 I gives (1/K) (K-1) s^2 (K-1).
    k, d, s = 5, 12, 0.3
    centred = simplex_etf(k, d, gen(0))
    within = s**2 * np.eye(d)
    ratio = nc1.nc1_pinv(within, centred)
    assert ratio.value == pytest.approx(s**2 * (k - 1) ** 2 / k, rel=1e-12)
    assert ratio.value == pytest.approx(float((ratio.within / ratio.eigenvalues).sum() / k))
    variances, counts = np.full((k,), d * s**2), np.full((k,), 7)
    assert nc1.nc1_quotient(variances, counts, centred).value == pytest.approx(d * s**2, rel=1e-12)
    assert nc1.cdnv(variances, centred).value == pytest.approx(d * s**2 / (2 * k / (k - 1)), rel=1e-12)


def test_collinear_means_are_cut_off_and_never_negative() -> None:
    centred = nc2.centre(np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [6, 0, 0]]))
    within = np.diag(np.array([1.0, 50.0, 70.0]))
    ratio = nc1.nc1_pinv(within, centred)
    assert ratio.dropped == 2
    assert ratio.value == pytest.approx(1 / float(np.square(centred[:, 0]).mean()) / 4)
    assert nc1.nc1_svd(within, centred).value > 1e10


def test_equal_means_and_single_classes_are_nan_not_a_number_that_looks_right() -> None:
    within = np.eye(2)
    assert math.isnan(nc1.nc1_pinv(within, np.zeros((3, 2))).value)
    assert math.isnan(nc1.nc1_pinv(within, np.zeros((1, 2))).value)
    assert math.isnan(nc1.cdnv(np.ones(1), np.zeros((1, 2))).value)
    assert math.isnan(nc1.nc1_quotient(np.ones(1), np.ones(1).astype(int), np.zeros((1, 2))).value)
    assert nc1.cdnv(np.ones(2), np.zeros((2, 2))).value == math.inf


# ---- NC2


def cosines_oracle(means: np.ndarray) -> tuple[list[float], list[float]]:
    """Norms and pairwise cosines of centred rows in Python floats."""
    centre = [math.fsum(column) / len(means) for column in means.T.tolist()]
    rows = [[x - m for x, m in zip(row, centre, strict=True)] for row in means.tolist()]
    dots = [(a, b, math.fsum(x * y for x, y in zip(a, b, strict=True))) for a, b in combinations(rows, 2)]
    return [math.hypot(*r) for r in rows], [dot / math.hypot(*a) / math.hypot(*b) for a, b, dot in dots]


@given(seed=seeds, k=st.integers(3, 12), d=st.integers(2, 9))
@few
def test_nc2_matches_python_floats(seed: int, k: int, d: int) -> None:
    means = randn(seed, k, d)
    norms, cosines = cosines_oracle(means)
    average = math.fsum(cosines) / len(cosines)
    spread = math.sqrt(math.fsum((c - average) ** 2 for c in cosines) / len(cosines))
    assert nc2.equiangularity(means) == pytest.approx(spread, abs=1e-9)
    widest = math.fsum(abs(c + 1 / (k - 1)) for c in cosines) / len(cosines)
    assert nc2.maximal_angle(means) == pytest.approx(widest, abs=1e-9)
    assert nc2.equinorm(means).value == pytest.approx(np.std(norms) / np.mean(norms), abs=1e-9)
    m = means - means.mean(axis=0)
    ideal = (np.eye(k) - 1 / k) / np.sqrt(k - 1)
    gram = np.linalg.norm(m @ m.T / np.linalg.norm(m @ m.T) - ideal)
    assert nc2.simplex_gram_distance(means) == pytest.approx(gram, abs=1e-9)
    distances = [math.sqrt(2 - 2 * c) for c in cosines]
    log, riesz = nc2.generalised_nc2(means), nc2.generalised_nc2(means, "riesz", 1.5)
    assert log.mean == pytest.approx(np.mean([-math.log(r) for r in distances]), rel=1e-6, abs=1e-9)
    assert log.variance == pytest.approx(np.var([-math.log(r) for r in distances]), rel=1e-6, abs=1e-9)
    assert riesz.mean == pytest.approx(np.mean([r**-1.5 for r in distances]), rel=1e-6)
    assert riesz.variance == pytest.approx(np.var([r**-1.5 for r in distances]), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(("k", "d"), [(3, 2), (10, 20), (100, 99)])
def test_simplex_etf_is_zero(k: int, d: int) -> None:
    means = 7 * simplex_etf(k, d, gen(1)) - 4
    assert nc2.equiangularity(means) == pytest.approx(0, abs=1e-12)
    assert nc2.maximal_angle(means) == pytest.approx(0, abs=1e-12)
    assert nc2.equinorm(means).value == pytest.approx(0, abs=1e-12)
    assert nc2.simplex_gram_distance(means) == pytest.approx(0, abs=1e-12)
    energy = nc2.generalised_nc2(means)
    assert energy.variance == pytest.approx(0, abs=1e-12)
    assert energy.mean == pytest.approx(-0.5 * math.log(2 * k / (k - 1)), abs=1e-12)


@pytest.mark.parametrize("k", [3, 5, 7, 8, 20])
def test_the_largest_maximal_angle_is_of_means_on_a_line(k: int) -> None:
    line = np.zeros((k, 4))
    line[0, 0] = 1.0  # one on this side of the mean, all others on the other
    widest = 1 + (k - 4) / (k * k - k)
    assert nc2.maximal_angle(line) == pytest.approx(widest, abs=1e-12)
    assert widest <= 15 / 14 + 1e-12
    draws = np.random.default_rng(k)
    for dim in (1, 2, 5):
        assert max(nc2.maximal_angle(draws.standard_normal((k, dim)) ** 3) for _ in range(50)) <= widest + 1e-12


def test_square_by_hand() -> None:  # cosines: 0 for four pairs, -1 for two; the target is -1/3; K = D + 2
    square = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    assert nc2.equiangularity(square) == pytest.approx(math.sqrt(2) / 3, abs=1e-12)
    assert nc2.maximal_angle(square) == pytest.approx((4 / 3 + 2 * 2 / 3) / 6, abs=1e-12)
    assert nc2.equinorm(square).value == pytest.approx(0, abs=1e-12)
    energy = nc2.generalised_nc2(square, "log")
    assert energy.mean == pytest.approx(-(4 * math.log(math.sqrt(2)) + 2 * math.log(2)) / 6, abs=1e-12)
    skewed = np.array([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0], [-0.6, -0.8]])
    assert nc2.generalised_nc2(skewed).mean > energy.mean  # the square is the optimum on the circle


@given(seed=seeds)
@few
def test_no_configuration_has_less_energy_than_the_simplex(seed: int) -> None:
    for kernel in ("log", "riesz"):
        best = nc2.generalised_nc2(simplex_etf(5, 6, gen(seed)), kernel)
        assert nc2.generalised_nc2(randn(seed, 5, 6), kernel).mean > best.mean - 1e-12


@given(seed=seeds, scale=st.floats(1e-3, 1e3))
@few
def test_nc2_ignores_rotation_scale_shift_and_class_order(seed: int, scale: float) -> None:
    means = randn(seed, 7, 5)
    moved = (scale * means @ rotation(seed + 1, 5) + 3.0)[::-1]
    for metric in (nc2.equiangularity, nc2.maximal_angle, nc2.simplex_gram_distance):
        assert metric(moved) == pytest.approx(metric(means), abs=1e-8)
    assert nc2.equinorm(moved).value == pytest.approx(nc2.equinorm(means).value, abs=1e-8)
    assert nc2.generalised_nc2(moved).mean == pytest.approx(nc2.generalised_nc2(means).mean, abs=1e-8)


def test_planted_angles_are_read_back() -> None:
    angles = np.array([0.3, 2.0, 4.0])
    means = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    means = np.concatenate([means, -means])  # the centre stays at 0
    assert nc2.cosines(means)[0, 1] == pytest.approx(math.cos(1.7), abs=1e-12)
    assert nc2.cosines(means)[1, 2] == pytest.approx(math.cos(2.0), abs=1e-12)


def test_head_norms_are_not_centred() -> None:
    head = np.array([[1.0, 0.0], [3.0, 0.0]])
    assert nc2.equinorm(head, centred=False).value == pytest.approx(0.5)
    assert nc2.equinorm(head).value == pytest.approx(0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nc2.equiangularity(np.eye(2)), "at least 3 classes, got 2"),
        (lambda: nc2.equiangularity(np.array([[1.0], [0.0], [-1.0]])), "class mean 1 equals"),
        (lambda: nc2.cosines(np.full((3, 2), 0.1)), "equals the global mean"),
        (lambda: nc2.maximal_angle(np.eye(1)), "at least 2 classes, got 1"),
        (lambda: nc2.simplex_gram_distance(np.zeros((3, 2))), "not zero, got 3"),
        (lambda: nc2.generalised_nc2(np.eye(2), "riesz"), "exponent must be positive, got 0"),
        (lambda: unwrap(nc3.nc3)(np.eye(2), np.eye(3)), r"head \[2, 2\] does not fit class means \[3, 3\]"),
        (
            lambda: unwrap(nc1.nc1_svd)(np.eye(2), np.eye(3)),
            r"Sigma_W \[2, 2\] does not fit class means \[3, 3\]",
        ),
        (lambda: unwrap(nc3.nc4)(np.zeros((2, 4)), np.eye(3), None, np.eye(3)), "do not fit"),
    ],
)
def test_errors_say_what_was_given(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


# ---- NC3, NC4, NC5


@given(seed=seeds, scale=st.floats(1e-2, 1e2))
@few
def test_nc3_matches_numpy_and_ignores_scale_and_joint_rotation(seed: int, scale: float) -> None:
    w, means = randn(seed, 6, 4), randn(seed + 1, 6, 4)
    m = means - means.mean(axis=0)
    got = nc3.nc3(w, means)
    distance = np.linalg.norm(w / np.linalg.norm(w) - m / np.linalg.norm(m))
    cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(w, m, strict=True)]
    cross = w @ m.T
    structure = np.linalg.norm(cross / np.linalg.norm(cross) - (np.eye(6) - 1 / 6) / np.sqrt(5))
    assert got.distance == pytest.approx(distance, abs=1e-10)
    assert got.cosines.tolist() == pytest.approx(cosines, abs=1e-10)
    assert got.mean_cosine == pytest.approx(np.mean(cosines), abs=1e-10)
    assert got.uniformity == pytest.approx(np.var(cosines), abs=1e-10)
    assert got.structure == pytest.approx(structure, abs=1e-10)
    q = rotation(seed + 2, 4)
    moved = nc3.nc3(scale * w @ q, 3 * means @ q + 1)
    assert (moved.distance, moved.structure) == pytest.approx((got.distance, got.structure), abs=1e-8)
    assert nc3.nc3(w @ q, means).distance != pytest.approx(got.distance, abs=1e-4)  # rotating one side must show


def test_self_dual_head_is_zero_and_the_two_distances_ask_different_questions() -> None:
    means = simplex_etf(4, 8, gen(0))
    perfect = nc3.nc3(5 * means, 2 * means + 3)
    assert (perfect.distance, perfect.mean_cosine) == pytest.approx((0, 1), abs=1e-12)
    assert (perfect.uniformity, perfect.structure) == pytest.approx((0, 0), abs=1e-12)
    opposite = nc3.nc3(-means, means)
    assert (opposite.distance, opposite.mean_cosine) == pytest.approx((2, -1), abs=1e-12)
    null = np.linalg.svd(means).Vh[4:]  # directions orthogonal to all means
    mixed = nc3.nc3(means + null, means)
    assert mixed.structure == pytest.approx(0, abs=1e-12)
    assert mixed.distance > 0.5
    shifted = means + 2.0
    assert nc3.nc3(shifted, means, centre_head=True).distance == pytest.approx(0, abs=1e-12)
    assert nc3.nc3(shifted, means).distance > 0.5


@given(seed=seeds)
@few
def test_nc4_matches_a_loop_and_scikit_learn(seed: int) -> None:
    x, y = cloud(seed)
    means, w, b = Moments.of(x, y).means(), randn(seed + 3, 6, 9), 3 * randn(seed + 4, 6)
    got = nc3.nc4(x, w, b, means, y)
    head = [max(range(6), key=lambda c: float(h @ w[c] + b[c])) for h in x]
    near = [min(range(6), key=lambda c: float(np.linalg.norm(h - means[c]))) for h in x]
    same = np.array(head) == np.array(near)
    assert got.value == pytest.approx(same.mean())
    assert got.per_class.tolist() == pytest.approx([same[y == c].mean() for c in range(6)])
    assert got.nearest.tolist() == NearestCentroid().fit(x, y).predict(x).tolist()
    logits = nc3.nc4_from_logits(x @ w.T + b, x, means, y)
    assert logits.value == got.value
    by_nearest = nc3.nc4(x, w, b, means)
    assert by_nearest.counts.tolist() == np.bincount(near, minlength=6).tolist()


def test_nc4_counts_the_bias_and_survives_offsets_and_empty_classes() -> None:
    means = simplex_etf(3, 4, gen(0))
    x = means.repeat(5, axis=0)
    assert nc3.nc4(x, means, None, means).value == 1
    assert nc3.nc4(x, means, np.array([9.0, 0, 0]), means).value == pytest.approx(1 / 3)
    assert np.array_equal(nc3.nearest_mean(x + 1e6, means + 1e6), nc3.nearest_mean(x, means))
    hollow = np.concatenate([means, np.full((1, 4), np.nan)])
    assert nc3.nearest_mean(x, hollow).max() == 2
    labels = np.zeros(15, dtype=np.int64)
    assert np.isnan(nc3.nc4(x, means, None, means, labels).per_class[1:]).all()


def test_nc5_is_zero_for_an_orthogonal_outlier_and_one_for_an_aligned_one() -> None:
    means = np.concatenate([simplex_etf(4, 5, gen(0)), np.zeros((4, 1))], axis=1) + 2
    outlier = means.mean(axis=0) + np.array([0.0, 0, 0, 0, 0, 3])
    assert nc3.nc5(means, outlier).value == pytest.approx(0, abs=1e-12)
    aligned = nc3.nc5(means, means[1])
    assert aligned.per_class[1] == pytest.approx(1)
    assert aligned.value == pytest.approx((1 + 3 / 3) / 4)


# ---- spectra


def test_spectra_of_known_eigenvalues() -> None:
    q = rotation(0, 5)
    flat = q @ np.diag(np.array([2.0, 2, 2, 0, 0])) @ q.T
    assert spectrum.effective_rank(flat) == pytest.approx(3, abs=1e-9)
    assert spectrum.participation_ratio(flat) == pytest.approx(3, abs=1e-9)
    assert spectrum.top_eigenvalue_share(flat) == pytest.approx(1 / 3, abs=1e-9)
    uneven = q @ np.diag(np.array([3.0, 1, 0, 0, 0])) @ q.T
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert spectrum.effective_rank(uneven) == pytest.approx(math.exp(entropy), abs=1e-9)
    assert spectrum.participation_ratio(uneven) == pytest.approx(1.6, abs=1e-9)
    assert spectrum.top_eigenvalue_share(uneven) == pytest.approx(0.75, abs=1e-9)
    assert all(
        math.isnan(f(np.zeros((3, 3))))
        for f in (spectrum.effective_rank, spectrum.participation_ratio, spectrum.top_eigenvalue_share)
    )


@pytest.mark.parametrize("classes", [2, 5, 10, 40])
def test_nc1_of_a_simplex_grows_with_the_number_of_classes_and_the_quotient_does_not(classes: int) -> None:
    vertices = np.sqrt(classes / (classes - 1)) * (np.eye(classes) - 1 / classes)
    spread = 0.3
    assert nc1.nc1_pinv(spread * np.eye(classes), vertices).value == pytest.approx(
        spread * (classes - 1) ** 2 / classes
    )
    variances, counts = np.full(classes, spread * classes), np.full(classes, 7)
    assert nc1.nc1_quotient(variances, counts, vertices).value == pytest.approx(spread * classes)
