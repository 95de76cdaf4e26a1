"""All steps in one UMAP layout (an extra): the copies of an image lie along a trail. See `trust`."""

import io
import re
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from cillab.core.errors import InvalidRequestError
from cillab.geometry.rows import squared_distances
from cillab.plane.linear import pca


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
    return np.sqrt(squared_distances(a, b))


class _Bar(io.TextIOBase):
    """A file for tqdm's bars: passes on the percentage, swallows everything else."""

    def __init__(self, hear: Callable[[float], None]) -> None:
        self.hear = hear

    def write(self, text: str) -> int:
        """Called for each change of the bar."""
        if "poch" in text and (found := re.search(r"(\d+)%\|", text)):
            self.hear(int(found[1]) / 100)
        return len(text)
