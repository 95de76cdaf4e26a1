"""Linear maps of features into a plane or a 3-space. Fitted once, they keep their axes at every step."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from cillab.core.errors import InvalidRequestError


@dataclass(frozen=True)
class Projection:
    """The linear map x -> (x - centre) @ axes, with orthonormal columns in `axes`: it shrinks, it never stretches."""

    centre: Float[ndarray, " feature"]
    axes: Float[ndarray, "feature axis"]
    share: Float[ndarray, " axis"]  # of the variance of the points it was fitted on, per axis; they sum to at most 1

    def __call__(self, features: Float[ndarray, "point feature"]) -> Float[ndarray, "point axis"]:
        """Coordinates of `features`, in their unit."""
        return ((features.astype(np.float64) - self.centre) @ self.axes).astype(np.float32)


def pca(features: Float[ndarray, "point feature"], axes: int = 2) -> Projection:
    """Directions of largest variance of `features`: pool the steps before, so that no step is favoured.

    Each axis points to where its largest loading is positive, so that two runs of it agree.

    Raises:
        InvalidRequestError: more axes than dimensions, fewer than 2 points, or a value that is not finite.
    """
    x = _checked(features, axes)
    centre = x.mean(axis=0)
    scatter = (x - centre).T @ (x - centre)
    values, vectors = np.linalg.eigh(scatter)
    chosen = vectors[:, ::-1][:, :axes]
    return Projection(centre, _signed(chosen), values[::-1][:axes].clip(min=0) / max(np.trace(scatter), 1e-300))


def through(vertices: Float[ndarray, "vertex feature"], features: Float[ndarray, "point feature"]) -> Projection:
    """The flat through chosen vertices (class means, ETF vertices): 3 span a plane, 4 a 3-space.

    Angles and distances between the vertices themselves are exact. The first axis points from the vertices' centroid
    to the first of them. `features` only tell what share of their variance lies in the flat.

    Raises:
        InvalidRequestError: fewer than 3 vertices, or vertices that span less than that.
    """
    x, corners = _checked(features, 1), vertices.astype(np.float64)
    if len(corners) < 3:
        raise InvalidRequestError(f"a plane needs at least 3 vertices, got {len(corners)}.")
    centre = corners.mean(axis=0)
    spokes = (corners - centre)[:-1]  # the last one follows from the others
    if np.linalg.matrix_rank(spokes) < len(spokes):
        raise InvalidRequestError(f"the {len(corners)} vertices span fewer than {len(spokes)} dimensions.")
    axes, upper = np.linalg.qr(spokes.T)
    axes = axes * np.sign(np.diag(upper))
    return Projection(centre, axes, _shares(x, axes))


def lda(
    features: Float[ndarray, "point feature"], labels: Int[ndarray, " point"], axes: int = 2, ridge: float = 1e-3
) -> Projection:
    """The plane in which classes lie furthest apart, measured in units of their own spread (Fisher).

    Leading generalised eigenvectors of (between, within + ridge * mean variance * identity), made orthonormal: the span
    is Fisher's, distances are those of the feature space. K classes have K - 1 such directions: where `axes` asks for
    more, the rest are those of largest variance among what these leave, so that two classes have a plane as well.
    """
    x = _checked(features, axes)
    classes, index = np.unique(labels, return_inverse=True)
    counts = np.bincount(index)
    means = np.zeros((len(classes), x.shape[1]))
    np.add.at(means, index, x)
    means /= counts[:, None]
    centre = x.mean(axis=0)
    residual = x - means[index]
    within = residual.T @ residual / len(x)
    within += ridge * max(np.trace(within) / len(within), 1e-12) * np.eye(len(within))
    weighted = (means - centre) * np.sqrt(counts / len(x))[:, None]
    lower = np.linalg.cholesky(within)
    whitened = np.linalg.solve(lower, weighted.T)
    found = np.linalg.svd(whitened, full_matrices=False)[0][:, : min(axes, len(classes) - 1)]
    orthonormal = np.linalg.qr(np.linalg.solve(lower.T, found))[0]
    if (missing := axes - orthonormal.shape[1]) > 0:
        rest = x - centre
        rest -= rest @ orthonormal @ orthonormal.T
        orthonormal = np.concatenate([orthonormal, np.linalg.eigh(rest.T @ rest)[1][:, ::-1][:, :missing]], axis=1)
    orthonormal = _signed(orthonormal)
    return Projection(centre, orthonormal, _shares(x, orthonormal))


def along(moves: Float[ndarray, "move feature"], spread: Float[ndarray, "row feature"]) -> Float[ndarray, "2 feature"]:
    """Two orthonormal axes, as rows: where `moves` mostly point, then where `spread` varies most across that.

    a_1 = first right singular vector of `moves`, not centred, pointing with their mean; a_2 = first one of
    (`spread` - mean)(I - a_1 a_1^T). Where `moves` are zero, a_1 is the first principal direction of `spread`.
    """
    centred = np.asarray(spread, np.float64)
    centred = centred - centred.mean(axis=0)
    moved = np.asarray(moves, np.float64)
    size = np.linalg.norm(moved)
    first = _leading(moved if size > 1e-9 * max(np.linalg.norm(centred), 1e-30) else centred)
    if (moved @ first).sum() < 0:
        first = -first
    return np.stack([first, _leading(centred - np.outer(centred @ first, first), across=first)])


def _leading(
    rows: Float[ndarray, "_ feature"], across: Float[ndarray, " feature"] | None = None
) -> Float[ndarray, " feature"]:
    """First eigenvector of rows^T rows, made orthogonal to `across` where the rows leave it open."""
    vector = np.linalg.eigh(rows.T @ rows)[1][:, -1]
    if across is not None:
        vector = vector - (vector @ across) * across
        if np.linalg.norm(vector) < 1e-6:
            other = np.eye(len(across))[int(np.abs(across).argmin())]
            vector = other - (other @ across) * across
        vector = vector / np.linalg.norm(vector)
    return vector * np.sign(vector[np.abs(vector).argmax()])


def _checked(features: Float[ndarray, "point feature"], axes: int) -> Float[ndarray, "point feature"]:
    if len(features) < 2 or not 1 <= axes <= features.shape[1]:
        raise InvalidRequestError(
            f"{axes} axes from {len(features)} points in {features.shape[1]} dimensions: give at least 2 points and "
            f"at most {features.shape[1]} axes."
        )
    if not np.isfinite(features).all():
        raise InvalidRequestError(f"{(~np.isfinite(features)).any(axis=1).sum()} points have values not finite.")
    return features.astype(np.float64)


def _signed(axes: Float[ndarray, "feature axis"]) -> Float[ndarray, "feature axis"]:
    largest = np.abs(axes).argmax(axis=0)
    return axes * np.sign(axes[largest, np.arange(axes.shape[1])])


def _shares(x: Float[ndarray, "point feature"], axes: Float[ndarray, "feature axis"]) -> Float[ndarray, " axis"]:
    return (x @ axes).var(axis=0) / max(x.var(axis=0).sum(), 1e-300)
