"""The plane that the player draws in: fitted once, the same for every step, so that motion is motion of features."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cillab.core.errors import CillabError
from cillab.explain.projection import Projection, lda, pca, plane
from cillab.geometry.etf import nearest_etf
from cillab.geometry.rows import centre
from cillab.runs import Run, Snapshot

# Of the mean variance. A probe has few images a class: with less, the axes fit single images (on the recorded runs they
# hold under 1 % of the variance instead of 13 to 15 %, and trustworthiness is lower).
_RIDGE = 1.0
_POOL = 4000  # points that the plane is fitted on, spread evenly over the steps
PLANES = {"classes": "Classes furthest apart", "variance": "Largest variance"}


@dataclass(frozen=True)
class Flat:
    """Coordinates in the plane as int16, frame fixed over the run; absent means are -32768."""

    points: np.ndarray  # [step, probe, 2]
    means: np.ndarray | None  # [step, class in order of the stream, 2]
    head: np.ndarray | None
    share: float  # of the variance of the pooled features
    etf: np.ndarray | None = None  # like `means`: the vertices of the simplex nearest to the means
    unit: float = 1.0  # what one step of the int16 is of the mean length of a feature, seen from the average of all
    shared: bool = False  # are the axes those of another run as well?


def flatten(
    run: Run,
    snapshots: Sequence[Snapshot],
    kind: str = "classes",
    corners: tuple[int, ...] = (),
    beside: tuple[Run, Sequence[Snapshot]] | None = None,
) -> Flat | None:
    """Probe points, class means and head rows of every step in one plane; None where features change their width.

    `kind` is one of `PLANES`, or `simplex`: the plane through the last means of three classes, the `corners`. With
    another run `beside` it the plane is fitted on both if their features can share one, so that both maps have the same
    axes: two runs that start from the same weights start from the same picture.
    """
    features = _features(snapshots)
    if features is None:
        return None
    sets = [(run, features)]
    if beside is not None and (other := _features(beside[1])) is not None and _same_space(features, other):
        sets = sorted([*sets, (beside[0], other)], key=lambda one: str(one[0].path))  # the same sum from either side
    picked = [_pooled(one, of) for one, of in sets]
    pooled, labels = (np.concatenate(parts) for parts in zip(*picked, strict=True))
    try:
        projection = _fitted(snapshots[-1], kind, corners, pooled, labels)
    except (CillabError, np.linalg.LinAlgError):
        return None
    projection = projection if kind == "simplex" else _turned(projection, pooled)
    position = {class_id: index for index, class_id in enumerate(run.order)}
    means = [_rows(snapshot, projection, position, "means/now") for snapshot in snapshots]
    heads = [_rows(snapshot, projection, position, "head/weight") for snapshot in snapshots]
    etf = _vertices(snapshots, projection, position, corners) if kind == "simplex" else None
    points = np.stack([projection(f) for f in features])
    frame = float(max(np.quantile(np.abs(points), 0.998), 1e-9) * 1.04)  # a few outliers must not shrink the rest
    head = None if any(h is None for h in heads) else _quantised(np.stack([h for h in heads if h is not None]), frame)
    fixed = [np.full((len(position), 2), np.nan) if m is None else m for m in means]
    vertices = None if etf is None else _quantised(etf, frame)
    share = float(projection.share.sum())
    return Flat(
        _quantised(points, frame),
        _quantised(np.stack(fixed), frame),
        head,
        share,
        vertices,
        frame / 32767 / _length(pooled),
        len(sets) > 1,
    )


def _features(snapshots: Sequence[Snapshot]) -> list[np.ndarray] | None:
    """Features of the probe at every step; None where their width changes or a value is not finite."""
    features = [np.asarray(snapshot["features"], dtype=np.float32) for snapshot in snapshots]
    one_shape = len({f.shape for f in features}) == 1
    return features if one_shape and all(np.isfinite(f).all() for f in features) else None


def _same_space(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> bool:
    """Can two runs share a plane? As wide, and of a like length: a method that maps features elsewhere has its own."""
    lengths = [_length(features[0]) for features in (one, other)]
    return one[0].shape[1] == other[0].shape[1] and max(lengths) < 2 * min(lengths)


def _length(features: np.ndarray) -> float:
    """Root mean square distance of features from their average."""
    return float(np.sqrt(np.square(features - features.mean(axis=0), dtype=np.float64).sum(axis=1).mean())) or 1.0


def _pooled(run: Run, features: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels that the plane is fitted on, spread evenly over the steps."""
    stride = max(1, -(-len(features) * len(run.probe.labels) // _POOL))
    return np.concatenate(features)[::stride], np.tile(run.probe.labels, len(features))[::stride]


def nearest_simplex(means: np.ndarray) -> np.ndarray | None:
    """The simplex that agrees best with the directions of the class means, as long as they are on average.

    None where no simplex fits or a mean equals the average of all.
    """
    try:
        vertices = nearest_etf(means)
    except ValueError:
        return None
    return means.mean(axis=0) + np.linalg.norm(centre(means), axis=1).mean() * vertices


def _fitted(last: Snapshot, kind: str, corners: tuple[int, ...], pooled: np.ndarray, labels: np.ndarray) -> Projection:
    if kind == "variance":
        return pca(pooled)
    if kind == "classes":
        return lda(pooled, labels, ridge=_RIDGE)
    rows = [last["seen"].tolist().index(corner) for corner in corners]
    return plane(np.asarray(last["means/now"], dtype=np.float64)[rows], pooled)


def _vertices(
    snapshots: Sequence[Snapshot], projection: Projection, position: dict[int, int], corners: tuple[int, ...]
) -> np.ndarray | None:
    """The vertices of the chosen classes at every step, NaN for all others; None where no step has one."""
    out = np.full((len(snapshots), len(position), 2), np.nan)
    for at, snapshot in enumerate(snapshots):
        seen = snapshot["seen"].tolist()
        vertices = nearest_simplex(np.asarray(snapshot["means/now"], dtype=np.float64))
        for corner in corners if vertices is not None else ():
            if corner in seen and vertices is not None:
                out[at, position[corner]] = projection(vertices[[seen.index(corner)]])[0]
    return out if np.isfinite(out).any() else None


def _turned(projection: Projection, pooled: np.ndarray) -> Projection:
    """The same plane, turned so that its longer side lies across the screen."""
    flat = projection(pooled)
    _, vectors = np.linalg.eigh(np.cov(flat.T))
    return Projection(projection.centre, projection.axes @ vectors[:, ::-1], projection.share)


def _rows(snapshot: Snapshot, projection: Projection, position: dict[int, int], name: str) -> np.ndarray | None:
    """One row per class of the stream in the plane, NaN for classes not seen; None when the widths do not agree."""
    rows = snapshot.get(name)
    if rows is None or rows.shape[1] != len(projection.centre):
        return None
    rows = np.asarray(rows, dtype=np.float64)
    if name.startswith("head"):  # directions have no length of their own: give them the spread of the class means
        centred = rows - rows.mean(axis=0)
        spread = np.linalg.norm(np.asarray(snapshot["means/now"], dtype=np.float64) - projection.centre, axis=1).mean()
        rows = projection.centre + centred / np.linalg.norm(centred, axis=1, keepdims=True).clip(1e-9) * spread
    out = np.full((len(position), 2), np.nan)
    out[[position[int(c)] for c in snapshot["seen"]]] = projection(rows)
    return out


def _quantised(values: np.ndarray, frame: float) -> np.ndarray:
    scaled = np.clip(values / frame, -1, 1) * 32767
    return np.where(np.isfinite(values), np.rint(np.nan_to_num(scaled)), -32768).astype(np.int16)
