"""NCPTM-CIL against its equations: the vertex, the identity at the start, the closed form of a turning simplex."""

import hashlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cillab.core.errors import InvalidRequestError
from cillab.geometry.etf import gram_error, growth_angle, nearest_etf, simplex_etf
from cillab.learners import make_learner
from cillab.learners.checks import RelabelledTask, learn
from cillab.learners.ncptm import NCPTM
from cillab.parts.losses import pull_push
from tests.learners import tiny

SMALL = {"epochs": 2, "batch_size": 8, "bottleneck": 4, "align_epochs": 3, "align_batch": 16, "views": 1}
IMAGES = torch.cat([tiny.pictures(c, 3, seed=5) for c in range(4)])


def make(**changes: object) -> NCPTM:
    learner = make_learner("ncptm", tiny.backbone(), **(SMALL | changes))
    assert isinstance(learner, NCPTM)
    return learner


def taught(count: int, **changes: object) -> NCPTM:
    learner = make(**changes)
    for task in tiny.tasks(count):
        learn(learner, task)
    return learner


def etf(classes: int, dim: int = 16) -> Tensor:
    return torch.from_numpy(simplex_etf(classes, dim, np.random.default_rng(0))).float()


def digest(learner: NCPTM) -> str:
    return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in learner.worn.parameters())).hexdigest()


@pytest.mark.parametrize("classes", [2, 5, 17])
def test_pull_and_push_vanish_with_their_gradient_at_the_vertices(classes) -> None:
    m = torch.from_numpy(simplex_etf(classes, 16, np.random.default_rng(0)))
    z = m.clone().requires_grad_(True)
    pull, push = pull_push(z, m, torch.arange(classes))
    (pull + push).backward()
    assert float(pull.detach()) < 1e-28 and float(push.detach()) < 1e-28
    assert z.grad is not None and float(z.grad.abs().max()) < 1e-12


def test_pull_and_push_are_their_formula() -> None:
    m, z = etf(5), F.normalize(torch.randn(7, 16, generator=torch.Generator().manual_seed(1)), dim=1)
    y = torch.tensor([0, 1, 2, 3, 4, 0, 1])
    pull, push = pull_push(z, m, y)
    by_hand_pull = sum(0.5 * (float(z[i] @ m[y[i]]) - 1) ** 2 for i in range(7)) / 7
    by_hand_push = sum(
        0.5 * max(0.0, float(z[i] @ m[k]) + 0.25) ** 2 / 4 for i in range(7) for k in range(5) if k != y[i]
    )
    assert float(pull) == pytest.approx(by_hand_pull, rel=1e-5)
    assert float(push) == pytest.approx(by_hand_push / 7, rel=1e-5)


def test_pull_and_push_do_not_see_a_common_rotation() -> None:
    m, z = etf(5), F.normalize(torch.randn(7, 16, generator=torch.Generator().manual_seed(1)), dim=1)
    q, _ = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(2)))
    y = torch.arange(7) % 5
    for one, two in zip(pull_push(z, m, y), pull_push(z @ q, m @ q, y), strict=True):
        torch.testing.assert_close(one, two)
    turned_alone = pull_push(z @ q, m, y)[0]
    assert abs(float(turned_alone - pull_push(z, m, y)[0])) > 1e-3


def test_the_alignment_layer_starts_as_the_identity() -> None:
    learner = make()
    x = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(learner.align(x), x)


@pytest.mark.parametrize(("centring", "count"), [("first", 2), ("running", 4), ("none", 0)])
def test_features_are_centred_at_the_mean_of_class_means(centring, count) -> None:
    """Equation (1) without g: mu_G of the first classes, of all, or 0; a class of 3 images weighs as one of 12."""
    learner, means = make(centring=centring, adapt=False, align=False), []
    for task in tiny.tasks(2):
        learn(learner, RelabelledTask(task, {c: c for c in task.classes}, limit=15))
        images, labels = next(task.batches(24))
        h = learner.backbone(images[:15])
        means += [h[labels[:15] == c].mean(dim=0) for c in task.classes]
    centre = torch.stack(means[:count]).mean(dim=0) if count else torch.zeros(32)
    z = F.normalize(learner.backbone(IMAGES) - centre, dim=1)
    torch.testing.assert_close(learner.features(IMAGES), z, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["nearest", "prefix", "fixed"])
