"""Features of many steps in one fixed plane or 3-space. NumPy alone; UMAP is an extra.

A linear map fitted once is the default: the axes are the same at every step, distances mean something, and a new point
costs one product. `joint_umap` lays all steps out together; its `quality` says how far to trust the picture.
"""

import io
import re
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
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


def plane(vertices: Float[ndarray, "vertex feature"], features: Float[ndarray, "point feature"]) -> Projection:
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


def joint_umap(
    steps: Sequence[Float[ndarray, "point feature"]],
    *,
    neighbours: int = 15,
    min_dist: float = 0.1,
    seed: int | None = 1993,
    progress: Callable[[str, float], None] = lambda stage, share: None,
) -> list[Float[ndarray, "point 2"]]:
    """One UMAP layout of all steps together: the copies of an image at several steps lie along a trail.

    Each point is tied to its nearest images, each counted once, and to its own copies one step before and after
    (`joint_neighbours`). Were its nearest points sought among all steps, a point that hardly moves would find only its
    own copies, and the layout would fall into one speck per image, in no order. Distances are those of 50 principal
    components of all steps, and the first two of them are where the points start.

    Takes seconds to minutes and compiles on first use, so run it as a job (`explain.joint`); `progress` hears the stage
    and the share done. A seed makes it reproducible and single-threaded.

    Raises:
        InvalidRequestError: umap-learn is not installed, or the steps hold different numbers of points.
    """
    progress("loading umap-learn", 0.0)
    try:
        from umap import UMAP  # noqa: PLC0415  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InvalidRequestError("UMAP needs umap-learn: pip install 'cillab[umap]'.") from error
    if len({len(step) for step in steps}) != 1:
        raise InvalidRequestError(f"steps hold {sorted({len(step) for step in steps})} points: valid is one number.")
    pooled, each = np.concatenate(steps), len(steps[0])
    progress("reducing to principal components", 0.03)
    reduced = pca(pooled, min(50, *pooled.shape))(pooled)
    progress("finding neighbours, compiling", 0.05)
    jobs = 1 if seed is not None else -1  # umap-learn would warn that a seed forbids threads
    graph = joint_neighbours(reduced.reshape(len(steps), each, -1), neighbours)
    start = reduced[:, :2] * (10 / max(float(np.abs(reduced[:, :2]).max()), 1e-12))
    bar = _Bar(lambda share: progress("laying out all steps together", 0.3 + 0.7 * share))
    mapper = UMAP(
        n_neighbors=graph[0].shape[1],
        min_dist=min_dist,
        random_state=seed,
        n_jobs=jobs,
        precomputed_knn=graph,
        # A spectral start would spread the steps: time is the slowest direction of the graph.
        init=start.astype(np.float32),  # pyright: ignore[reportArgumentType]
        verbose=True,
        tqdm_kwds={"file": bar},
    )
    with redirect_stdout(bar):  # verbose is the only way to hear of the epochs, and talks of other things too
        layout = mapper.fit_transform(reduced)
    progress("done", 1.0)
    return np.split(np.asarray(layout, dtype=np.float32), np.cumsum([each] * len(steps))[:-1])


def joint_neighbours(
    points: Float[ndarray, "step point feature"], neighbours: int
) -> tuple[Int[ndarray, "all neighbour"], Float[ndarray, "all neighbour"]]:
    """Whom a point is tied to in `joint_umap`, as places in the stacked steps, and the distances, nearest first.

    Itself, its copies one step before and after, and the nearest other images. Each image counts once, at the step at
    which it is nearest, among this step and those 1, 3, 9, ... away: so steps that hold the same cloud lie on each
    other. Every row holds `neighbours` entries (fewer, if there are fewer images).
    """
    steps, count, _ = points.shape
    own, rows = np.arange(count), np.arange(count)[:, None]
    indices, distances = [], []
    for at in range(steps):
        copies = [other for other in (at - 1, at + 1) if 0 <= other < steps]
        best, where = _gaps(points[at], points[at]), np.full((count, count), at)
        for other in (at + way * 3**power for power in range(8) for way in (-1, 1)):
            if 0 <= other < steps:
                gap = _gaps(points[at], points[other])
                closer = gap < best
                best[closer], where[closer] = gap[closer], other
        np.fill_diagonal(best, np.inf)
        near = np.argsort(best, axis=1, kind="stable")[:, : max(min(neighbours, count) - 1 - len(copies), 0)]
        found = [own[:, None] + other * count for other in copies] + [near + where[rows, near] * count]
        gap = [np.linalg.norm(points[other] - points[at], axis=1)[:, None] for other in copies] + [best[rows, near]]
        found, gap = np.concatenate(found, axis=1), np.concatenate(gap, axis=1)
        order = np.argsort(gap, axis=1, kind="stable")
        indices.append(np.concatenate([own[:, None] + at * count, found[rows, order]], axis=1))
        distances.append(np.concatenate([np.zeros((count, 1)), gap[rows, order]], axis=1))
    least = min(array.shape[1] for array in indices)
    return (
        np.concatenate([array[:, :least] for array in indices]).astype(np.int32),
        np.concatenate([array[:, :least] for array in distances]).astype(np.float32),
    )


