"""What a fresh linear probe still reads from the features: deep against shallow forgetting. Float64."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


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
    sums = RidgeSums()
    if len(features):
        sums.add(features, labels)
    return sums.head(ridge)


class RidgeSums:
    """What `ridge_probe` needs of its images: they can be added a task at a time, and solved after each.

        n, mu, X^T X and X^T Y, X centred.    Two sets a, b:  X^T X = sum of both + n_a n_b / (n_a + n_b) d d^T,
        d = mu_b - mu_a    (Chan, Golub & LeVeque 1979)

    Holds D^2 + K D numbers in float64. One head of a task costs its own images and a factorisation of D x D, whatever
    came before it.
    """

    def __init__(self) -> None:
        self._count = 0
        self._row: dict[int, int] = {}  # class -> row of the sums
        self._counts: Float[np.ndarray, " cls"] = np.zeros(0)
        self._sums = self._gram = np.zeros((0, 0))
        self._origin = self._mean = np.zeros(0)

    def add(self, features: Float[np.ndarray, "image feature"], labels: Int[np.ndarray, " image"]) -> None:
        """Take in images, at least one."""
        x = np.asarray(features, dtype=np.float64)
        mean = x.mean(axis=0)
        x = x - mean
        gram = x.T @ x
        if not self._count:
            self._origin, self._mean, self._gram = mean, mean, gram
            self._sums = np.zeros((0, len(mean)))
        else:
            moved, both = mean - self._mean, self._count + len(x)
            self._gram = self._gram + gram + (self._count * len(x) / both) * np.outer(moved, moved)
            self._mean = self._mean + moved * (len(x) / both)
        self._count += len(x)
        ids, inverse = np.unique(np.asarray(labels), return_inverse=True)
        chosen = np.eye(len(ids))[inverse]
        for c in ids.tolist():
            self._row.setdefault(c, len(self._row))
        more = len(self._row) - len(self._counts)
        self._counts = np.concatenate([self._counts, np.zeros(more)])
        self._sums = np.concatenate([self._sums, np.zeros((more, len(mean)))])
        rows, counts = [self._row[c] for c in ids.tolist()], chosen.sum(axis=0)
        self._counts[rows] += counts
        self._sums[rows] += chosen.T @ x + counts[:, None] * (mean - self._origin)

    def head(self, ridge: float = 1e-3) -> FreshHead:
        """`ridge_probe` of all images so far.

        Raises:
            ValueError: as for `ridge_probe`.
        """
        if ridge <= 0 or not self._count:
            raise ValueError(f"ridge_probe needs images and a ridge > 0, got {self._count} images and {ridge}.")
        from scipy.linalg import cho_factor, cho_solve  # noqa: PLC0415 - a run solves its first head after it has begun

        gram = self._gram.copy()
        scale = np.trace(gram) / len(gram)
        if not scale > 0:
            raise ValueError("ridge_probe needs features that are finite and not constant.")
        gram[np.diag_indices_from(gram)] += ridge * scale
        classes = sorted(self._row)
        rows = [self._row[c] for c in classes]
        counts = self._counts[rows]
        targets = self._sums[rows] - counts[:, None] * (self._mean - self._origin)
        weight = cho_solve(cho_factor(gram, overwrite_a=True), targets.T).T
        return FreshHead(weight, counts / self._count - weight @ self._mean, tuple(classes))


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
