"""PROOF against its equations."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cillab.learners.checks import learn
from cillab.parts.losses import contrast
from tests.learners import tiny, tiny_clip

IMAGES = tiny_clip.images()
UNTRAINED = {"fit.epochs": 0}


@pytest.fixture(scope="module")
def taught():
    return tiny_clip.taught("proof", 2, memory=24)


def features(learner) -> Tensor:
    with torch.no_grad():
        return learner.features(IMAGES)


def test_untrained_its_parts_are_zero_shot_clip_and_class_means() -> None:
    """Projections are the identity; a layer norm takes the mean over dimensions away, and leaves the angle."""
    learner, zero = tiny_clip.taught("proof", 2, **UNTRAINED), tiny_clip.taught("zeroshot-clip", 2)
    with torch.no_grad():
        v, scale = features(learner), learner.text.scale
        plain, names, means = learner.terms(v)
        torch.testing.assert_close(plain, zero.logits(IMAGES), rtol=0, atol=1e-3)
        centred = [F.normalize(t - t.mean(dim=1, keepdim=True), dim=1) for t in (v, learner.text.prototypes)]
        torch.testing.assert_close(names, scale * centred[0] @ centred[1].T, rtol=0, atol=0.02 * scale)
        mu = F.normalize(learner.means.means(like=v), dim=1)
        mu = F.normalize(mu - mu.mean(dim=1, keepdim=True), dim=1)
        torch.testing.assert_close(means, scale * centred[0] @ mu.T, rtol=0, atol=0.02 * scale)
        torch.testing.assert_close(learner.logits(IMAGES), plain + names + means)


def test_images_and_names_are_seen_through_sums_of_projections_of_which_only_the_newest_learns(taught) -> None:
    before = {name: part.former + part.newest for name, part in _projections(taught)}
    contexts = taught.attention.context.detach()
    again = tiny_clip.taught("proof", 2)
    learn(again, tiny.TinyTask(2, (4, 5)))
    for name, part in _projections(again):
        torch.testing.assert_close(part.former, before[name].detach())
        assert float(part.newest.abs().max()) > 0
    torch.testing.assert_close(again.attention.former, contexts)
    assert again.attention.context.shape == (9, 24)
    h = torch.randn(3, 24, generator=torch.Generator().manual_seed(0))
    one, two = taught.of_images.former, taught.of_images.newest
    summed = F.linear(h, one[:, :-1], one[:, -1]) + F.linear(h, two[:, :-1], two[:, -1])
    torch.testing.assert_close(taught.of_images(h), summed, rtol=0, atol=1e-5)


def _projections(learner):
    return (("images", learner.of_images), ("names", learner.of_names))


def test_drawn_projections_leave_the_space_of_clip() -> None:
    drawn = tiny_clip.taught("proof", 2, start="random", **UNTRAINED)
    kept = tiny_clip.taught("proof", 2, **UNTRAINED)
    assert abs(float(F.cosine_similarity(features(drawn), features(kept)).mean())) < 0.5


def test_images_are_stored_and_shared_among_classes(taught) -> None:
    assert taught.capabilities.exemplars
    assert taught.internals()["stored"].tolist() == [6] * 4  # memory = 24 over four classes
    assert torch.equal(taught.stored.labels.unique(), torch.arange(4))


def test_contrast_with_one_image_a_name_is_clips_loss_and_counts_no_image_of_the_same_class_as_another() -> None:
    z = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    clips = (F.cross_entropy(z, torch.arange(4)) + F.cross_entropy(z.T, torch.arange(4))) / 2
    torch.testing.assert_close(contrast(z, torch.arange(4)), clips)
    columns = torch.tensor([0, 0, 2, 2])
    other = -torch.stack([z[:, c].log_softmax(0)[columns == c].mean() for c in (0, 2)]).mean()
    torch.testing.assert_close(contrast(z, columns), (F.cross_entropy(z, columns) + other) / 2)
    perfect = torch.full((4, 3), -50.0)
    perfect[:2, 0] = perfect[2:, 2] = 50.0
    other = torch.tensor(2.0).log()  # two images share a name: half of it each is the best there is
    torch.testing.assert_close(contrast(perfect, columns), other / 2)


def test_the_loss_of_proof_by_hand(monkeypatch) -> None:
    """Equations (1), (2) and (4), image by image, with projections, attention and an image's class being anything."""
    learner, draws, found = tiny_clip.taught("proof", 1, **UNTRAINED), torch.Generator().manual_seed(0), {}
    h, columns = torch.randn(5, 24, generator=draws), [2, 0, 2, 3, 1]

    def spied(owner, task, taken, trained, loss, how, **_):
        a = owner.attention
        for values in (owner.of_images.newest, owner.of_names.newest, a.out, a.gain, a.shift):
            values.data.add_(0.3 * torch.randn(values.shape, generator=draws))
        unit = []
        for own in tiny.tasks(2):
            images, labels = next(own.batches(24))
            unit += [F.normalize(owner.backbone(images[labels == c]), dim=1).mean(dim=0) for c in own.classes]
        t = owner.text.prototypes
        names, means = F.normalize(owner.of_names(t), dim=1), F.normalize(owner.of_images(torch.stack(unit)), dim=1)
        logits = torch.zeros(3, 5, 4)
        for i, x in enumerate(h):
            z = F.normalize(owner.of_images(x[None] / x.norm()), dim=1)
            some = torch.cat([z, names, means, a.context])
            shares = (some @ a.query.T @ (some @ a.key.T).T / 24**0.5).softmax(dim=1)
            y = F.layer_norm(some + shares @ some @ a.value.T @ a.out.T, (24,), a.gain, a.shift)
            cosines = F.normalize(y, dim=1) @ F.normalize(y[0], dim=0)
            logits[:, i] = owner.text.scale * torch.stack([(names @ z.T)[:, 0], cosines[1:5], cosines[5:9]])
        plain, *attended = logits.detach().unbind()
        own = [-sum(float(terms[i].log_softmax(0)[c]) for i, c in enumerate(columns)) / 5 for terms in attended]
        of_names = -sum(float(plain[i].log_softmax(0)[c]) for i, c in enumerate(columns)) / 5
        over = plain.log_softmax(dim=0)  # over images; class 2 has two of them
        of_images = -float((over[0, 2] + over[2, 2]) / 2 + over[1, 0] + over[3, 3] + over[4, 1]) / 4
        found["by hand"] = sum(own) + (of_names + of_images) / 2
        found["loss"] = float(loss(h, torch.tensor(columns)))
        return iter(())

    monkeypatch.setattr("cillab.learners.proof.fit_features", spied)
    learn(learner, tiny.tasks(2)[1])
    assert found["loss"] == pytest.approx(found["by hand"], rel=1e-4)
