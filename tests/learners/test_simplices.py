"""Fixed, growing, nearest and shared anchors: each method against its own geometry."""

from copy import deepcopy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cillab.core.errors import InvalidRequestError
from cillab.core.registry import learners
from cillab.geometry.etf import gram_error, growth_angle, nearest_etf, simplex_etf
from cillab.learners import make_learner
from cillab.learners.checks import RelabelledTask, learn, logits, quick_values
from cillab.parts.simplex import Simplex
from cillab.parts.stages import fit_features
from tests.learners import tiny

IMAGES = torch.cat([tiny.pictures(c, 4, seed=3) for c in range(6)])


def taught(name: str, count: int, **changes: object):
    backbone = tiny.backbone()
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
    """Features that are a simplex of any size, turned and moved: its vertices are the ones that are found."""
    planted = torch.from_numpy(simplex_etf(6, 32, np.random.default_rng(3))).float()
    head = Simplex(32)
    head.grow(tuple(range(6)))
    head.place(5 * planted)
    torch.testing.assert_close(head.vertices, planted, rtol=1e-4, atol=1e-5)
    learner = taught("ncm-etf", 3)
    means = learner.means.means()[[learner.means.classes.index(c) for c in learner.seen]].double().numpy()
    nearest = nearest_etf(means - means.mean(axis=0), np.ones(6))
    np.testing.assert_allclose(rows(learner), nearest, atol=1e-4)


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
    assert taught("pronc", 3, memory=5).internals()["stored"].tolist() == [1] * 6  # never none of a class


def surprise(scores: Tensor, own: int) -> float:
    """Cross-entropy of one image."""
    return -float(scores.log_softmax(dim=0)[own])


@pytest.mark.parametrize("number", [0, 1])
def test_the_loss_of_pronc_by_hand(number: int, monkeypatch) -> None:
    """Equations (1) and (3): the first task has cross-entropy alone, later ones a pull and a tie to what z was."""
    learner, draws, found = taught("pronc", number, pull=3.0, distil=5.0), torch.Generator().manual_seed(0), {}

    def spied(owner, task, groups, loss, how, **_):
        before = deepcopy(owner.worn)
        for p in owner.worn.parameters():
            p.data.add_(0.05 * torch.randn(p.shape, generator=draws))
        owner.linear.weight.data.normal_(std=0.2, generator=draws)
        images, labels = next(task.batches(5, draws))
        pixels, terms = owner.backbone.pixels(images), []
        with torch.no_grad():
            h, earlier = (owner.on_pixels(pixels)(worn) for worn in (owner.worn, before))
            found["loss"] = float(loss(pixels, labels))
        for x, was, y in zip(h, earlier, labels.tolist(), strict=True):
            terms.append(surprise(owner.linear.weight @ x + owner.linear.bias, y))  # over all classes seen
            if number:
                pulled = float(F.cosine_similarity(x, owner.classifier.vertices[y], dim=0))
                stayed = float(F.cosine_similarity(x, was, dim=0))
                assert stayed < 0.99
                terms[-1] += 3 / 2 * (pulled - 1) ** 2 + 5 / 2 * (stayed - 1) ** 2
        found["by hand"] = sum(terms) / 5
        return iter(())

    monkeypatch.setattr("cillab.learners.pronc.fit", spied)
    learn(learner, tiny.tasks(2)[number])
    assert found["loss"] == pytest.approx(found["by hand"], rel=1e-4)


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


@pytest.mark.parametrize("classes", [(2, 3), (1, 2)])
def test_the_loss_of_god_by_hand(classes: tuple[int, int], monkeypatch) -> None:
    """Equation (3); an image of a class that came back has no anchor in this task, only a row of the angular head."""
    learner, draws, found = taught("god", 1), torch.Generator().manual_seed(0), {}
    h, labels = torch.randn(5, 32, generator=draws), [classes[i] for i in (0, 1, 1, 0, 1)]

    def spied(owner, task, trained, loss, how, **_):
        weight, bias, rows = trained[:3]
        bias.data.normal_(generator=draws)
        found["loss"] = float(loss(h, torch.tensor(labels)).detach())
        anchor, angular, turned = owner.classifier.anchors[2], [], []
        for x, y in zip(h, labels, strict=True):
            cosines = torch.stack([F.cosine_similarity(x, row, dim=0) for row in rows.detach()])
            cosines[y] = (cosines[y].acos() + 0.4).cos()
            angular.append(surprise(30 * cosines, y))
            if y >= 2:
                z = F.normalize(weight.detach() @ F.relu(owner.classifier.matrix @ x) + bias.detach(), dim=0)
                turned.append(surprise(torch.stack([z @ anchor, -(z @ anchor)]) / 0.1, y - 2))
        found["by hand"] = sum(angular) / len(angular) + sum(turned) / len(turned)
        return iter(())

    monkeypatch.setattr("cillab.learners.god.fit", spied)
    learn(learner, tiny.TinyTask(1, classes))
    assert found["loss"] == pytest.approx(found["by hand"], rel=1e-4)


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


def test_a_class_that_comes_alone_trains_a_head_of_god() -> None:
    """Beside its anchor stands a vertex of no class: cross-entropy over one column would have no gradient."""
    learner = taught("god", 1)
    learn(learner, RelabelledTask(tiny.tasks(2)[1], {2: 2}))
    assert learner.classifier.bias[-1].any()
    own = logits(learner, tiny.pictures(2, 6, seed=5)).argmax(dim=1)
    assert (own == learner.seen.index(2)).float().mean() > 0.5


def test_a_fixed_simplex_takes_classes_one_by_one() -> None:
    learner = make_learner("nc-fscil", tiny.backbone(), **quick_values(learners["nc-fscil"].Params))
    for index, only in enumerate((0, 1)):
        learn(learner, RelabelledTask(tiny.tasks(1)[0], {only: only}))
        assert len(learner.seen) == index + 1
    assert logits(learner, IMAGES).shape == (len(IMAGES), 2)


def test_later_sessions_of_nc_fscil_learn_on_new_features_and_old_means(monkeypatch) -> None:
    """Equation (3): every old class has as many rows as a new one, all of them its mean."""
    learner, given = taught("nc-fscil", 1), {}
    means = learner.means.means().float()

    def watch(owner, task, taken, *rest, **options):
        given["rows"], given["labels"] = taken
        return fit_features(owner, task, taken, *rest, **options)

    monkeypatch.setattr("cillab.learners.nc_fscil.fit_features", watch)
    learn(learner, tiny.tasks(2)[1])
    assert given["labels"].bincount().tolist() == [12, 12, 12, 12]
    for c in (0, 1):
        torch.testing.assert_close(given["rows"][given["labels"] == c], means[c].expand(12, -1))


def test_dot_regression_draws_features_to_their_vertices() -> None:
    short, long = (taught("nc-fscil", 1, epochs=n) for n in (1, 12))

    def own(learner) -> Tensor:
        with torch.no_grad():
            z = F.normalize(learner.features(IMAGES[:8]), dim=1)
        return (z * torch.from_numpy(rows(learner)).float()[[0] * 4 + [1] * 4]).sum(1).mean()

    assert own(long) > own(short)
