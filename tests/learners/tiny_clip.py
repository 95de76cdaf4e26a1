"""A CLIP with random weights whose images and names mean nothing to each other: everything in milliseconds, no file."""

from typing import Any

import torch

from cillab.backbones.clip import ClipBackbone
from cillab.core.contract import Learner
from cillab.learners import learners, make_learner
from cillab.learners.checks import Bench, learn
from tests.backbones.models import clip
from tests.learners import tiny

QUICK: dict[str, Any] = {"epochs": 1, "batch_size": 12, "text_epochs": 2, "text_batch": 12, "rank": 2, "replay": 4}


def quick(name: str) -> dict[str, Any]:
    """Those of the quick hyper-parameters that the learner has."""
    return {key: value for key, value in QUICK.items() if key in learners[name].Params.model_fields}


def bench(name: str, backbone: ClipBackbone | None = None) -> Bench:
    """Six classes of patterns in three tasks, named "pattern 0" to "pattern 5"."""
    other = tiny.bench("simplecil")
    return Bench(name, backbone or clip(), other.tasks, other.test, quick(name))


def learner(name: str, backbone: ClipBackbone | None = None, **changes: Any) -> Learner[Any]:
    """A fresh learner."""
    return make_learner(name, backbone or clip(), **(quick(name) | changes))


def taught(name: str, count: int = 2, backbone: ClipBackbone | None = None, **changes: Any) -> Any:
    """A learner after `count` tasks."""
    found = learner(name, backbone, **changes)
    for task in tiny.tasks(count):
        learn(found, task)
    return found


def images(count: int = 4) -> torch.Tensor:
    """A few test pictures of every class of the first two tasks."""
    return torch.cat([tiny.pictures(c, count, seed=2) for c in range(4)])
