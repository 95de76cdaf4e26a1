"""Learners that ask for no ViT and no text work on a timm convnet as well."""

import pytest

from cillab.core.registry import learners
from cillab.learners import check_fit, checks
from tests.backbones.models import convnet
from tests.learners import tiny

ANYWHERE = [name for name in learners if not learners[name].capabilities.needs]


def bench(name: str) -> checks.Bench:
    """With weights as timm draws them: rates for whole networks are those of networks that do not amplify."""
    other, backbone = tiny.bench(name), convnet()
    for parameter in backbone.module.parameters():
        if parameter.ndim > 1:
            parameter.data.div_(3)
    return checks.Bench(name, backbone, other.tasks, other.test)


@pytest.mark.parametrize("name", ANYWHERE)
def test_two_tasks_on_a_convnet(name: str) -> None:
    found = bench(name)
    learner = found.taught(2)
    some = found.images[::3]
    whole = checks.logits(learner, some)
    assert whole.shape == (len(some), 4) and bool(whole.isfinite().all())
    alone = checks.logits(learner, some[:1])
    assert float((alone - whole[:1]).abs().max() / whole.abs().max()) < 1e-3
    assert len(learner.head().weight) == 4
    check_fit(name, kind="convnet", clip=False, tag="timm:test_resnet")


@pytest.mark.slow
@pytest.mark.parametrize("name", ANYWHERE)
def test_whole_battery_on_a_convnet(name: str) -> None:
    for check in checks.CHECKS:
        if (check.__name__, name) not in checks.EXCEPTIONS:
            check(bench(name))
