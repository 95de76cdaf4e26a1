"""CPT against its equations: what is silent at the start, what is fixed, what each weight does, what names can do."""

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cillab.backbones.clip import ClipBackbone
from cillab.backbones.text import encode_classes
from cillab.core.errors import IncompatibleError
from cillab.core.state import pack, restore, snapshot, unpack
from cillab.lab.prepare import prepare
from cillab.lab.spec import RunSpec
from cillab.lab.sweep import read_plan
from cillab.learners import checks, make_learner
from cillab.learners.checks import RelabelledTask, learn
from cillab.learners.cpt import CPT, CPTParams
from tests.backbones import models
from tests.learners import tiny, tiny_clip

SMALL = {"epochs": 2, "batch_size": 8, "lr": 0.05, "augment": "none", "per_cluster": 2, "weight_decay": 0.0}
IMAGES = torch.cat([tiny.pictures(c, 3, seed=5) for c in range(4)])


def clip() -> ClipBackbone:
    """A dual encoder of three blocks on each side, with random weights."""
    config = {**models.CLIP, "text_cfg": {**models.CLIP["text_cfg"], "layers": 3}}
    return models.clip(models.seeded(lambda: open_clip.CLIP(**config)))


BACKBONE = clip()


def cpt(**changes: object) -> CPT:
    learner = make_learner("cpt", BACKBONE, **(SMALL | changes))
    assert isinstance(learner, CPT)
    return learner


def taught(count: int = 2, **changes: object) -> CPT:
    learner = cpt(**changes)
    for task in tiny.tasks(count):
        learn(learner, task)
    return learner


def logits(learner: CPT, images: Tensor = IMAGES) -> Tensor:
    with torch.no_grad():
        return learner.logits(images)


class Names(tiny.TinyTask):
    """Classes that come without an image."""

    def __init__(self, index: int, classes: tuple[int, ...]) -> None:
        super().__init__(index, classes, count=0)

    def batches(self, batch_size: int, shuffle: torch.Generator | None = None):
        return iter(())


NAMES = [f"pattern {c}" for c in range(4)]


def test_zero_prompt_change_is_zero_shot_clip() -> None:
    learner = cpt(prompts="text")
    learn(learner, Names(0, (0, 1, 2, 3)))
    zero_shot = F.normalize(BACKBONE(IMAGES), dim=-1) @ encode_classes(BACKBONE, NAMES).T
    torch.testing.assert_close(logits(learner), BACKBONE.logit_scale * zero_shot, rtol=1e-4, atol=1e-4)


