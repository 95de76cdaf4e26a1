"""result.json: the numbers of a finished run, all computed from what is on disk, so that a resumed run has them too."""

import math
from typing import Any

import numpy as np
from torch import Tensor

from cillab.core.contract import Learner
from cillab.geometry import accuracy
from cillab.lab.costs import passes_per_image, peak_memory_bytes, stored_numbers
from cillab.lab.exposure import exposure_of
from cillab.lab.prepare import backbone_of
from cillab.runs import Run

# Numbers of a scenario <- scalars of the last step; absent where the scenario does not define them.
_SCENARIO = {
    **{f"accuracy_{name}": name for name in ("head", "medium", "tail")},
    "accuracy_base": "base_within",
    "accuracy_new": "new_within",
    "harmonic": "harmonic",
}


def result_of(run: Run, learner: Learner[Any], images: Tensor) -> dict[str, Any]:
    """Everything that `runs.schema.Result` holds but the protocol; what is undefined is None.

    `images` are a few test images, to count the passes of one prediction.
    """
    matrix, metrics, steps = run.accuracy_matrix(), run.metrics(), run.task_steps
    seen = metrics.over("accuracy/seen", steps)
    last = metrics.at(steps[-1])
    trained = metrics.over("cost/images", steps).sum()
    seconds = _seconds(run)
    backbone = backbone_of(learner)
    lower = [row[: index + 1].tolist() for index, row in enumerate(matrix)]
    return {
        "a_last": float(seen[-1]),
        "a_avg": float(seen.mean()),
        "accuracy_seen": seen.tolist(),
        "accuracy_matrix": [[_number(value) for value in row] for row in matrix],
        "forgetting_chaudhry": _number(accuracy.forgetting_chaudhry(lower)),
        "forgetting_pilot": _number(accuracy.forgetting_pilot(lower)),
        "bwt_gem": _number(accuracy.bwt_gem(lower)),
        **{name: last.get(f"accuracy/{scalar}") for name, scalar in _SCENARIO.items()},
        **exposure_of(run, run.protocol.scenario),
        "nc": [_collapse(metrics.at(step)) for step in steps],
        "seconds": seconds,
        "images_per_second": _number(trained / seconds["learn"]) if seconds["learn"] else None,
        "peak_memory_bytes": peak_memory_bytes(backbone.device),
        "stored_floats": stored_numbers(learner),
        "trainable_parameters": int(np.nanmax(metrics.over("cost/trainable_parameters", steps))),
        "passes_per_test_image": passes_per_image(learner, backbone, images),
    }


def _seconds(run: Run) -> dict[str, float]:
    """`total`, `learn`, `probe`, and each stage of learning as `learn/<stage>`, added up over the tasks."""
    sums: dict[str, float] = {}
    metrics = run.metrics()
    for step in run.task_steps:
        for name, value in metrics.at(step).items():
            if name.startswith("seconds/"):
                stage = name.removeprefix("seconds/")
                sums[stage] = sums.get(stage, 0.0) + value
    return {"total": sums["learn"] + sums["probe"], **sums}


def _collapse(values: dict[str, float]) -> dict[str, float | None]:
    return {name.removeprefix("nc/"): _number(value) for name, value in values.items() if name.startswith("nc/")}


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
