"""Heads from moments alone. Oracles: the same heads fitted on the images themselves, by scikit-learn or by hand."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge

from cillab.geometry import heads, nc2
from cillab.geometry.etf import nearest_etf
from cillab.geometry.heads import Statistics, blended, confidence
from cillab.geometry.moments import Moments
from cillab.geometry.nc3 import nearest_mean

K, D, N = 6, 12, 40


@pytest.fixture(scope="module")
def images() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    labels = np.repeat(np.arange(K), N)
    shape = rng.normal(size=(D, D)) / 3
    noise = rng.normal(size=(K * N, D)) @ shape + 0.3 * rng.normal(size=(K * N, D))
    return rng.normal(size=(K, D))[labels] + noise, labels


def statistics(images, rank: int | None) -> Statistics:
    x, y = images
    means = np.stack([x[y == c].mean(axis=0) for c in range(K)])
    residual = x - means[y]
    within = np.array([np.square(residual[y == c]).sum(axis=1).mean() for c in range(K)])
    values, vectors = np.linalg.eigh(residual.T @ residual / len(x))
    axes = None if rank is None else vectors[:, ::-1][:, :rank].T.copy()
    return Statistics(means, within, axes, None if rank is None else values[::-1].copy())


@pytest.mark.parametrize("dim", [D, K, K - 2])  # with fewer dimensions than classes another system is solved
def test_ridge_from_moments_is_ridge_on_the_images(images, dim: int) -> None:
    x, y = images[0][:, :dim], images[1]
    known = statistics((x, y), dim)
    for gamma in (1e-3, 0.3, 20.0):
        fitted = Ridge(alpha=gamma * known.scale * len(x)).fit(x, np.eye(K)[y])
        head = known.head("ridge", gamma)
        np.testing.assert_allclose(head.weight, fitted.coef_, atol=1e-10)
        np.testing.assert_allclose(head.bias, fitted.intercept_, atol=1e-10)
        np.testing.assert_allclose(head.scores(x), fitted.predict(x), atol=1e-5)  # single precision


def test_lda_from_moments_is_lda_on_the_images(images) -> None:
    x, y = images
    fitted = LinearDiscriminantAnalysis(solver="lsqr").fit(x, y)
    head = statistics(images, D).head("lda", 1e-9)
    scores, wanted = head.scores(x), fitted.decision_function(x)
    np.testing.assert_allclose(scores - scores[:, :1], wanted - wanted[:, :1], atol=1e-4)


def test_few_directions_are_a_covariance_of_the_same_size(images) -> None:
    whole, part, none = (statistics(images, rank) for rank in (D, 4, None))
    for known in (part, none):
        axes, values, rest = known.scatter
        sigma = axes.T @ np.diag(values) @ axes + rest * (np.eye(D) - axes.T @ axes)
        assert np.trace(sigma) == pytest.approx(whole.within.mean())
        m = known.means - known.means.mean(axis=0)
        total = sigma + m.T @ m / K + 0.1 * known.scale * np.eye(D)
        wanted = np.linalg.solve(total, m.T @ (np.eye(K) - 1 / K) / K).T
        np.testing.assert_allclose(known.head("ridge", 0.1).weight, wanted, atol=1e-10)
    assert whole.directions and part.directions and not none.directions
    # equal scatter in all directions: the discriminant is the nearest mean
    x = images[0]
    assert (none.head("lda").scores(x).argmax(1) == none.head("euclidean").scores(x).argmax(1)).all()


def test_nearest_means(images) -> None:
    x, _ = images
    known = statistics(images, None)
    distance = np.linalg.norm(x[:, None] - known.means, axis=2)
    cosine = (x @ known.means.T) / np.linalg.norm(x, axis=1)[:, None] / np.linalg.norm(known.means, axis=1)
    assert (known.head("euclidean").scores(x).argmax(axis=1) == distance.argmin(axis=1)).all()
    assert (nearest_mean(x, known.means) == distance.argmin(axis=1)).all()
    np.testing.assert_allclose(known.head("cosine").scores(x), cosine, atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_blending_mixes_the_scores_of_the_head_and_of_a_frame_of_its_size(images, share) -> None:
    x, _ = images
    rng = np.random.default_rng(1)
    weight, bias = rng.normal(size=(K, D)), rng.normal(size=K)
    known = statistics(images, None)
    head = blended(heads.Head(weight, bias), known.means, share)
    frame = nearest_etf(known.means)
    frame *= np.linalg.norm(weight) / np.linalg.norm(frame)
    wanted = (1 - share) * (x @ weight.T + bias) + share * (x - known.means.mean(axis=0)) @ frame.T
    scores = head.scores(x)
    np.testing.assert_allclose(scores, wanted, rtol=1e-4, atol=1e-4)
    exps = np.exp((wanted - wanted.max(axis=1, keepdims=True)) / 2.0)
    assert confidence(scores, 2.0) == pytest.approx((exps.max(axis=1) / exps.sum(axis=1)).mean(), rel=1e-5)


def test_statistics_measured_by_moments_know_every_direction(images) -> None:
    x, y = images
    ours, whole = Statistics.measured(Moments.of(x, y)), statistics(images, D)
    for kind in ("ridge", "lda", "euclidean"):
        np.testing.assert_allclose(ours.head(kind).weight, whole.head(kind).weight, atol=1e-9)
    hollow = Moments(D)
    hollow.declare([7])
    hollow.add(x, y)
    with pytest.raises(ValueError, match=r"without an image to fit on: \[7\]"):
        Statistics.measured(hollow)


def test_a_whole_share_is_the_frame_itself(images) -> None:
    known = statistics(images, None)
    for kind in ("cosine", "ridge", "euclidean"):
        assert nc2.maximal_angle(blended(known.head(kind), known.means, 1.0).weight) < 1e-12
    assert nc2.equinorm(known.head("etf").weight).value < 1e-12


def test_heads_do_not_depend_on_the_order_of_classes(images) -> None:
    x, _ = images
    known, order = statistics(images, 5), np.array([3, 1, 5, 0, 2, 4])
    for kind in ("cosine", "euclidean", "ridge", "lda", "etf"):
        here, there = known.head(kind).scores(x), known.of(order).head(kind).scores(x)
        np.testing.assert_allclose(here[:, order], there, rtol=1e-4, atol=1e-4)


def test_refusals(images) -> None:
    known = statistics(images, None)
    with pytest.raises(ValueError, match="at least 2 classes"):
        known.of([1]).head("ridge")
    with pytest.raises(ValueError, match="gamma > 0"):
        known.head("ridge", 0.0)
    with pytest.raises(ValueError, match=r"share must lie in \[0, 1\]"):
        blended(known.head("ridge"), known.means, 1.5)
    with pytest.raises(ValueError, match="temperature must be positive"):
        confidence(np.zeros((1, 2)), 0.0)
