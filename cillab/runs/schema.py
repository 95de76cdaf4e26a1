"""What the files of a run folder hold, as typed records. Readers allow fields they do not know; writers add freely.

The version is `major.minor`: within a major version every reader reads every file; a newer major version is refused
with the version of cillab that wrote it. Accuracies and the like are fractions in [0, 1]; times are seconds; the
clock is Unix time.
"""

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from cillab.core.internals import SHARED
from cillab.protocol import Protocol

SCHEMA_VERSION = "1.0"

State = Literal["queued", "running", "paused", "finished", "failed", "cancelled"]
Liveness = Literal["queued", "running", "paused", "finished", "failed", "cancelled", "interrupted"]

# Arrays of steps/<id>.safetensors. N = probe points (the same all over the run, classes not yet seen included),
# K = classes seen, in the order of `seen`, T = tasks so far, d = feature dimension, L = layers. Labels are class ids.
SNAPSHOT_ARRAYS: dict[str, str] = {
    "features": "f16 [N, d]: what the classifier looks at, on the probe",
    "logits": "f16 [N, K]",
    "predictions": "i32 [N]: class ids",
    "seen": "i32 [K]: class ids in order of first appearance",
    "task_of_class": "i32 [K]: task in which the class was first seen",
    "means/stored": "f32 [K, d]: training mean when the class was learnt",
    "means/now": "f32 [K, d]: training mean, measured again now",
    "means/test": "f32 [K, d]: mean of the test images",
    "head/weight": "f32 [K, d']: rows that features are compared with; d' may differ from d",
    "head/bias": "f32 [K], if the head has one",
    "confusion": "i32 [K, K]: images of the test set of the classes seen; rows are true classes",
    "accuracy/row": "f64 [T]: accuracy on the test images of each task seen, among all classes seen",
    "cosine": "f16 [K, K]: cosines of the class means now, centred on their average",
    "nc/within": "f64 [K]: within-class variance, training images",
    "nc/nc4": "f64 [K]: share of training images of a class on which head and nearest mean agree",
    "nc/spectrum_within": "f32 [d]: eigenvalues of the within-class covariance, training images, descending",
    "nc/axes_within": "f16 [r, d]: its leading directions (r = 128 at most), in the order of the eigenvalues",
    "accuracy/ahead": "f64 [tasks to come]: accuracy on their test images, class names told (cross-domain)",
    "accuracy/nme": "f64 [T]: as accuracy/row, by the nearest training mean of now (an oracle)",
    "accuracy/fresh": "f64 [T]: as accuracy/row, by a ridge fitted now on training images of all classes (an oracle)",
    "accuracy/fresh_then": "f64 [T]: as accuracy/fresh, among the classes there were when the task was learnt",
    "accuracy/task_id": "f64 [T]: the predicted class belongs to the right task",
    "accuracy/within_task": "f64 [T]: right when only the classes of the right task compete",
    "train_images": "i32 [K]: training images of each class; 0 where it came by name alone",
    "calibration/old": "f64 [3, bins]: mean confidence, accuracy, images, in equal bins of confidence; also .../new",
    "gaussian/w2/<part>": "f64 [K]: W2 from a class's stored Gaussian to its training images now; NaN if none",
    "internals/<name>": "the method's own quantities, as `capabilities.internals` of run.json says",
    **{f"internals/{one.name}": str(one) for one in SHARED.values()},
    "cam/true": "u8 [N, gh, gw]: Grad-CAM, map = value / 255 * scale; also cam/predicted, cam/difference",
    "cam_scale/true": "f32 [N]: scale of each map; also for the other targets",
    "cam_floor/true": "f32 []: what 95 % of the maps of a random head stay below; also for the other targets",
    "cam_energy/true": "f32 [N]: share of the map inside the object's mask; also for the other targets",
    "cam_pointing/true": "f32 [N]: 1 where the hottest cell touches the object, 0 where not; also for the others",
    "cam_mask": "f32 [N]: share of the image that the object takes: the energy of a map without preference",
}

# Scalars of metrics.jsonl, one row per step and name; `train/...` rows come during training with task and epoch.
SCALARS: tuple[str, ...] = (
    "accuracy/seen",
    "accuracy/old",
    "accuracy/new",
    *(
        f"nc/{side}/{name}"
        for side in ("train", "test")
        for name in (
            "nc1",
            "nc1_quotient",
            "cdnv",
            "equinorm",
            "equiangular",
            "max_angle",
            "gram",
            "nc3",
            "nc3_cosine",
            "nc3_uniformity",
            "nc4",
            "gnc2_log",
            "gnc2_log_variance",
            "equinorm_head",
            "rank_between",
            "rank_within",
            "participation_between",
            "participation_within",
            "top_share",
        )
    ),
    "drift/cosine",
    "drift/relative",
    "transport/w2/<part>",
    "transport/improved",
    *(f"accuracy/{name}" for name in ("nme", "fresh", "fresh_then", "task_id", "within_task")),
    *(f"accuracy/{name}" for name in ("head", "medium", "tail", "base_within", "new_within", "harmonic")),
    "calibration/old",
    "calibration/new",
    *(f"cam/{name}/{target}" for name in ("energy", "pointing") for target in ("true", "predicted", "difference")),
    "cam/mask",
    "seconds/learn",
    "seconds/learn/<stage>",
    "seconds/probe",
    "cost/exposed",
    "cost/images",
    "cost/trainable_parameters",
    "train/loss",
    "train/images_per_second",
)


