"""MiN against its equations: the oracle is the formula written out, or a property that the paper states."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cillab.core.params import flat
from cillab.core.state import pack, restore, snapshot, unpack
from cillab.learners import make_learner
from cillab.learners.checks import learn
from cillab.learners.min import MiN, MiNParams
from cillab.parts.heads import Linear
from tests.learners import tiny

SMALL = {"noise_dim": 6, "expansion": 64, "epochs": 2, "batch_size": 8, "augmented_passes": 1, "gamma": 1.0, "lr": 0.05}


def min_learner(**changes: object) -> MiN:
    learner = make_learner("min", tiny.backbone(), **(SMALL | changes))
    assert isinstance(learner, MiN)
    return learner


def taught(count: int, **changes: object) -> MiN:
    learner = min_learner(**changes)
    for task in tiny.tasks(count):
        learn(learner, task)
    return learner


def logits(learner: MiN, images: Tensor) -> Tensor:
    with torch.no_grad():
        return learner.logits(images)


IMAGES = torch.cat([tiny.pictures(c, 3, seed=5) for c in range(4)])


def test_a_fresh_generator_changes_nothing_if_the_older_weights_stay() -> None:
    learner = taught(2)
    before = logits(learner, IMAGES)
    for slot in learner.noise:
        slot.grow(torch.cat([slot.weights, torch.tensor([0.7])]))
    assert torch.equal(before, logits(learner, IMAGES))


def test_residual_logits_start_at_the_analytic_ones_and_stop_their_gradient() -> None:
    learner = taught(2)
    auxiliary = Linear(64, bias=False)
    auxiliary.grow(learner.seen)
    h = learner.embed(learner.on(IMAGES)).detach().requires_grad_(True)
    assert torch.equal(learner._residual(h, auxiliary).detach(), logits(learner, IMAGES))

    learner.classifier.weight.requires_grad_(True)
    F.cross_entropy(learner._residual(h, auxiliary), torch.zeros(len(IMAGES), dtype=torch.long)).backward()
    # the analytic logits send nothing back, to W or to the features: with W_aux = 0 the features get nothing at all
    assert learner.classifier.weight.grad is None
    assert h.grad is None or not h.grad.any()


def test_mixture_is_the_softmax_of_equation_12() -> None:
    learner = min_learner(tau=0.5)
    p = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    similarity = [float(p[3] @ q / p[3].norm() / q.norm()) for q in p]
    by_hand = torch.tensor(similarity).div(0.5).exp()
    weights = learner._mixture(p)
    torch.testing.assert_close(weights, by_hand / by_hand.sum())
    assert weights.sum().item() == pytest.approx(1) and weights.argmax() == 3
    torch.testing.assert_close(learner._mixture(p[:1].expand(3, -1)), torch.full((3,), 1 / 3))


def test_released_variant_compares_with_the_previous_prototype_and_starts_silent() -> None:
    learner = min_learner(variant="released")
    p = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    raw = torch.cat([F.cosine_similarity(p[1], p[:2]), torch.ones(1)])
    torch.testing.assert_close(learner._mixture(p), raw.softmax(0))
    assert not learner._mixture(p[:1]).any() and not learner._mixture(p[:2]).any()


@pytest.mark.parametrize(("mixture", "expected"), [("average", [1 / 3] * 3), ("last", [0.0, 0.0, 1.0])])
def test_ablated_mixtures(mixture: str, expected: list[float]) -> None:
    p = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(min_learner(mixture=mixture)._mixture(p), torch.tensor(expected))


def test_older_generators_are_frozen() -> None:
    learner = taught(1)
    old = [t.clone() for slot in learner.noise for t in slot.generators[0].parameters()]
    learn(learner, tiny.tasks(2)[1])
    now = [t for slot in learner.noise for t in slot.generators[0].parameters()]
    assert all(torch.equal(a, b) for a, b in zip(old, now, strict=True)) and any(t.any() for t in now)


def test_every_generator_learns_except_the_silent_ones() -> None:
    """The released code's weights are zero in its first two tasks, so those generators stay dead for ever."""
    dead = taught(3).internals()["noise/dead"]
    assert dead.shape == (2, 3) and not dead.any()
    dead = taught(3, variant="released").internals()["noise/dead"]
    assert dead[:, :2].all() and not dead[:, 2].any()


def test_learned_mixture_moves_and_a_fixed_one_does_not() -> None:
    fixed, learned = taught(2, mixture="fixed"), taught(2, mixture="learned")
    start = fixed._mixture(fixed.record.tensors["prototypes"])
    assert all(float(slot.weights.sum()) == pytest.approx(1, abs=1e-6) for slot in fixed.noise)
    assert any((slot.weights - start).abs().max() > 1e-4 for slot in learned.noise)


def test_ablated_part_stays_zero() -> None:
    mean_only, sigma_only = taught(1, part="mean"), taught(1, part="sigma")
    assert not any(t.any() for slot in mean_only.noise for t in slot.generators[0].sigma.parameters())
    assert not any(t.any() for slot in sigma_only.noise for t in slot.generators[0].mu.parameters())
    assert any(t.any() for slot in sigma_only.noise for t in slot.generators[0].sigma.parameters())


