"""L2P, DualPrompt, CODA-Prompt: what an image gets is its own business; a vote over a sorted test set is a leak."""

import pytest
import torch
import torch.nn.functional as F

from cillab.kit import fit
from cillab.learners.checks import learn, logits
from tests.learners import tiny


def test_a_vote_makes_predictions_depend_on_company() -> None:
    """Sorted by class, the images of a batch choose for one another; alone, each for itself. The leak has a size."""
    fair, leaky = (tiny.bench("l2p", vote=vote, pool=40, top=3, pull=0.0).taught() for vote in (False, True))
    bench = tiny.bench("l2p")
    moved = {}
    for name, learner in (("fair", fair), ("leaky", leaky)):
        by_class = torch.cat([logits(learner, images) for images, _ in bench.test])
        alone = torch.cat([logits(learner, image[None]) for image in bench.images])
        moved[name] = float(((by_class - alone).norm(dim=1) / alone.norm(dim=1)).mean())
    assert moved["fair"] < 1e-3, moved
    assert moved["leaky"] > 0.2, moved  # 0.64 of the length of an image's logits when this was written


def test_prompts_of_a_pool_are_chosen_and_counted() -> None:
    learner = tiny.bench("l2p", pool=6, top=2).taught(2)
    shown = learner.internals()
    assert shown["prompts/keys"].shape == (6, 32)
    assert float(shown["prompts/chosen"].sum()) == 2 * 48  # two prompts for each image of two tasks


def test_dualprompt_finds_the_task_by_the_frozen_feature() -> None:
    bench = tiny.bench("dualprompt")
    learner = bench.taught(1)
    before = [p.detach().clone() for p in (learner.worn.keys[0], learner.worn.prompts[0])]
    general = next(learner.general.parameters()).detach().clone()
    learn(learner, bench.tasks[1])
    assert learner.worn.grown == (1, 1)
    for old, now in zip(before, (learner.worn.keys[0], learner.worn.prompts[0]), strict=True):
        assert torch.equal(old, now)  # what belongs to an old task is left alone
    assert not torch.equal(general, next(learner.general.parameters()))  # what is shared goes on learning
    with torch.no_grad():
        naked = bench.backbone(bench.images)
        learner.features(bench.images)
    torch.testing.assert_close(learner.worn.likeness, learner.worn.cosines(naked).max(dim=1, keepdim=True).values)
    assert sum(learner.worn.chosen) == 48


def test_dualprompts_tasks_begin_where_the_last_one_ended() -> None:
    bench = tiny.bench("dualprompt")
    learner = bench.taught(1)
    running = learner.observe(bench.tasks[1])
    next(running)
    (old, fresh), keys = (p.detach() for p in learner.worn.prompts), [k.detach() for k in learner.worn.keys]
    assert float((fresh - old).abs().max()) < 0.1 < float((keys[1] - keys[0]).abs().max())
    running.close()
    assert learner.worn.grown == (1,)


def test_dualprompt_trains_the_prompt_of_the_task_whatever_the_keys_say(monkeypatch) -> None:
    """The first key is set amid the images and the own key opposite: afterwards they find the first, and not before."""
    bench = tiny.bench("dualprompt", **{"fit.lr": 1e-3})
    learner, task, rows = bench.taught(1), bench.tasks[1], []
    images, _ = next(task.batches(24))

    def watch(owner, task, trained, loss, how, **options):
        middle = owner.backbone(images).mean(dim=0, keepdim=True)
        owner.worn.keys[0].data, owner.worn.keys[1].data = middle, -middle

        def noted(h, labels):
            rows.append(owner.worn.rows.flatten())
            return loss(h, labels)

        return fit(owner, task, trained, noted, how, **options)

    monkeypatch.setattr("cillab.learners.dualprompt.fit", watch)
    learn(learner, task)
    assert rows and (torch.cat(rows) == 1).all()
    with torch.no_grad():
        learner.features(images)
    assert (learner.worn.rows == 0).all()


@pytest.mark.parametrize("name", ["l2p", "dualprompt"])
def test_keys_are_pulled_to_the_images_that_wear_their_prompts(name, monkeypatch) -> None:
    """Equation (3) by hand: minus `pull` times the cosines of the chosen keys (L2P, two) or of the task's (DualPrompt).

    Cosines of one image are added up, those of several images averaged.
    """
    bench, found = tiny.bench(name, pull=0.3), {}
    learner = bench.taught(1)

    def spied(owner, task, trained, loss, how, **_):
        images, labels = next(task.batches(5, torch.Generator().manual_seed(0)))
        head = owner.classifier
        head.weight.data.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            q, h = owner.backbone(images), owner.embed(owner.on_pixels(owner.backbone.pixels(images)))
            found["loss"] = float(loss(h, labels))
        terms = []
        for x, own, y in zip(q, h, labels.tolist(), strict=True):
            cosines = [float(F.cosine_similarity(x, key, dim=0)) for key in torch.cat([*owner.worn.keys])]
            chosen = sorted(cosines)[-2:] if name == "l2p" else cosines[1:]
            surprise = -(head.weight[2:] @ own + head.bias[2:]).log_softmax(dim=0)[y - 2]
            terms.append(float(surprise) - 0.3 * sum(chosen))
        found["by hand"] = sum(terms) / 5
        return iter(())

    monkeypatch.setattr(f"cillab.learners.{name}.fit", spied)
    learn(learner, bench.tasks[1])
    assert found["loss"] == pytest.approx(found["by hand"], rel=1e-5)


@pytest.mark.parametrize("weight", [0.0, 0.1])
def test_codas_older_components_stay(weight) -> None:
    bench = tiny.bench("coda-prompt", orthogonality=weight)
    learner = bench.taught(1)
    before = [values[0].detach().clone() for values in learner.worn.children()]
    learn(learner, bench.tasks[1])
    assert learner.worn.grown == (2, 2)
    for old, values in zip(before, learner.worn.children(), strict=True):
        assert torch.equal(old, values[0])
        assert not torch.equal(values[1], values[0])


def test_the_size_of_the_leak_in_points_of_tasks_that_are_found() -> None:
    """Keys at the means of their tasks: a vote in batches of one class finds more tasks than images alone do.

    In mixed batches it finds hardly any: what is won is no knowledge of the image, but of the order of the files.
    """
    bench = tiny.bench("dualprompt", vote=True)
    learner, task = bench.taught(), bench.labels // 2
    draws = torch.Generator().manual_seed(0)
    images = (bench.images + 90 * torch.randn(bench.images.shape, generator=draws)).clamp(0, 255).to(torch.uint8)
    with torch.no_grad():
        for key, own in zip(learner.worn.keys, bench.tasks, strict=True):
            key.copy_(bench.backbone(next(own.batches(64))[0]).mean(dim=0)[None])

    def found(order: torch.Tensor, size: int) -> float:
        right = []
        for some in order.split(size):
            logits(learner, images[some])
            right.append(learner.worn.rows[:, 0] == task[some])
        return float(torch.cat(right).double().mean())

    in_order, mixed = torch.arange(len(images)), torch.randperm(len(images), generator=draws)
    alone, voted, misled = found(in_order, 1), found(in_order, 6), found(mixed, 12)
    assert voted > alone + 0.1, (alone, voted)
    assert misled < alone - 0.1, (alone, misled)