def _gaps(a: Float[ndarray, "point feature"], b: Float[ndarray, "point feature"]) -> Float[ndarray, "point point"]:
    squared = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * a @ b.T
    return np.sqrt(squared.clip(min=0))


class _Bar(io.TextIOBase):
    """A file for tqdm's bars: passes on the percentage, swallows everything else."""

    def __init__(self, hear: Callable[[float], None]) -> None:
        self.hear = hear

    def write(self, text: str) -> int:
        """Called for each change of the bar."""
        if "poch" in text and (found := re.search(r"(\d+)%\|", text)):
            self.hear(int(found[1]) / 100)
        return len(text)


@dataclass(frozen=True)
class Quality:
    """How far a picture can be trusted, each in [0, 1]; higher is better."""

    trustworthiness: float  # 1 - penalty for neighbours in the picture that are far apart in feature space
    neighbour_overlap: float  # share of the k nearest neighbours in feature space that are so in the picture


def quality(
    features: Float[ndarray, "point feature"], picture: Float[ndarray, "point axis"], neighbours: int = 10
) -> Quality:
    """Trustworthiness and the overlap of neighbourhoods, from all pairs: for at most some thousands of points.

        T = 1 - 2 / (n k (2n - 3k - 1)) * sum over i, and j among the k nearest of i in the picture, of max(0, r_ij - k)
        overlap = mean over i of |k nearest of i in feature space and in the picture| / k

    r_ij = rank of j by distance from i in feature space. Range [0, 1], higher is better; k/n is what chance gives for
    the overlap. Source: Venna & Kaski, ICANN 2001 (trustworthiness, with ranks as in scikit-learn).

    Raises:
        InvalidRequestError: not 1 <= neighbours < points / 2.
    """
    count = len(features)
    if not 1 <= neighbours < count / 2:
        raise InvalidRequestError(f"neighbours = {neighbours}: valid are 1 to {(count - 1) // 2} for {count} points.")
    order, shown = _by_distance(features), _by_distance(picture)[:, :neighbours]
    rank = np.empty((count, count), dtype=np.int32)
    np.put_along_axis(rank, order, np.arange(1, count + 1, dtype=np.int32)[None].repeat(count, axis=0), axis=1)
    shown_rank = np.take_along_axis(rank, shown, axis=1)
    penalty = (shown_rank - neighbours).clip(min=0).sum()
    worst = count * neighbours * (2 * count - 3 * neighbours - 1) / 2
    return Quality(float(1 - penalty / worst), float((shown_rank <= neighbours).mean()))


def displacement_of_unmoved(
    before: Float[ndarray, "point feature"],
    after: Float[ndarray, "point feature"],
    picture_before: Float[ndarray, "point axis"],
    picture_after: Float[ndarray, "point axis"],
    share: float = 0.1,
) -> float:
    """How far the picture moves points whose features hardly moved, in units of the picture's spread; 0 is honest.

        mean ||y' - y|| over the points that moved least / sqrt(mean ||y - centre||^2)

    Range [0, inf), lower is better. Source: defined here. Mean displacement in the picture of the `share` of points
    that moved least in feature space, over the root mean square distance of the points of both pictures from their
    centre.
    """
    still = np.argsort(np.linalg.norm(after.astype(np.float64) - before, axis=1))[: max(1, round(share * len(before)))]
    moved = np.linalg.norm((picture_after - picture_before)[still].astype(np.float64), axis=1).mean()
    both = np.concatenate([picture_before, picture_after]).astype(np.float64)
    return float(moved / np.sqrt(((both - both.mean(axis=0)) ** 2).sum(axis=1).mean()))


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


def _by_distance(x: Float[ndarray, "point axis"]) -> Int[ndarray, "point neighbour"]:
    """For each point all others by distance, nearest first, itself last."""
    x = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    norms = (x * x).sum(axis=1)
    distance = norms[:, None] + norms[None] - 2 * x @ x.T
    np.fill_diagonal(distance, np.inf)
    return np.argsort(distance, axis=1, kind="stable")
