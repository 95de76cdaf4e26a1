"""What a fresh linear probe still reads from the features: deep against shallow forgetting. Float64."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import cho_factor, cho_solve


@dataclass(frozen=True, eq=False)
class FreshHead:
    """A linear classifier in closed form; `classes` names the columns."""

    weight: Float[np.ndarray, "cls feature"]
    bias: Float[np.ndarray, " cls"]
    classes: tuple[int, ...]

    def predict(self, features: Float[np.ndarray, "image feature"]) -> Int[np.ndarray, " image"]:
        """Class ids."""
        scores = np.asarray(features, dtype=np.float64) @ self.weight.T + self.bias
        return np.array(self.classes)[scores.argmax(axis=1)]


@dataclass(frozen=True, eq=False)
class Retention:
    """Probe accuracy at two snapshots; `value` is the later minus the earlier one."""

    value: float
    accuracy_s: float
    accuracy_t: float
    classes: tuple[int, ...]
    per_class_s: Float[np.ndarray, " cls"]
    per_class_t: Float[np.ndarray, " cls"]


@dataclass(frozen=True)
class ForgettingSplit:
    """Loss of accuracy in two parts that add up to `total`."""

    total: float
    deep: float  # lost by the features: a fresh probe loses it too
    shallow: float  # lost by the head only: a fresh probe would recover it


def ridge_probe(
    features: Float[np.ndarray, "image feature"], labels: Int[np.ndarray, " image"], ridge: float = 1e-3
) -> FreshHead:
    """Linear probe by ridge regression on one-hot labels, in closed form.

        W = (X^T X + n a (tr X^T X / (n D)) I)^{-1} X^T Y,    X, Y centred (the bias is not penalised)

    `ridge` = a is relative to the mean feature variance, so scale and number of images do not change its meaning.

    Raises:
        ValueError: ridge not positive, no image, or constant features.
    """
    if ridge <= 0 or not len(features):
        raise ValueError(f"ridge_probe needs images and a ridge > 0, got {len(features)} images and {ridge}.")
    x = np.asarray(features, dtype=np.float64)
    ids, inverse = np.unique(np.asarray(labels), return_inverse=True)
    y = np.eye(len(ids))[inverse]
    origin, prior = x.mean(axis=0), y.mean(axis=0)
    x, y = x - origin, y - prior
    gram = x.T @ x
    scale = np.trace(gram) / len(gram)
    if not scale > 0:
        raise ValueError("ridge_probe needs features that are finite and not constant.")
    gram[np.diag_indices_from(gram)] += ridge * scale
    weight = cho_solve(cho_factor(gram, overwrite_a=True), x.T @ y).T
    return FreshHead(weight, prior - weight @ origin, tuple(ids.tolist()))


def probe_retention(
    train_s: Float[np.ndarray, "train feature"],
    train_t: Float[np.ndarray, "train feature_t"],
    train_labels: Int[np.ndarray, " train"],
    *,
    test_s: Float[np.ndarray, "test feature"],
    test_t: Float[np.ndarray, "test feature_t"],
    test_labels: Int[np.ndarray, " test"],
    ridge: float = 1e-3,
) -> Retention:
    """Accuracy of a linear probe refit on the later features minus that of one fit on the earlier ones.

        accuracy of ridge(f_t) - accuracy of ridge(f_s)

    Both probes see the same (oracle) training images and are tested on the same test images. Range [-1, 1]; below 0
    the features themselves lost something (deep forgetting), near 0 with a falling head only the head did. With few
    training images both probes are noisy: half-width about sqrt(2 p (1 - p) / n_test). Source of the distinction:
    Lanzillotta et al., arXiv:2512.07400; the probe here is a ridge in closed form.
    """
    classes = tuple(np.unique(test_labels).tolist())
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


def _accuracy(
    head: FreshHead, features: np.ndarray, labels: np.ndarray, classes: tuple[int, ...]
) -> tuple[float, np.ndarray]:
    right = (head.predict(features) == labels).astype(np.float64)
    return float(right.mean()), np.array([right[labels == c].mean() for c in classes])