def is_scalar(name: str) -> bool:
    """Is there a scalar of that name? What stands between brackets in `SCALARS` is any word."""
    return any(fnmatchcase(name, re.sub("<.*>", "?*", one)) for one in SCALARS)


def plain(value: Any) -> Any:
    """NumPy numbers, arrays, sets and paths as JSON values; what is not a finite number becomes null."""
    match value:
        case None | bool() | int() | str():
            simple = value
        case float():
            simple = float(value) if math.isfinite(value) else None
        case BaseModel():
            simple = plain(value.model_dump())
        case np.ndarray() | np.generic():
            simple = plain(value.tolist())
        case Mapping():
            simple = {str(key): plain(item) for key, item in value.items()}
        case set() | frozenset():
            simple = sorted(plain(item) for item in value)
        case Sequence() if not isinstance(value, bytes):
            simple = [plain(item) for item in value]
        case _:
            simple = str(value)
    return simple


class Record(BaseModel):
    """Base of everything on disk: unknown fields are kept, so that a file of a newer minor version can be read."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())


class Abilities(Record):
    """What the learner needs and what it can show; pages and figures ask here, never for its name."""

    summary: str = ""
    paper: str = ""
    evidence: str = ""
    needs: list[str] = Field(default_factory=list)
    shows: list[str] = Field(default_factory=list)  # groups of internals: noise, text, ...
    internals: dict[str, str] = Field(default_factory=dict)  # name -> shape and meaning, as the learner declares them

    @field_validator("needs", "shows", mode="before")
    @classmethod
    def _ordered(cls, value: Any) -> Any:
        return sorted(value) if isinstance(value, set | frozenset | tuple) else value


class RunInfo(Record):
    """run.json: what was run. Written once, before anything is learnt."""

    schema_version: str = SCHEMA_VERSION
    cillab_version: str = ""
    spec: dict[str, Any] = Field(default_factory=dict)
    tasks: list[list[int]]  # class ids that each task brings, in the order of the stream
    returning: list[list[int]] = Field(default_factory=list)  # those of its classes that came before; empty = none do
    class_order: list[int] = Field(default_factory=list)  # the tasks, one after the other
    class_names: dict[int, str] = Field(default_factory=dict)
    train_images: dict[int, int] = Field(default_factory=dict)  # of each class, over the whole stream; empty = unknown
    capabilities: Abilities = Field(default_factory=Abilities)
    protocol: Protocol = Field(default_factory=Protocol)
    versions: dict[str, str] = Field(default_factory=dict)  # packages, and the commit of the code if known
    device: str = ""
    precision: str = ""
    notes: list[str] = Field(default_factory=list)  # what was understood of data on disk, and what is odd there
    created: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @field_validator("class_names", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return dict(enumerate(value)) if isinstance(value, list | tuple) else value

    @model_validator(mode="after")
    def _consistent(self) -> "RunInfo":
        flat = [class_id for task in self.tasks for class_id in task]
        self.class_order = self.class_order or flat
        if flat != self.class_order or len(set(flat)) != len(flat):
            raise ValueError("the tasks, one after the other, must be the class order, each class once")
        return self

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of classes in each task."""
        return tuple(len(task) for task in self.tasks)

    @property
    def task_of_class(self) -> dict[int, int]:
        """Task index of every class id of the stream."""
        return {class_id: index for index, task in enumerate(self.tasks) for class_id in task}

    def name_of(self, class_id: int | np.integer) -> str:
        """Name of a class, or `class 7` for one without a name."""
        return self.class_names.get(int(class_id), f"class {int(class_id)}")


class Status(Record):
    """status.json: where the run is. Replaced as a whole; `heartbeat` says when."""

    state: State = "queued"
    pid: int | None = None
    host: str | None = None
    heartbeat: float = 0.0
    started: float | None = None
    task: int | None = None
    tasks: int | None = None
    stage: str = ""
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    done: int = 0  # images of this stage handled so far
    total: int = 0
    loss: float | None = None
    images_per_second: float | None = None
    eta_s: float | None = None
    error: str | None = None


class Result(Record):
    """result.json: the numbers of a finished run. Fractions in [0, 1]; `None` where a number is not defined."""

    a_last: float
    a_avg: float
    accuracy_seen: list[float]
    accuracy_matrix: list[list[float | None]]  # R[t][j]: after task t, on task j; null where j > t
    forgetting_chaudhry: float | None = None
    forgetting_pilot: float | None = None
    bwt_gem: float | None = None
    accuracy_head: float | None = None  # thirds of the classes by label order, where training images fall along it
    accuracy_medium: float | None = None
    accuracy_tail: float | None = None
    accuracy_base: float | None = None  # base-to-new: base classes among themselves,
    accuracy_new: float | None = None  # new classes among themselves,
    harmonic: float | None = None  # and the harmonic mean of the two
    a_auc: float | None = None  # online: area under accuracy on the classes exposed so far
    transfer: float | None = None  # cross-domain: accuracy on tasks to come,
    mtil_avg: float | None = None  # on all tasks at all times,
    mtil_last: float | None = None  # and at the end; means over tasks
    nc: list[dict[str, Any]] = Field(default_factory=list)  # scalars per task
    seconds: dict[str, float] = Field(default_factory=dict)  # `total` and by stage
    images_per_second: float | None = None
    peak_memory_bytes: int | None = None
    stored_floats: int | None = None
    trainable_parameters: int | None = None
    passes_per_test_image: float | None = None
    protocol: Protocol = Field(default_factory=Protocol)
