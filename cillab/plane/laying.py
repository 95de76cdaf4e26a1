"""A run laid into one plane: fitted once, the same for every step, so that motion is motion of features."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64, Int

from cillab.core.errors import CillabError, InvalidRequestError, RunError, unknown_name
from cillab.geometry.etf import nearest_etf
from cillab.geometry.rows import centre, unit
from cillab.plane.linear import Projection, lda, pca, through
from cillab.runs import Run, Snapshot

# Of the mean variance. A probe has few images a class: with less, the axes fit single images (on the recorded runs they
# hold under 1 % of the variance instead of 13 to 15 %, and trustworthiness is lower).
_RIDGE = 1.0
_POOL = 4000  # points that the plane is fitted on, spread evenly over the steps
PLANES = {"classes": "Classes furthest apart", "variance": "Largest variance"}


@dataclass(frozen=True, eq=False)
class Plane:
    """A run in two axes that are the same at every step, seen from the middle; classes in the order of the stream."""

    steps: tuple[str, ...]
    points: Float32[np.ndarray, "step image 2"]
    means: Float32[np.ndarray, "step cls 2"] | None = None  # NaN before a class is seen
    head: Float32[np.ndarray, "step cls 2"] | None = None  # directions, as long as a class mean is on average
    vertices: Float32[np.ndarray, "step cls 2"] | None = None  # of the simplex nearest to the means
    share: float = float("nan")  # of the variance of the features that the plane was fitted on
    length: float = 1.0  # root mean square distance of those features from their average
    shared: bool = False  # are the axes those of another run as well?
    projection: Projection | None = None  # the map itself, for features to come; None where no linear map was fitted


def lay(
    run: Run,
    snapshots: Sequence[Snapshot] | None = None,
    kind: str = "classes",
    corners: tuple[int, ...] = (),
    beside: tuple[Run, Sequence[Snapshot]] | None = None,
) -> Plane:
    """Probe points, class means and head rows of every step (by default all there are) in one plane.

    `kind` is one of `PLANES`, or `simplex`: the plane through the last means of three classes, the `corners`. With
    another run `beside` it the plane is fitted on both if their features can share one, so that both maps have the same
    axes: two runs that start from the same weights start from the same picture.

    Raises:
        UnknownNameError: no such kind.
        RunError: no step yet, or the features change their width.
        InvalidRequestError: features that no plane can be fitted to.
    """
    shots = [run.snapshot(step) for step in run.steps] if snapshots is None else snapshots
    features = probe_features(run, shots)
    sets = [(run, features)]
    if (other := _companion(features, beside)) is not None:
        sets = sorted([*sets, other], key=lambda one: str(one[0].path))  # the same sum from either side
    pooled, labels = (np.concatenate(parts) for parts in zip(*(_pooled(*one) for one in sets), strict=True))
    projection = _fitted(shots[-1], kind, corners, pooled, labels)
    laid = _Classes(run, shots, projection)
    return Plane(
        tuple(shot.id for shot in shots),
        np.stack([projection(rows) for rows in features]),
        laid.rows(lambda shot: shot.get("means/now")),
        laid.rows(head_rows),
        laid.rows(lambda shot: _corners(shot, corners)) if kind == "simplex" else None,
        float(projection.share.sum()),
        _length(pooled),
        len(sets) > 1,
        projection,
    )


def probe_features(run: Run, snapshots: Sequence[Snapshot]) -> list[Float32[np.ndarray, "image feature"]]:
    """Features of the probe at every step.

    Raises:
        RunError: no step yet, or steps whose features differ in width.
        InvalidRequestError: a value is not finite.
    """
    if not snapshots:
        raise RunError(f"{run.path} has no step yet.")
    features = [np.asarray(snapshot["features"], dtype=np.float32) for snapshot in snapshots]
    if len(shapes := {rows.shape for rows in features}) > 1:
        raise RunError(f"{run.path} needs steps of one feature width, got {sorted(shapes)}.")
    if not all(np.isfinite(rows).all() for rows in features):
        raise InvalidRequestError(f"{run.path} holds features that are not finite.")
    return features


def nearest_simplex(means: Float[np.ndarray, "cls feature"]) -> Float64[np.ndarray, "cls feature"] | None:
    """The simplex that agrees best with the directions of the class means, as long as they are on average.

    None where no simplex fits or a mean equals the average of all.
    """
    try:
        return means.mean(axis=0) + _reach(means) * nearest_etf(means)
    except ValueError:
        return None


def head_rows(shot: Snapshot) -> Float64[np.ndarray, "cls feature"] | None:
    """Rows of the head around the average of the class means: directions, as long as a mean is on average; else None.

    Rows have a scale and a centre of their own, and no place in the space where they do not fit the means.
    """
    rows, means = shot.get("head/weight"), np.asarray(shot["means/now"], np.float64)
    if rows is None or rows.shape != means.shape:
        return None
    return means.mean(axis=0) + unit(centre(rows)) * _reach(means)


def _companion(
    features: Sequence[np.ndarray], beside: tuple[Run, Sequence[Snapshot]] | None
) -> tuple[Run, list[np.ndarray]] | None:
    """The run beside, if both can share a plane: features as wide, and of a like length (else they lie elsewhere)."""
    if beside is None:
        return None
    try:
        other = probe_features(*beside)
    except CillabError:
        return None
    lengths = [_length(rows[0]) for rows in (features, other)]
    fits = features[0].shape[1] == other[0].shape[1] and max(lengths) < 2 * min(lengths)
    return (beside[0], other) if fits else None


def _length(features: Float[np.ndarray, "point feature"]) -> float:
    """Root mean square distance of features from their average."""
    return float(np.sqrt(np.square(features - features.mean(axis=0), dtype=np.float64).sum(axis=1).mean())) or 1.0


def _pooled(run: Run, features: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels that the plane is fitted on, spread evenly over the steps."""
    stride = max(1, -(-len(features) * len(run.probe.labels) // _POOL))
    return np.concatenate(features)[::stride], np.tile(run.probe.labels, len(features))[::stride]


def _fitted(
    last: Snapshot,
    kind: str,
    corners: tuple[int, ...],
    pooled: Float[np.ndarray, "point feature"],
    labels: Int[np.ndarray, " point"],
) -> Projection:
    if kind not in (*PLANES, "simplex"):
        raise unknown_name("plane", kind, [*PLANES, "simplex"])
    try:
        if kind == "variance":
            return pca(pooled)
        if kind == "classes":
            return _turned(lda(pooled, labels, ridge=_RIDGE), pooled)
        rows = [last["seen"].tolist().index(corner) for corner in corners]
        return through(np.asarray(last["means/now"], dtype=np.float64)[rows], pooled)
    except np.linalg.LinAlgError as error:
        raise InvalidRequestError(f"These features have no plane: {error}.") from error


def _turned(projection: Projection, pooled: Float[np.ndarray, "point feature"]) -> Projection:
    """The same plane, turned so that its longer side lies across the screen."""
    _, vectors = np.linalg.eigh(np.cov(projection(pooled).T))
    return Projection(projection.centre, projection.axes @ vectors[:, ::-1], projection.share)


class _Classes:
    """Rows of classes, one table per step, put into the plane."""

    def __init__(self, run: Run, shots: Sequence[Snapshot], projection: Projection) -> None:
        self.shots, self.projection = shots, projection
        self.position = {class_id: index for index, class_id in enumerate(run.order)}

    def rows(self, read: Callable[[Snapshot], np.ndarray | None]) -> Float32[np.ndarray, "step cls 2"] | None:
        """What `read` finds at each step, NaN for classes not seen and steps without; None where no step has any."""
        out = np.full((len(self.shots), len(self.position), 2), np.nan, np.float32)
        for at, shot in enumerate(self.shots):
            found, seen = read(shot), [self.position[int(c)] for c in shot["seen"]]
            if found is not None and found.shape == (len(seen), len(self.projection.centre)):
                out[at, seen] = self.projection(np.asarray(found, np.float64))
        return out if np.isfinite(out).any() else None


def _corners(shot: Snapshot, corners: tuple[int, ...]) -> np.ndarray | None:
    """The vertices that belong to the chosen classes, NaN for the others."""
    vertices = nearest_simplex(np.asarray(shot["means/now"], np.float64))
    return None if vertices is None else np.where(np.isin(shot["seen"], corners)[:, None], vertices, np.nan)


def _reach(means: np.ndarray) -> float:
    """How far class means lie from their average, on average."""
    return float(np.linalg.norm(centre(means), axis=1).mean())
