"""The plane that the player draws in: fitted once, the same for every step, so that motion is motion of features."""

from dataclasses import dataclass

import numpy as np
import streamlit as st

from app.ui.store import Opened
from cillab.core.errors import CillabError
from cillab.explain.projection import Projection, lda, pca

_POOL = 4000  # points that the plane is fitted on, spread evenly over the steps
PLANES = {"classes": "Classes furthest apart", "variance": "Largest variance"}


@dataclass(frozen=True)
class Flat:
    """Coordinates in the plane as int16, frame fixed over the run; absent means are -32768."""

    points: np.ndarray  # [step, probe, 2]
    means: np.ndarray  # [step, class in order of the stream, 2]
    head: np.ndarray | None
    share: float  # of the variance of the pooled features


@st.cache_resource(max_entries=8, show_spinner=False)
def _flat(key: str, kind: str, steps: tuple[str, ...], signature: float, _view: Opened) -> Flat | None:
    features = [np.asarray(snapshot["features"], dtype=np.float32) for snapshot in _view.snapshots]
    if len({f.shape for f in features}) != 1 or not all(np.isfinite(f).all() for f in features):
        return None
    labels = _view.run.probe.labels
    stride = max(1, -(-len(features) * len(labels) // _POOL))
    pooled = np.concatenate(features)[::stride]
    try:
        projection = lda(pooled, np.tile(labels, len(features))[::stride]) if kind == "classes" else pca(pooled)
    except (CillabError, np.linalg.LinAlgError):
        return None
    means = [_rows(_view, projection, at, "means/now") for at in range(len(features))]
    heads = [_rows(_view, projection, at, "head/weight") for at in range(len(features))]
    projection = _turned(projection, pooled)
    points = np.stack([projection(f) for f in features])
    frame = max(np.quantile(np.abs(points), 0.998), 1e-9) * 1.04  # a handful of outliers must not shrink the rest
    head = None if any(h is None for h in heads) else _quantised(np.stack([h for h in heads if h is not None]), frame)
    fixed = [np.full((len(_view.run.order), 2), np.nan) if m is None else m for m in means]
    return Flat(_quantised(points, frame), _quantised(np.stack(fixed), frame), head, float(projection.share.sum()))


def _turned(projection: Projection, pooled: np.ndarray) -> Projection:
    """The same plane, turned so that its longer side lies across the screen."""
    flat = projection(pooled)
    _, vectors = np.linalg.eigh(np.cov(flat.T))
    return Projection(projection.centre, projection.axes @ vectors[:, ::-1], projection.share)


def _rows(view: Opened, projection: Projection, at: int, name: str) -> np.ndarray | None:
    """One row per class of the stream in the plane, NaN for classes not seen; None when the widths do not agree."""
    snapshot = view.snapshots[at]
    rows = snapshot.get(name)
    if rows is None or rows.shape[1] != len(projection.centre):
        return None
    rows = np.asarray(rows, dtype=np.float64)
    if name.startswith("head"):  # directions have no length of their own: give them the spread of the class means
        centred = rows - rows.mean(axis=0)
        spread = np.linalg.norm(np.asarray(snapshot["means/now"], dtype=np.float64) - projection.centre, axis=1).mean()
        rows = projection.centre + centred / np.linalg.norm(centred, axis=1, keepdims=True).clip(1e-9) * spread
    out = np.full((len(view.run.order), 2), np.nan)
    out[[view.position[int(c)] for c in snapshot["seen"]]] = projection(rows)
    return out


def _quantised(values: np.ndarray, frame: float) -> np.ndarray:
    scaled = np.clip(values / frame, -1, 1) * 32767
    return np.where(np.isfinite(values), np.rint(np.nan_to_num(scaled)), -32768).astype(np.int16)


def flat(view: Opened, kind: str = "classes") -> Flat | None:
    """Probe points, class means and head rows of every step in one plane; None where features change their width."""
    if not view.steps:
        return None
    changed = max((view.run.path / "steps" / f"{step}.safetensors").stat().st_mtime for step in view.steps)
    return _flat(str(view.run.path), kind, view.steps, changed, view)