def test_deep_text_tokens_start_silent_or_at_random() -> None:
    silent, drawn = cpt(text_start="phrase"), cpt(text_start="random")
    assert len(silent.text.deep) == len(drawn.text.deep) == 2
    frozen = encode_classes(BACKBONE, NAMES)
    torch.testing.assert_close(silent.text.prototypes(NAMES), frozen, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(drawn.text.prototypes(NAMES), frozen, atol=1e-2)


def test_tokens_stand_in_both_encoders_or_in_the_text_alone() -> None:
    both, text = cpt(vision_layers=2), cpt(prompts="text")
    assert len(both.worn) == 2 and len(text.worn) == 0 and not len(text.text.deep)
    learn(text, tiny.tasks(1)[0])
    assert torch.equal(text.features(IMAGES), F.normalize(BACKBONE(IMAGES), dim=-1))  # images are looked at as ever
    assert both.worn.state().tensors.keys() == {f"before:{name}/tokens" for name in BACKBONE.block_names[:2]}


def test_only_tokens_are_trained_and_all_of_them() -> None:
    fresh, learner = cpt(), taught(1)
    for part in ("text", "worn"):
        before, after = (one.parts()[part].state().tensors for one in (fresh, learner))
        assert before.keys() == after.keys()
        assert all(not torch.equal(before[name], after[name]) for name in before), part


def test_clusters_are_made_once_and_never_change() -> None:
    first = taught(1)
    clusters = first.internals()["text/clusters"].clone()
    learn(first, tiny.tasks(3)[1])
    learn(first, tiny.tasks(3)[2])
    later = first.internals()["text/clusters"]
    assert torch.equal(later[: len(clusters)], clusters)
    for index in (1, 2):  # classes that arrive together have clusters of their own
        assert not set(later[2 * index : 2 * index + 2].tolist()) & set(later[: 2 * index].tolist())


def test_frozen_prototypes_stay_those_of_the_backbone() -> None:
    torch.testing.assert_close(taught().internals()["text/frozen"], encode_classes(BACKBONE, NAMES))


def test_cached_prototypes_are_those_that_the_tokens_give() -> None:
    learner = taught()
    with torch.no_grad():
        fresh = learner.text.prototypes(NAMES)
    assert torch.equal(learner.internals()["text/prototypes"], fresh)
    torch.testing.assert_close(logits(learner), BACKBONE.logit_scale * learner.features(IMAGES).detach() @ fresh.T)


def test_terms_are_recorded_per_task_and_have_their_ranges() -> None:
    terms = taught().internals()["text/terms"]
    assert terms.shape == (2, 4) and bool((terms >= 0).all()) and bool((terms[:, 2] <= 4).all())


@pytest.mark.parametrize(("weight", "column"), [("etf_weight", 1), ("convergence_weight", 2), ("rotation_weight", 3)])
def test_each_weight_lowers_its_own_term(weight: str, column: int) -> None:
    off = {"etf_weight": 0.0, "convergence_weight": 0.0, "rotation_weight": 0.0, "per_cluster": 16}
    off |= {"epochs": 8, "lr": 0.01}
    values = {**off, weight: {"etf_weight": 0.5, "convergence_weight": 5.0, "rotation_weight": 5.0}[weight]}
    without, with_ = (taught(1, **v).internals()["text/terms"][0, column] for v in (off, values))
    assert float(with_) < float(without)


def test_the_weights_at_zero_are_the_plain_prompt() -> None:
    """Then nothing of clusters or frozen prototypes can matter."""
    off = {"etf_weight": 0.0, "convergence_weight": 0.0, "rotation_weight": 0.0}
    assert torch.equal(logits(taught(**off)), logits(taught(**off, per_cluster=1, rotation_normalised=False)))


def test_classes_by_name_alone_train_nothing_and_move_no_old_prototype() -> None:
    learner = taught(1)
    tokens = {name: t.clone() for name, t in learner.text.state().tensors.items()}
    old = logits(learner)
    learn(learner, Names(1, (2, 3)))
    assert learner.seen == (0, 1, 2, 3)
    assert all(torch.equal(tokens[name], t) for name, t in learner.text.state().tensors.items())
    torch.testing.assert_close(logits(learner)[:, :2], old)
    assert learner.internals()["text/terms"].shape == (1, 4)


def test_convergence_over_the_task_is_that_over_the_batch_where_a_batch_is_the_task() -> None:
    uneven = RelabelledTask(tiny.tasks(1)[0], {0: 0, 1: 1}, limit=16)  # twelve images and four

    def after(over: str, batch_size: int) -> Tensor:
        learner = cpt(convergence_over=over, batch_size=batch_size, convergence_weight=5.0)
        learn(learner, uneven)
        return logits(learner)

    torch.testing.assert_close(after("task", 16), after("batch", 16), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(after("task", 4), after("batch", 4), rtol=1e-4, atol=1e-4)


def test_one_image_of_a_class_is_enough() -> None:
    learner = cpt()
    learn(learner, RelabelledTask(tiny.tasks(1)[0], {0: 0}, limit=1))
    assert learner.seen == (0,) and logits(learner).isfinite().all()


def test_raw_rotation_compares_with_the_raw_text() -> None:
    learner = taught(1, rotation_normalised=False)
    raw = BACKBONE.encode_text([f"a photo of a {name}." for name in NAMES[:2]])
    torch.testing.assert_close(learner.record.tensors["raw"], raw)
    assert torch.allclose(learner.internals()["text/frozen"].norm(dim=1), torch.ones(2))


def test_the_same_after_saving_and_loading() -> None:
    learner = taught()
    tensors, meta = pack(snapshot(learner.parts()))
    copy = cpt()
    restore(copy.parts(), unpack(tensors, meta))
    assert copy.seen == learner.seen and torch.equal(logits(copy), logits(learner))


def test_refuses_what_has_no_text_before_anything_is_loaded() -> None:
    with pytest.raises(IncompatibleError, match="has no text side"):
        make_learner("cpt", tiny.backbone())
    with pytest.raises(IncompatibleError, match="no text side"):
        prepare(RunSpec(learner="cpt", data="nowhere that exists"))


def test_base_to_new_is_refused_to_learners_that_need_images() -> None:
    request = RunSpec.of({"learner": "simplecil", "data": "nowhere that exists", "scenario": "base-to-new"})
    with pytest.raises(IncompatibleError, match=r"by name alone. Learners that can: .*cpt"):
        prepare(request)


def test_the_preset_of_the_paper_has_its_weights() -> None:
    for spec in read_plan("preset:cpt-paper").specs:
        p = CPTParams.model_validate(spec.params)
        assert (p.etf_weight, p.convergence_weight, p.rotation_weight, p.per_cluster) == (0.25, 0.15, 0.10, 16)
        assert not p.etf_per_pair and p.convergence_over == "task"


# A CLIP of random weights knows no names, so nothing can be right before training: `learns` needs the bundled one.
@pytest.mark.parametrize("check", [c for c in checks.CHECKS if c is not checks.learns], ids=lambda c: c.__name__)
def test_passes(check) -> None:
    check(tiny_clip.bench("cpt", BACKBONE))


def test_prompts_may_be_left_out() -> None:
    learner = tiny_clip.taught("cpt", 2, **{"fit.epochs": 0})
    assert "text/terms" not in learner.internals() and learner.logits(tiny_clip.images()).isfinite().all()
