"""What a fresh linear probe still reads from the features: deep against shallow forgetting. Float64."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Probe:
    """A linear classifier in closed form; `classes` names the columns."""

    weight: Float[Tensor, "cls feature"]
    bias: Float[Tensor, " cls"]
    classes: tuple[int, ...]

    def predict(self, features: Float[Tensor, "image feature"]) -> Int[Tensor, " image"]:
        """Class ids."""
        scores = features.double() @ self.weight.T + self.bias
        return torch.tensor(self.classes, device=scores.device)[scores.argmax(dim=1)]


@dataclass(frozen=True, eq=False)
class Retention:
    """Probe accuracy at two snapshots; `value` is the later minus the earlier one."""

    value: float
    accuracy_s: float
    accuracy_t: float
    classes: tuple[int, ...]
    per_class_s: Float[Tensor, " cls"]
    per_class_t: Float[Tensor, " cls"]


@dataclass(frozen=True)
class ForgettingSplit:
    """Loss of accuracy in two parts that add up to `total`."""

    total: float
    deep: float  # lost by the features: a fresh probe loses it too
    shallow: float  # lost by the head only: a fresh probe would recover it


def ridge_probe(features: Float[Tensor, "image feature"], labels: Int[Tensor, " image"], ridge: float = 1e-3) -> Probe:
    """Linear probe by ridge regression on one-hot labels, in closed form.

        W = (X^T X + n a (tr X^T X / (n D)) I)^{-1} X^T Y,    X, Y centred (the bias is not penalised)

    `ridge` = a is relative to the mean feature variance, so scale and number of images do not change its meaning.

    Raises:
        ValueError: ridge not positive, no image, or constant features.
    """
    if ridge <= 0 or not len(features):
        raise ValueError(f"ridge_probe needs images and a ridge > 0, got {len(features)} images and {ridge}.")
    x = features.double()
    ids, inverse = torch.unique(labels, return_inverse=True)
    y = torch.nn.functional.one_hot(inverse.to(x.device), len(ids)).double()
    origin, prior = x.mean(dim=0), y.mean(dim=0)
    x, y = x - origin, y - prior
    gram = x.T @ x
    scale = gram.trace() / len(gram)
    if not bool(scale > 0):
        raise ValueError("ridge_probe needs features that are finite and not constant.")
    gram.diagonal().add_(ridge * scale)
    weight = torch.cholesky_solve(x.T @ y, torch.linalg.cholesky(gram)).T
    return Probe(weight, prior - weight @ origin, tuple(ids.tolist()))


def probe_retention(
    train_s: Float[Tensor, "train feature"],
    train_t: Float[Tensor, "train feature_t"],
    train_labels: Int[Tensor, " train"],
    *,
    test_s: Float[Tensor, "test feature"],
    test_t: Float[Tensor, "test feature_t"],
    test_labels: Int[Tensor, " test"],
    ridge: float = 1e-3,
) -> Retention:
    """Accuracy of a linear probe refit on the later features minus that of one fit on the earlier ones.

        accuracy of ridge(f_t) - accuracy of ridge(f_s)

    Both probes see the same (oracle) training images and are tested on the same test images. Range [-1, 1]; below 0
    the features themselves lost something (deep forgetting), near 0 with a falling head only the head did. With few
    training images both probes are noisy: half-width about sqrt(2 p (1 - p) / n_test). Source of the distinction:
    Lanzillotta et al., arXiv:2512.07400; the probe here is a ridge in closed form.
    """
    classes = tuple(torch.unique(test_labels).tolist())
    before = _accuracy(ridge_probe(train_s, train_labels, ridge), test_s, test_labels, classes)
    after = _accuracy(ridge_probe(train_t, train_labels, ridge), test_t, test_labels, classes)
    return Retention(after[0] - before[0], before[0], after[0], classes, before[1], after[1])


def split_forgetting(head_s: float, head_t: float, probe_s: float, probe_t: float) -> ForgettingSplit:
    """Split the accuracy that a head lost into what the features lost and what only the head lost.

        total = head_s - head_t,    deep = probe_s - probe_t,    shallow = total - deep

    Range [-1, 1], [-2, 2] for shallow; positive = forgotten. Fractions in, fractions out. Small samples: the errors of
    all four accuracies add up. Source: the distinction of Lanzillotta et al., arXiv:2512.07400.
    """
    total, deep = head_s - head_t, probe_s - probe_t
    return ForgettingSplit(total, deep, total - deep)


def _accuracy(probe: Probe, features: Tensor, labels: Tensor, classes: tuple[int, ...]) -> tuple[float, Tensor]:
    right = (probe.predict(features) == labels).double()
    return float(right.mean()), torch.stack([right[labels == c].mean() for c in classes])
