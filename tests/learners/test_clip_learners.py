"""What zero-shot CLIP, CoOp, DMC and DMC-OT have in common: a classifier whose rows are names."""

import pytest
import torch
import torch.nn.functional as F

from cillab.backbones.text import encode_classes
from cillab.core.errors import IncompatibleError
from cillab.core.state import pack, restore, snapshot, unpack
from cillab.learners import check_fit, checks, make_learner
from cillab.learners.checks import learn
from tests.backbones.models import clip, clip_model, copies_of, same
from tests.learners import tiny, tiny_clip

NAMES = ("zeroshot-clip", "coop", "dmc", "dmc-ot")
ALL = (*NAMES, "cpe-clip", "lingocl", "mg-clip", "proof", "rapf", "zscl")
TRAINED = ("coop", "dmc", "dmc-ot")
# A CLIP of random weights knows no names, so nothing can be right before training: `learns` needs the bundled one.
CHECKS = [check for check in checks.CHECKS if check is not checks.learns]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_learner_passes(name: str, check) -> None:
    if (check.__name__, name) in checks.EXCEPTIONS:
        pytest.skip(checks.EXCEPTIONS[check.__name__, name])
    check(tiny_clip.bench(name))


@pytest.mark.parametrize("name", ALL)
def test_a_vit_without_text_is_refused_before_anything_loads(name: str) -> None:
    with pytest.raises(IncompatibleError, match=f"{name!r} compares images with text.*Use bundled:clip"):
        check_fit(name, kind="vit", clip=False, tag="timm:vit_tiny")
    with pytest.raises(IncompatibleError, match="no text side"):
        make_learner(name, tiny.backbone())


def test_a_clip_that_is_no_vit_is_refused_where_blocks_are_changed() -> None:
    with pytest.raises(IncompatibleError, match=r"blocks of a ViT.*Use bundled:clip or openclip:ViT-B-16/openai"):
        check_fit("dmc", kind="convnet", clip=True, tag="openclip:RN50/openai")
    check_fit("coop", kind="convnet", clip=True, tag="openclip:RN50/openai")


@pytest.mark.parametrize("name", ["coop", "dmc"])
def test_before_any_training_it_is_zero_shot_clip(name: str) -> None:
    """No epoch of text, no vision stage: the phrase "a photo of a" is the template."""
    backbone = clip()
    changes = {"text_epochs": 0} | ({"vision": "none"} if name == "dmc" else {})
    untrained = tiny_clip.taught(name, 2, backbone, **changes)
    zero_shot = tiny_clip.taught("zeroshot-clip", 2, backbone)
    with torch.no_grad():
        expected, found = (learner.logits(tiny_clip.images()) for learner in (zero_shot, untrained))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * backbone.logit_scale)


@pytest.mark.parametrize("name", ALL)
def test_the_text_side_is_never_changed(name: str) -> None:
    model = clip_model()
    backbone, before = clip(model), copies_of(model)
    tiny_clip.taught(name, 2, backbone)
    assert same(copies_of(model), before)
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_class_order_only_permutes_logits_of_untrained_names(name: str) -> None:
    backbone = clip()
    changes = {"coop": {"text_epochs": 0}, "zeroshot-clip": {}}.get(name, {"text_epochs": 0, "vision": "none"})
    scores = []
    for classes in ((0, 1), (1, 0)):
        learner = tiny_clip.learner(name, backbone, **changes)
        learn(learner, tiny.TinyTask(0, classes))
        with torch.no_grad():
            logits = learner.logits(tiny_clip.images())
        scores.append(logits[:, [learner.seen.index(0), learner.seen.index(1)]])
    torch.testing.assert_close(scores[0], scores[1], rtol=0, atol=1e-4 * backbone.logit_scale)


@pytest.mark.parametrize("name", TRAINED)
def test_kept_prototypes_equal_fresh_ones(name: str) -> None:
    learner = tiny_clip.taught(name, 3)
    with torch.no_grad():
        assert torch.equal(learner.classifier.prototypes, learner.classifier.encode())
        frozen = encode_classes(learner.backbone, learner.classifier.names)
    assert torch.equal(learner.classifier.frozen, frozen)
    torch.testing.assert_close(learner.classifier.prototypes.norm(dim=1), torch.ones(6))
    assert F.cosine_similarity(learner.classifier.prototypes, frozen).min() < 0.9999  # it did train


@pytest.mark.parametrize("name", ALL)
def test_no_text_is_encoded_while_classifying_or_after_loading(name: str) -> None:
    learner = tiny_clip.taught(name, 2)
    tensors, meta = pack(snapshot(learner.parts()))
    fresh = tiny_clip.learner(name, learner.backbone)
    restore(fresh.parts(), unpack({k: t.clone() for k, t in tensors.items()}, meta))
    learner.backbone._tokenise = learner.backbone.model.transformer = None  # encoding would raise
    with torch.no_grad():
        assert torch.equal(fresh.logits(tiny_clip.images()), learner.logits(tiny_clip.images()))


@pytest.mark.parametrize("name", NAMES)
def test_internals_are_finite_unit_rows(name: str) -> None:
    learner = tiny_clip.taught(name, 3)
    found = learner.internals()
    for key in ("text/prototypes", "text/frozen"):
        assert found[key].shape == (6, 24)
        torch.testing.assert_close(found[key].norm(dim=1), torch.ones(6))
    assert all(not tensor.requires_grad for tensor in found.values())


@pytest.mark.parametrize("name", ["zeroshot-clip", "coop", "dmc"])
def test_classes_may_come_by_name_alone(name: str) -> None:
    class Names(tiny.TinyTask):
        def __init__(self) -> None:
            super().__init__(2, (4, 5), count=0)

    learner = tiny_clip.taught(name, 2)
    with torch.no_grad():
        before = learner.logits(tiny_clip.images())
    learn(learner, Names())
    with torch.no_grad():
        after = learner.logits(tiny_clip.images())
    assert learner.seen == tuple(range(6)) and learner.capabilities.learns_names
    torch.testing.assert_close(after[:, :4], before, rtol=0, atol=1e-4 * learner.backbone.logit_scale)
