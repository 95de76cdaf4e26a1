"""What a method shows of itself: arrays declared by name, shape, meaning and unit, where they are made.

A learner returns its own quantities from `internals()`, one array per name, and declares each in its file:
`@method(..., internals=("prompts/chosen", Internal("noise/ratio", "f32 [L, t]", "norm of the noise over ..."))`. The
probe stores them as `internals/<name>`, the run folder repeats the declarations, and a figure names the arrays that it
needs. Names with a figure that several methods share are written down here; a method declares them by name alone.

In shapes K = classes seen, t = tasks so far, L = layers, d = feature dimension, M = prompts.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Internal:
    """One quantity of a method: what stands in `internals()[name]`."""

    name: str  # "noise/weights"; the part before the slash groups what belongs together
    shape: str  # "f32 [L, t]"
    meaning: str
    unit: str = ""  # empty for what has none

    @property
    def group(self) -> str:
        """What belongs together: `noise` of `noise/weights`."""
        return self.name.partition("/")[0]

    @property
    def axes(self) -> int:
        """How many axes the array has, by its shape."""
        inside = self.shape.partition("[")[2].partition("]")[0]
        return inside.count(",") + 1 if inside.strip() else 0

    def __str__(self) -> str:
        return f"{self.shape}: {self.meaning}" + (f", {self.unit}" if self.unit else "")


_SHARED = (
    # prompt pools
    Internal("prompts/keys", "f32 [M, d]", "the key of each prompt of the pool"),
    Internal(
        "prompts/chosen", "f32 [M]", "how many training images have chosen each prompt, all tasks together", "images"
    ),
    # low rank
    Internal("lowrank/rank", "f32 [L, t]", "rank in use of the direction that each task added, by layer"),
    Internal("lowrank/magnitude", "f32 [L, t]", "Frobenius norm of the direction that each task added, by layer"),
    # alignment of a classifier with remembered features
    Internal("align/before", "f32 [K, d]", "rows of the classifier before alignment"),
    Internal("align/after", "f32 [K, d]", "rows of the classifier after alignment"),
    # one adapter per task
    Internal("adapters/similarity", "f32 [t, t]", "linear CKA of what the adapters make of the same images"),
    # fixed or growing targets
    Internal("anchors/rows", "f32 [K, d]", "the anchor of each class, unit rows"),
    # closed forms
    Internal("ridge/gamma", "f32 []", "the penalty of the ridge, where the method chooses it"),
    # images and text
    Internal("text/prototypes", "f32 [K, d]", "unit vectors of the prompted class names"),
    Internal("text/frozen", "f32 [K, d]", "unit vectors of the names in the hand template"),
    Internal(
        "text/logit_bias", "f32 [2, 2]", "mean largest logit among old and new classes (columns), for both (rows)"
    ),
    # Gaussians that stand for old images, in the space of `features`
    Internal("gaussian/mean", "f32 [K, d]", "stored means"),
    Internal("gaussian/factor", "f16 [K, r, d]", "r leading eigenvectors of the covariance times roots of eigenvalues"),
    Internal("gaussian/mean_before", "f32 [K, d]", "stored means before calibration; NaN for new classes"),
    Internal("gaussian/factor_before", "f16 [K, r, d]", "the same of the covariances before calibration"),
    Internal("transport/eigenvalues", "f32 [d]", "spectrum of the transport map A, ascending; 1 = nothing moved"),
)
SHARED: Mapping[str, Internal] = {one.name: one for one in _SHARED}


def declared(internals: Iterable[Internal | str]) -> tuple[Internal, ...]:
    """Declarations as records; a name alone stands for the shared one.

    Raises:
        ValueError: a name that is not shared stands without its shape and meaning, or a shared one is given another.
    """
    found: dict[str, Internal] = {}
    for one in internals:
        if isinstance(one, str) and one not in SHARED:
            raise ValueError(f"Internal {one!r} is not shared ({', '.join(SHARED)}): declare it as Internal(...).")
        record = SHARED[one] if isinstance(one, str) else one
        if SHARED.get(record.name, record) != record or record.name in found:
            raise ValueError(f"Internal {record.name!r} is declared twice: give its name alone.")
        found[record.name] = record
    return tuple(found.values())
