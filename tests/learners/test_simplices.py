"""Fixed, growing, nearest and shared anchors: each method against its own geometry."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cillab.core.errors import InvalidRequestError
from cillab.geometry.etf import gram_error, growth_angle
from cillab.learners import make_learner
from cillab.learners.checks import RelabelledTask, learn, logits, quick_values
from tests.learners import tiny

IMAGES = torch.cat([tiny.pictures(c, 4, seed=3) for c in range(6)])


def taught(name: str, count: int, **changes: object):
    backbone = tiny.backbone()
    from cillab.core.registry import learners

    learner = make_learner(name, backbone, **{**quick_values(learners[name].Params), **changes})
    for task in tiny.tasks(count):
        learn(learner, task)
    return learner


def rows(learner) -> np.ndarray:
    return learner.head().weight.double().numpy()


def test_the_nearest_simplex_does_not_depend_on_the_order_of_tasks() -> None:
    one, two = taught("ncm-etf", 3), make_learner("ncm-etf", tiny.backbone())
    for task in reversed(tiny.tasks(3)):
        learn(two, task)
    place = [two.seen.index(c) for c in one.seen]
    torch.testing.assert_close(logits(one, IMAGES), logits(two, IMAGES)[:, place], rtol=1e-4, atol=1e-5)
    assert gram_error(rows(one)) < 1e-6


def test_on_collapsed_features_the_simplex_is_the_means() -> None:
    """Six classes whose features are the vertices of a simplex: nothing is lost against the nearest mean."""
    learner = taught("ncm-etf", 3)
    features = torch.from_numpy(rows(learner)).float()
    centre = learner.classifier.kept["centre"]
    scores = learner.scores(learner.shape(5 * features + centre))
    torch.testing.assert_close(scores, (features @ features.T), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["ncm-etf", "nc-fscil", "pronc"])
def test_vertices_have_the_angles_of_a_simplex(name: str) -> None:
    learner = taught(name, 3)
    v = rows(learner)
    capacity = learner.params.capacity if name == "nc-fscil" else 6
    cosines = (v @ v.T)[~np.eye(6, dtype=bool)]
    np.testing.assert_allclose(cosines, -1 / (capacity - 1), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(v, axis=1), 1, atol=1e-5)


def test_a_fixed_simplex_never_moves_and_a_growing_one_turns_by_the_known_angle() -> None:
    first, later = taught("nc-fscil", 1), taught("nc-fscil", 3)
    assert np.array_equal(rows(first), rows(later)[:2])
    small, grown = taught("pronc", 1), taught("pronc", 2)
    turned = np.arccos((rows(small) * rows(grown)[:2]).sum(axis=1).clip(-1, 1))
    np.testing.assert_allclose(turned, growth_angle(2, 4), atol=1e-4)
    torch.testing.assert_close(
        grown.internals()["anchors/turned"].double(), torch.full((2,), growth_angle(2, 4)).double()
    )


def test_pronc_appending_twice_keeps_the_basis() -> None:
    learner = taught("pronc", 2)
    basis = learner.classifier.kept["basis"].clone()
    learn(learner, tiny.tasks(3)[2])
    assert torch.equal(learner.classifier.kept["basis"][:, :4], basis)


def test_pronc_keeps_its_share_of_random_images_and_only_of_seen_classes() -> None:
    learner = taught("pronc", 3, memory=18)
    assert learner.internals()["stored"].tolist() == [3] * 6
    assert len(taught("pronc", 2, memory=0).images) == 0


def test_too_many_classes_are_refused_before_anything_is_learnt() -> None:
    learner = taught("nc-fscil", 1, capacity=3)
    with pytest.raises(InvalidRequestError, match="give a larger capacity"):
        learn(learner, tiny.tasks(2)[1])
    assert learner.seen == (0, 1)
    with pytest.raises(InvalidRequestError, match="vertices"):
        make_learner("nc-fscil", tiny.backbone(), capacity=99)
    one = RelabelledTask(tiny.tasks(1)[0], {0: 0})
    with pytest.raises(InvalidRequestError, match="two classes"):
        learn(make_learner("ncm-etf", tiny.backbone()), one)


def test_anchors_of_god_are_a_simplex_and_the_same_in_every_task() -> None:
    learner = taught("god", 3)
    v = rows(learner)
    for start in (0, 2, 4):
        np.testing.assert_allclose(v[start] @ v[start + 1], -1, atol=1e-5)  # two vertices: antipodes
        np.testing.assert_array_equal(v[start : start + 2], v[:2])


def test_god_answers_with_the_newest_change_where_the_average_is_all_new() -> None:
    learner = taught("god", 2, average=1.0)
    for kept, new in zip(learner.worn.parameters(), learner.newest.parameters(), strict=True):
        torch.testing.assert_close(kept, new)
    slow = taught("god", 2, average=0.1)
    assert any(not torch.allclose(k, n) for k, n in zip(slow.worn.parameters(), slow.newest.parameters(), strict=True))


def test_after_the_first_task_only_the_last_blocks_of_god_learn() -> None:
    one, two = taught("god", 1), taught("god", 2, average=0.1)
    first = [torch.equal(a, b) for a, b in zip(one.newest.up, two.newest.up, strict=True)]
    assert first == [True, False]  # two blocks, later_blocks = 1


def test_relabelling_inside_a_task_permutes_only_its_own_logits() -> None:
    learner = taught("god", 2, average=0.1)
    before = logits(learner, IMAGES)
    classifier = learner.classifier
    classifier.anchors = classifier.anchors[[0, 1, 3, 2]]
    after = logits(learner, IMAGES)
    torch.testing.assert_close(after[:, [0, 1, 3, 2]], before)


def test_dot_regression_draws_features_to_their_vertices() -> None:
    short, long = (taught("nc-fscil", 1, epochs=n) for n in (1, 12))

    def own(learner) -> Tensor:
        with torch.no_grad():
            z = F.normalize(learner.features(IMAGES[:8]), dim=1)
        return (z * torch.from_numpy(rows(learner)).float()[[0] * 4 + [1] * 4]).sum(1).mean()

    assert own(long) > own(short)
