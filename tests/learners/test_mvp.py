"""MVP against its equations, and on the stream that it is made for."""

import math

import pytest
import torch
import torch.nn.functional as F

import cillab
from cillab.learners import checks
from cillab.learners.checks import learn
from cillab.parts.losses import opposed
from tests.learners import tiny


@pytest.fixture(scope="module")
def taught():
    return tiny.bench("mvp").taught(2)


def test_an_image_wears_the_prompt_that_is_near_and_not_worn_out(taught) -> None:
    q = taught.backbone(tiny.bench("mvp").images)
    keys = torch.cat([*taught.worn.keys]).detach()
    far = 1 - F.normalize(q, dim=1) @ F.normalize(keys, dim=1).T
    expected = (far * (torch.tensor(taught.worn.chosen) + 1)).argmin(dim=1)
    assert torch.equal(taught.worn.choice(q)[:, 0], expected)
    assert sum(taught.worn.chosen) == 2 * 24 * 3 * taught.params.fit.epochs  # every image of every step


def test_logits_are_masked_by_the_prompt_that_is_worn(taught) -> None:
    images = tiny.bench("mvp").images[:8]
    with torch.no_grad():
        h, q = taught.features(images).split(32, dim=1)
        torch.testing.assert_close(q, taught.backbone(images))
        masks = taught.internals()["mvp/masks"][taught.worn.choice(q)[:, 0]]
        expected = masks * (h @ taught.classifier.linear.weight.T + taught.classifier.linear.bias)
    assert masks.shape == (8, 4) and 0 < float(masks.min()) < float(masks.max()) < 2
    torch.testing.assert_close(checks.logits(taught, images), expected)


def test_the_direction_of_each_image_against_its_batch_is_that_of_autograd() -> None:
    draws = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(3, 6, generator=draws), torch.randn(3, generator=draws)
    h, y = torch.randn(8, 6, generator=draws), torch.tensor([0, 1, 2, 0, 1, 0, 0, 2])
    factors = torch.rand(8, 3, generator=draws) * 2
    weight.requires_grad_()
    logits = factors * (h @ weight.T + bias)
    each = F.cross_entropy(logits, y, reduction="none")
    (whole,) = torch.autograd.grad(each.mean(), weight, retain_graph=True)
    for i in range(8):
        (own,) = torch.autograd.grad(each[i], weight, retain_graph=True)
        expected = 1 - F.cosine_similarity(own[y[i]], whole[y[i]], dim=0)
        torch.testing.assert_close(opposed(logits, y, h, factors)[i], expected, rtol=1e-4, atol=1e-5)


def test_the_loss_by_hand(monkeypatch) -> None:
    """Equations (3) and (4): directions against the batch by autograd, the loss of the keys in a loop."""
    options = {"margin": 0.4, "focus": 0.3, "gamma": 2.0, "contrast": 0.6}
    learner, draws, found = tiny.bench("mvp", **options).taught(1), torch.Generator().manual_seed(0), {}

    def spied(batches, steps, trained, loss, how, **_):
        head, worn = learner.classifier, learner.worn
        for values in (head.linear.weight, head.linear.bias, head.masks):
            values.data.normal_(generator=draws)
        images, labels = next(tiny.tasks(2)[1].batches(5, draws))
        pixels, y = learner.backbone.pixels(images), labels.tolist()  # classes 2 and 3 have columns 2 and 3
        with torch.no_grad():
            h, q = learner.embed(learner.on_pixels(pixels)).split(32, dim=1)
        j, counts = worn.rows[:, 0].tolist(), [n + 1 for n in worn.chosen]
        weight = head.linear.weight.detach().clone().requires_grad_()
        factors = 2 * head.masks.detach()[j].sigmoid()
        each = F.cross_entropy(factors * (h @ weight.T + head.linear.bias), labels, reduction="none")
        whole = torch.autograd.grad(each.mean(), weight, retain_graph=True)[0]
        terms = []
        for i in range(5):
            own = torch.autograd.grad(each[i], weight, retain_graph=True)[0]
            against = 1 - float(F.cosine_similarity(own[y[i]], whole[y[i]], dim=0))
            distance = 1 - float(F.cosine_similarity(weight[y[i]].detach(), h[i], dim=0)) + 0.4
            logits = factors[i] * (weight @ (h[i] / distance) + head.linear.bias)
            terms.append((0.7 + 0.3 * against**2) * -float(logits.detach().log_softmax(dim=0)[y[i]]))
        keys = torch.cat([*worn.keys]).detach()
        far = [[1 - float(F.cosine_similarity(x, key, dim=0)) for key in keys] for x in (*q, *keys)]
        near = [math.exp(far[i][m] / counts[m]) for i, m in enumerate(j)]
        apart = [math.exp(one / counts[m]) for m in j for one in far[5 + m]]
        d, r = sum(near) / len(near), sum(apart) / len(apart)
        found["by hand"] = sum(terms) / 5 - 0.6 * math.log(r / (r + d))
        found["loss"] = float(loss(pixels, labels).detach())
        assert sum(worn.chosen) == sum(counts) - len(counts) + 5
        return iter(())

    monkeypatch.setattr("cillab.learners.mvp.descend", spied)
    learn(learner, tiny.tasks(2)[1])
    assert found["loss"] == pytest.approx(found["by hand"], rel=1e-4)


def test_every_process_sees_whole_batches(monkeypatch) -> None:
    """It counts what images choose: shares of a batch would be counted by one process alone."""
    asked = {}
    monkeypatch.setattr("cillab.learners.mvp.descend", lambda *_, **how: asked.update(how) or iter(()))
    learn(tiny.bench("mvp").learner(), tiny.tasks(1)[0])
    assert asked["divided"] is False


def test_the_pool_does_not_know_how_many_tasks_there_will_be(taught) -> None:
    one = tiny.bench("mvp").taught(1)
    assert one.worn.grown == taught.worn.grown == (3,)
    assert one.classifier.masks.shape == (3, 2) and taught.classifier.masks.shape == (3, 4)


def test_it_runs_over_a_blurry_stream_once() -> None:
    """Si-Blurry: pieces of a flow in which classes come back; each piece is a task, tested on what was exposed."""
    backbone = cillab.backbone("bundled:vit", precision="fp32")
    settings = {"tasks": 2, "every": 40, "blur": 0.3}
    stream = cillab.stream("shields", scenario="si-blurry", train_per_class=1, test_per_class=1, **settings).on(
        backbone
    )
    learner = cillab.learner("mvp", backbone, pool=3, repeats=1)
    came = list[int]()
    for task in stream[:2]:
        learn(learner, task)
        came += task.classes
    assert set(learner.seen) == set(came)
    assert sum(learner.worn.chosen) == 80  # one step on every image
    assert checks.logits(learner, stream.test(0).images[:4]).shape == (4, len(learner.seen))
