"""The four that hold fine-tuning back: nothing held is fine-tuning, everything held stays, each is its equation."""

import pytest
import torch

from cillab.core.errors import InvalidRequestError
from cillab.learners import make_learner
from cillab.learners.checks import learn, logits
from tests.learners import tiny

NAMES = ("ewc", "l2-anchor", "feature-kd", "lwf")
QUICK = {"fit.epochs": 2, "fit.batch_size": 8}


def distance(one, two) -> float:
    """How far the backbones of two learners are from each other."""
    pairs = zip(one.worn.parameters(), two.worn.parameters(), strict=True)
    return sum(float((a - b).square().sum()) for a, b in pairs) ** 0.5


@pytest.mark.parametrize("name", NAMES)
def test_without_weight_all_are_finetune(name: str) -> None:
    bench = tiny.bench(name, **QUICK, weight=0.0)
    expected = tiny.bench("finetune", **QUICK).taught()
    assert torch.equal(logits(bench.taught(), bench.images), logits(expected, bench.images))


@pytest.mark.parametrize(
    ("name", "weights"), [("l2-anchor", (0.1, 3.0)), ("ewc", (1e2, 1e4)), ("feature-kd", (0.1, 10.0))]
)
def test_more_weight_holds_more(name: str, weights: tuple[float, float]) -> None:
    """Measured in what each holds: weights, weights by importance, features of the task's images."""
    bench, moved = tiny.bench(name, **QUICK), []
    images = next(bench.tasks[1].batches(100))[0]
    for weight in (0.0, *weights):
        first, both = bench.taught(1, weight=weight), bench.taught(2, weight=weight)
        if name == "feature-kd":
            with torch.no_grad():
                moved.append(float((first.features(images) - both.features(images)).norm()))
        else:
            moved.append(distance(first, both))
    assert moved[0] > moved[1] > moved[2] > 0


def test_lwf_holds_the_logits_of_old_classes() -> None:
    bench = tiny.bench("lwf", **QUICK | {"fit.epochs": 4, "backbone_lr": 0.01})
    images = next(bench.tasks[1].batches(100))[0]
    gaps = []
    for weight in (0.0, 10.0):
        before, after = (logits(bench.taught(n, weight=weight), images)[:, :2].softmax(dim=1) for n in (1, 2))
        gaps.append(float((before - after).norm()))
    assert gaps[1] < 0.7 * gaps[0]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_held_where_nothing_has_moved(name: str) -> None:
    """At the start of a task the term has no gradient; with distillation of logits its value is an entropy."""
    bench = tiny.bench(name, **QUICK)
    learner, (images, _) = bench.taught(1), next(bench.tasks[1].batches(8))
    learner.roster.old = learner.seen
    before, pixels = learner.before(), learner.backbone.pixels(images)
    for p in learner.worn.parameters():
        p.requires_grad_(True)
    with torch.enable_grad():
        h = learner.embed(learner.on_pixels(pixels))
        value = learner.hold(before, pixels, h)
        gradients = torch.autograd.grad(value, list(learner.worn.parameters()), allow_unused=True)
    learner.worn.requires_grad_(False)
    assert all(g is None or float(g.abs().max()) < 1e-5 for g in gradients)
    if name == "lwf":
        p = (learner.classifier(h.detach()) / 2).softmax(dim=1)
        torch.testing.assert_close(value.detach(), -(p * p.log()).sum(dim=1).mean(), rtol=1e-4, atol=1e-5)
    else:
        assert float(value.detach()) == pytest.approx(0, abs=1e-8)


def test_feature_distillation_by_hand() -> None:
    bench = tiny.bench("feature-kd", **QUICK)
    learner, (images, _) = bench.taught(1), next(bench.tasks[1].batches(8))
    before, pixels = learner.before(), learner.backbone.pixels(images)
    with torch.no_grad():
        theirs = learner.features(images)
        moved = theirs + 0.5
        assert float(learner.hold(before, pixels, moved)) == pytest.approx(0.25, rel=1e-3)


def test_importance_of_ewc_adds_up_over_tasks() -> None:
    bench = tiny.bench("ewc", **QUICK, images=6)
    learner = bench.taught(1)
    first = dict(learner.importance.values)
    learn(learner, bench.tasks[1])
    assert all(bool((learner.importance.values[n] >= f).all()) for n, f in first.items())
    assert any(bool((learner.importance.values[n] > f).any()) for n, f in first.items())


def test_importance_of_ewc_is_equation_2(monkeypatch: pytest.MonkeyPatch) -> None:
    """F_i <- keep F_i + F_i of the newest task, each from so many images."""
    asked = list[int]()

    def measured(learner, task, named, loss, images):
        asked.append(images)
        yield from ()
        return {name: torch.full_like(p, 10.0**task.index) for name, p in named.items()}

    monkeypatch.setattr("cillab.learners.ewc.fisher", measured)
    learner = tiny.bench("ewc", **QUICK, images=5, keep=0.5).taught(3)
    assert asked == [5, 5, 5]
    assert all(bool((f == 0.25 + 5 + 100).all()) for f in learner.importance.values.values())


@pytest.mark.parametrize("name", NAMES)
def test_attention_alone_moves_when_asked(name: str) -> None:
    bench = tiny.bench(name, **QUICK, moves="attention")
    learner = bench.taught(2)
    assert {n.split(".", 2)[2] for n, _ in learner.worn.named_parameters()} == {"attn.qkv.weight", "attn.qkv.bias"}
    originals = dict(bench.backbone.module.named_parameters())
    assert any(not torch.equal(p, originals[n]) for n, p in learner.worn.named_parameters())


def test_an_average_over_steps_moves_less() -> None:
    bench = tiny.bench("l2-anchor", **QUICK)
    fresh = bench.learner()
    assert 0 < distance(fresh, bench.taught(1, ema=0.9)) < distance(fresh, bench.taught(1))


def test_teachers_are_no_part_of_the_state() -> None:
    for name, parts in (
        ("lwf", {"roster", "worn", "classifier"}),
        ("ewc", {"roster", "worn", "classifier", "importance"}),
    ):
        assert set(tiny.bench(name, **QUICK).taught(2).parts()) == parts


def test_a_network_without_attention_says_so() -> None:
    import timm

    from cillab.backbones.vision import TimmBackbone, timm_anatomy

    module = timm.create_model("test_byobnet", num_classes=0)
    backbone = TimmBackbone(
        module, tag="timm:test_byobnet", anatomy=timm_anatomy(module, "convnet"),
        preprocessing=tiny.backbone().preprocessing, precision="fp32",
    )  # fmt: skip
    with pytest.raises(InvalidRequestError, match="attn"):
        make_learner("l2-anchor", backbone, moves="attention")


_LOCAL = ["finetune", "l2-anchor", "ewc", "feature-kd", "slca", "mos", "lora", "inflora", "sd-lora", "coso"]


@pytest.mark.parametrize("name", _LOCAL)
def test_rows_of_old_classes_stay_where_only_new_ones_compete(name: str) -> None:
    """Weight decay shrank them in every task: the older a class, the smaller its logits."""
    own = {"align.epochs": 0} if name == "mos" else {}
    bench = tiny.bench(name, **{"weight_decay": 0.5, **own})
    learner = bench.taught(1)

    def rows() -> torch.Tensor:
        head = learner.plain if name == "slca" else learner.classifier.linear if name == "mos" else learner.classifier
        return head.weight

    before = rows()[:2].detach().clone()
    learn(learner, bench.tasks[1])
    assert torch.equal(rows()[:2], before) and len(rows()) == 4
