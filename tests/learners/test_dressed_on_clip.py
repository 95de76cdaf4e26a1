"""What is worn between the blocks of a ViT is worn by open_clip's image tower as well."""

import pytest

from cillab.core.contract import Capabilities
from cillab.core.registry import learners
from cillab.learners import checks
from tests.backbones.models import clip
from tests.learners import tiny

FAMILIES = ("prompts and adapters", "low rank and subspaces")


def suits(can: Capabilities) -> bool:
    return can.family in FAMILIES and can.needs <= {"vit"}


@pytest.mark.parametrize("name", [name for name in learners if suits(learners[name].capabilities)])
def test_two_tasks_on_a_clip(name: str) -> None:
    bench = tiny.bench(name)
    bench = checks.Bench(name, clip(), bench.tasks, bench.test)
    learner = bench.taught(2)
    found = checks.logits(learner, bench.images)
    assert found.shape == (len(bench.images), 4) and bool(found.isfinite().all())
    alone = checks.logits(learner, bench.images[:1])
    assert float((alone - found[:1]).abs().max() / found.abs().max()) < 1e-3
    assert len(learner.head().weight) == 4
