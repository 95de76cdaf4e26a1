"""The smallest streams begin with one class or one image: every learner learns on from there, or says what it needs."""

import pytest

from cillab.core.errors import InvalidRequestError
from cillab.learners import learners, make_learner
from cillab.learners.checks import learn, logits, quick_values
from tests.backbones.models import clip
from tests.learners import tiny

FIRST = {"one image a class": (0, 1, 2), "one image": (0,)}
TWO_CLASSES = {"ncm-etf", "ncptm", "pronc"}  # their simplex follows the classes that came


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("name", sorted(learners))
def test_a_small_first_task_is_learnt_and_the_next_one_too(name: str, first: str) -> None:
    classes, values = FIRST[first], quick_values(learners[name].Params)
    backbone = clip() if "clip" in learners[name].capabilities.needs else tiny.backbone()
    learner, task = make_learner(name, backbone, **values), tiny.TinyTask(0, classes, 1)
    if name in TWO_CLASSES and len(classes) < 2:
        with pytest.raises(InvalidRequestError, match="two classes"):
            learn(learner, task)
        return
    learn(learner, task)
    learn(learner, tiny.TinyTask(1, (3, 4), 12))
    scores = logits(learner, tiny.pictures(3, 4, seed=3))
    assert scores.shape == (4, len(classes) + 2) and scores.isfinite().all()
