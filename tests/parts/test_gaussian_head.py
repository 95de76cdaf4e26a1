"""The Gaussian classifier against SciPy's densities and against FeCAM's equations written out, for every kind."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor

from cillab.core.errors import InvalidRequestError
from cillab.parts.gaussian_head import Gaussian
from cillab.parts.gaussian_memory import GaussianMemory

CLASSES = (7, 401, 3)
DIM = 6
KINDS = ("full", "pooled", "diagonal", "low-rank")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def data(seed: int = 0, each: int = 40) -> tuple[Tensor, Tensor]:
    rows = [
        torch.randn(each, DIM, generator=rng(seed + c)) @ torch.randn(DIM, DIM, generator=rng(50 + c)) + c
        for c in range(3)
    ]
    return torch.cat(rows), torch.tensor(CLASSES).repeat_interleave(each)


def taught(kind: str, **options) -> Gaussian:
    head = Gaussian(DIM, kind, rank=3, **options)  # type: ignore[arg-type]
    head.add(*data())
    return head


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_scipys_log_densities(kind: str) -> None:
    head, (x, _) = taught(kind, shrink=(0.0, 0.0), likelihood=True), data(9)
    mine = head(x)
    memory = GaussianMemory(DIM, kind, rank=3)  # type: ignore[arg-type]
    memory.add(*data())
    for column, c in enumerate(CLASSES):
        mean, s = memory.means[column].double().numpy(), memory.dense((c,))[0].double().numpy()
        expected = 2 * multivariate_normal(mean, s).logpdf(x.double().numpy()) + DIM * np.log(2 * np.pi)
        np.testing.assert_allclose(mine[:, column], expected, rtol=1e-3, atol=1e-3)


def fecam(x: Tensor, a: float, b: float) -> np.ndarray:
    """Minus distances by FeCAM's equations, with an inverse per class."""
    h, labels = (t.double().numpy() for t in data())
    q = x.double().numpy()
    q = q / np.linalg.norm(q, axis=1, keepdims=True)
    found = []
    for c in CLASSES:
        s = np.cov(h[labels == c].T, bias=True)
        off = ~np.eye(DIM, dtype=bool)
        s = s + a * np.diag(s).mean() * np.eye(DIM) + b * s[off].mean() * off
        r = s / np.sqrt(np.outer(np.diag(s), np.diag(s)))
        mu = h[labels == c].mean(0)
        gap = q - mu / np.linalg.norm(mu)
        found.append(-np.einsum("nd,de,ne->n", gap, np.linalg.inv(r), gap))
    return np.stack(found, axis=1)


@pytest.mark.parametrize("shrink", [(1.0, 0.0), (1.0, 1.0), (0.1, 0.05)])
def test_full_covariances_are_fecam(shrink) -> None:
    x, _ = data(9)
    mine = taught("full", shrink=shrink, correlate=True, unit=True)(x)
    np.testing.assert_allclose(mine, fecam(x, *shrink), rtol=1e-3, atol=1e-4)


def test_one_covariance_for_all_decides_as_lda_does() -> None:
    x, _ = data(9)
    h, labels = data()
    oracle = LinearDiscriminantAnalysis(solver="lsqr").fit(h.double().numpy(), labels.numpy())
    mine = taught("pooled", shrink=(0.0, 0.0))(x)
    assert np.array_equal(np.array(CLASSES)[mine.argmax(1)], oracle.predict(x.double().numpy()))


@pytest.mark.parametrize("correlate", [False, True])
def test_low_rank_of_full_rank_is_full_and_of_none_is_diagonal(correlate: bool) -> None:
    x, _ = data(9)
    for rank, kind in ((DIM, "full"), (0, "diagonal")):
        thin = Gaussian(DIM, "low-rank", rank=rank, shrink=(0.2, 0.0), correlate=correlate)
        thin.add(*data())
        other = taught(kind, shrink=(0.2, 0.0), correlate=correlate)
        torch.testing.assert_close(thin(x), other(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_batches_state_and_growth(kind: str) -> None:
    """Images one class at a time or in odd batches, a state that goes round, and one that is resumed."""
    (h, labels), (x, _) = data(), data(9)
    head = Gaussian(DIM, kind, rank=DIM)  # type: ignore[arg-type]
    for chosen in torch.randperm(len(h), generator=rng(2)).split(17):
        head.add(h[chosen], labels[chosen])
    whole = Gaussian(DIM, kind, rank=DIM)  # type: ignore[arg-type]
    whole.add(h, labels)
    order = [head.classes.index(c) for c in whole.classes]
    torch.testing.assert_close(head(x)[:, order], whole(x), rtol=1e-3, atol=1e-3)
    half, other = Gaussian(DIM, kind, rank=DIM), Gaussian(DIM, kind, rank=DIM)  # type: ignore[arg-type]
    half.add(h[:50], labels[:50])
    other.load(half.state())
    assert torch.equal(other(x), half(x))
    other.add(h[50:], labels[50:])
    torch.testing.assert_close(other(x), whole(x), rtol=1e-3, atol=1e-3)


def test_an_image_does_not_depend_on_batch_mates_and_gradients_flow() -> None:
    for kind in KINDS:
        head, (x, _) = taught(kind, correlate=True, unit=True), data(9)
        alone = torch.cat([head(one[None]) for one in x])
        torch.testing.assert_close(alone, head(x), rtol=1e-4, atol=1e-4)
        probe = x[:2].clone().requires_grad_()
        head(probe).sum().backward()
        assert probe.grad is not None and bool(probe.grad.any())


def test_a_thousand_classes_of_768_features_fit_into_a_gibibyte() -> None:
    """What is kept and the roots that classify, in bytes; full covariances alone would need 2.4 GB."""
    for kind in ("pooled", "diagonal", "low-rank"):
        head = Gaussian(768, kind, rank=16, correlate=True)  # type: ignore[arg-type]
        head.grow(tuple(range(1000)))
        head.moments.covariances = torch.ones_like(head.moments.covariances)
        if kind == "pooled":
            head.moments.covariances = torch.eye(768)[None]
        head.moments.factors = torch.randn(head.moments.factors.shape, generator=rng())
        assert head(torch.randn(4, 768, generator=rng())).shape == (4, 1000)
        made = [t for t in vars(head._ready).values() if isinstance(t, Tensor)]
        size = sum(t.numel() * t.element_size() for t in (*head.state().tensors.values(), *made))
        assert size < 2**30 / 4, (kind, size)


def test_thin_covariances_have_no_mean_off_the_diagonal() -> None:
    with pytest.raises(InvalidRequestError, match="off-diagonal"):
        Gaussian(DIM, "diagonal", shrink=(1.0, 1.0))