def test_the_backbone_has_a_rate_of_its_own_in_the_first_session() -> None:
    learner = taught(1, first_session=True, first_lr=3e-4)
    groups = learner.trained(Linear(learner.params.expansion), first=True)
    assert [group.get("lr") for group in groups] == [None, 3e-4]
    branches = [p for slot in learner.noise for p in slot.branch.parameters()]
    assert {id(p) for p in groups[1]["params"]} == {id(p) for p in [*learner.norms.parameters(), *branches]}
    assert len(learner.trained(Linear(learner.params.expansion), first=False)) == 1


def test_first_session_trains_branches_and_norms_only_there() -> None:
    learner = taught(1, first_session=True)
    branch = [slot.branch.weight.clone() for slot in learner.noise if slot.branch is not None]
    norms = [p.clone() for p in learner.norms.parameters()]
    assert len(branch) == 2 and all(b.any() for b in branch)
    learn(learner, tiny.tasks(2)[1])
    assert all(torch.equal(a, s.branch.weight) for a, s in zip(branch, learner.noise, strict=True) if s.branch)
    assert all(torch.equal(a, b) for a, b in zip(norms, learner.norms.parameters(), strict=True))


def test_recentring_takes_off_what_noise_adds_to_all_images_alike() -> None:
    """The task's mean feature is where it was before the task's noise was learnt; without it, it has moved."""
    task, found = tiny.tasks(2)[1], {}
    for recentre in (False, True):
        learner = taught(1, recentre=recentre)
        images = torch.cat([x for x, _ in task.batches(8)])
        with torch.no_grad():
            before = learner.features(images).mean(dim=0)
            learn(learner, task)
            now = learner.features(images).mean(dim=0)
        found[recentre] = float((now - before).norm())
        torch.testing.assert_close(learner.record.tensors["prototypes"][-1], now)  # recorded where it is
    assert found[False] > 1e-3, found
    assert found[True] < 1e-4, found


def test_save_and_load_keep_the_fixed_maps() -> None:
    learner, other = taught(2), min_learner(seed=4)
    assert not torch.equal(learner.noise[0].down, other.noise[0].down)
    restore(other.parts(), unpack(*pack(snapshot(learner.parts()))))
    assert torch.equal(learner.noise[0].down, other.noise[0].down)
    assert torch.equal(logits(learner, IMAGES), logits(other, IMAGES))


def test_predictions_do_not_depend_on_how_classes_are_numbered() -> None:
    from cillab.learners.checks import RelabelledTask

    learner, other = taught(1), min_learner()
    learn(other, RelabelledTask(tiny.tasks(1)[0], {0: 30, 1: 20}))
    torch.testing.assert_close(logits(learner, IMAGES), logits(other, IMAGES))


def test_variants_name_every_field_and_a_given_value_wins() -> None:
    variants = MiNParams.VARIANTS
    assert set(variants["paper"]) == set(variants["released"])
    ours, paper, released = (flat(MiNParams(variant=name)) for name in ("recentred", "paper", "released"))
    assert flat(MiNParams()) == ours  # what the fields say and what the default variant says
    assert {name for name in ours if ours[name] != paper[name]} == {"variant", *variants["recentred"]}
    assert {name for name in paper if paper[name] != released[name]} == {"variant", *variants["paper"]} - {
        "recentre",
        "fit.lr",
    }
    assert MiNParams(variant="released", tau=3.0).tau == 3.0 and MiNParams(variant="paper", lr=0.3).fit.lr == 0.3


def test_sampled_noise_is_drawn_from_a_named_stream() -> None:
    one, two, other = (taught(1, epsilon="sampled", seed=s) for s in (1, 1, 2))
    assert torch.equal(logits(one, IMAGES), logits(two, IMAGES))
    assert not torch.equal(logits(one, IMAGES), logits(other, IMAGES))


def test_counts_of_the_paper() -> None:
    """0.889 M trainable numbers a task and 3.54 M shared ones, on a ViT-B/16 (d = 768, 12 blocks, d2 = 192)."""
    from cillab.backbones.noise import NoiseSlot

    slots = [NoiseSlot(768, 192, generator=torch.Generator()) for _ in range(12)]
    for slot in slots:
        slot.grow(torch.ones(1))
    assert sum(p.numel() for slot in slots for p in slot.generators[0].parameters()) == 889_344
    assert sum(slot.down.numel() + slot.up.numel() for slot in slots) == 3_538_944


def test_the_analytic_fit_sees_each_augmented_pass_and_the_clean_one() -> None:
    """The trace of the sums counts passes: images times 1 + `augmented_passes`, but for what augmentation changes."""

    def trace(passes: int, **how: object) -> float:
        learner = make_learner("min", tiny.backbone(), **(SMALL | {"augmented_passes": passes, "epochs": 0} | how))
        learn(learner, tiny.tasks(1)[0])
        return float(learner.classifier.gram.trace())

    clean = trace(0)
    assert trace(1) == pytest.approx(2 * clean, rel=0.2) and trace(3) == pytest.approx(4 * clean, rel=0.2)
    assert trace(1, fit_before="later") == pytest.approx(2 * clean, rel=0.2)