def test_vertices_are_an_etf_of_the_classes_seen(kind) -> None:
    learner = taught(3, etf=kind, capacity=6)
    assert gram_error(learner.classifier.vertices.numpy()) < 1e-5
    assert float(learner.classifier.vertices.sum(dim=0).abs().max()) < 1e-5


def test_two_classes_are_antipodal() -> None:
    first, second = taught(1).classifier.vertices
    torch.testing.assert_close(first, -second)


def test_with_a_kept_prefix_old_vertices_turn_by_the_closed_form() -> None:
    learner = taught(2, etf="prefix")
    turned = learner.internals()["etf/turned"]
    torch.testing.assert_close(turned, torch.full((2,), growth_angle(2, 4)), rtol=1e-3, atol=1e-4)
    assert float(learner.internals()["etf/expected"]) == pytest.approx(growth_angle(2, 4), rel=1e-5)


def test_a_fixed_simplex_hands_its_vertices_out_and_never_turns() -> None:
    learner, later = taught(1, etf="fixed", capacity=6), taught(2, etf="fixed", capacity=6)
    vertices = later.classifier.vertices
    assert torch.equal(learner.classifier.vertices, vertices[:2])
    cosines = vertices @ vertices.T
    torch.testing.assert_close(cosines[~torch.eye(4, dtype=torch.bool)], torch.full((12,), -1 / 5))


def test_holding_old_classes_turns_their_vertices_less() -> None:
    loose, tight = taught(2), taught(2, hold=1000.0)
    assert tight.internals()["etf/turned"].mean() < loose.internals()["etf/turned"].mean()


def test_the_adapter_learns_in_the_first_session_only() -> None:
    fresh, first, second = make(), taught(1), taught(2)
    assert digest(fresh) != digest(first) == digest(second)
    assert not len(make(adapt=False).worn)


def test_scaling_features_changes_no_prediction() -> None:
    learner = taught(2)
    with torch.no_grad():
        z = learner.features(IMAGES)
        assert torch.equal((7 * z @ learner.classifier.vertices.T).argmax(1), learner.logits(IMAGES).argmax(1))
    torch.testing.assert_close(z.norm(dim=1), torch.ones(len(z)))


def test_every_epoch_leaves_a_row_of_collapse() -> None:
    learner = taught(2)
    rows = learner.internals()["etf/epochs"]
    assert rows.shape == (SMALL["align_epochs"], 6) and rows.isfinite().all()
    assert taught(1).internals()["etf/epochs"].shape == (SMALL["epochs"] + SMALL["align_epochs"], 6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"etf": "fixed", "capacity": 3}, "room for 3 classes"), ({"etf": "fixed", "capacity": 1}, "hold 2 to 33")],
)
def test_too_many_classes_are_refused_in_words(changes, message) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        learner = make(**changes)
        for task in tiny.tasks(3):
            learn(learner, task)


def test_the_simplex_stands_on_z_of_the_mean_of_each_class() -> None:
    """Equation (2), with g as it was when the simplex was placed."""
    learner = taught(2, align=False)
    means = learner.memory.only(learner.seen).means
    with torch.no_grad():
        z = learner.shape(means)
    expected = nearest_etf(z.double().numpy(), np.array([learner.params.hold] * 2 + [1.0] * 2))
    np.testing.assert_allclose(learner.classifier.vertices.numpy(), expected, atol=1e-4)


def test_one_class_begins_where_the_simplex_is_fixed() -> None:
    learner = make(etf="fixed", capacity=8)
    learn(learner, RelabelledTask(tiny.tasks(1)[0], {0: 0}))
    learn(learner, tiny.tasks(2)[1])
    assert learner.seen == (0, 2, 3) and learner.classifier.vertices.isfinite().all()


def test_a_basis_does_not_turn_when_old_classes_come_back() -> None:
    learner = taught(2, etf="prefix")
    before = learner.classifier.vertices.clone()
    learn(learner, tiny.tasks(1)[0])
    assert torch.equal(learner.classifier.vertices, before)
    assert float(learner.internals()["etf/turned"].max()) < 1e-3
