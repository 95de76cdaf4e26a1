"""open_clip models as backbones, and class names as vectors. Oracle: open_clip's own encode_image and encode_text."""

import logging

import open_clip
import pytest
import torch
import torch.nn.functional as F

from cillab.backbones import describe, make_backbone
from cillab.backbones.clip import clip_preprocessing
from cillab.backbones.text import encode_classes
from cillab.core.errors import IncompatibleError, InvalidRequestError
from tests.backbones.models import clip, clip_model, pictures, pixels, saved, vit


def test_features_are_open_clips_before_normalisation() -> None:
    backbone, own = clip(), pixels(3)
    with torch.no_grad():
        expected = backbone.model.encode_image(own)
        assert torch.equal(backbone.embed(own), expected)
        assert backbone(pictures(3)).shape == (3, 24)
    assert (expected.norm(dim=-1) - 1).abs().min() > 0.01
    assert (backbone.feature_dim, backbone.token_dim, backbone.depth) == (24, 32, 3)


def test_sentences_are_open_clips() -> None:
    backbone, texts = clip(), ["a photo of a cat.", "a dog"]
    tokens = open_clip.SimpleTokenizer(context_length=16)(texts)
    with torch.no_grad():
        assert torch.equal(backbone.encode_text(texts), backbone.model.encode_text(tokens))
        assert backbone.encode_text([]).shape == (0, 24)
    assert backbone.logit_scale == pytest.approx(1 / 0.07, rel=1e-5)


def test_classes_are_means_on_the_sphere_and_remembered() -> None:
    backbone, templates = clip(), ("a photo of a {}.", "art of the {}.")
    classes = encode_classes(backbone, ["cat", "sea_lion"], templates)
    with torch.no_grad():
        sentences = ["a photo of a sea lion.", "art of the sea lion."]
        by_hand = F.normalize(F.normalize(backbone.encode_text(sentences), dim=-1).mean(dim=0), dim=-1)
    assert torch.allclose(classes[1], by_hand, atol=1e-6)
    assert torch.allclose(classes.norm(dim=-1), torch.ones(2))
    backbone.model.encode_text = None  # from here on everything must be remembered
    again = encode_classes(backbone, ["sea_lion", "cat", "sea_lion"], templates)
    assert torch.equal(again, classes[[1, 0, 1]])
    assert encode_classes(backbone, [], templates).shape == (0, 24)


def test_refusals() -> None:
    with pytest.raises(IncompatibleError, match="timm:tiny has no text side"):
        encode_classes(vit(), ["cat"])
    for template in ("a cat", "{} or {}"):
        with pytest.raises(InvalidRequestError, match=r"write \{\} once"):
            encode_classes(clip(), ["cat"], [template])
    with pytest.raises(InvalidRequestError, match="No template"):
        encode_classes(clip(), ["cat"], [])


def test_preprocessing_follows_the_model() -> None:
    record = {
        "size": (32, 32),
        "interpolation": "bicubic",
        "resize_mode": "shortest",
        "mean": (0.1,) * 3,
        "std": (0.2,) * 3,
    }
    assert clip_preprocessing(record).preset == "tag"
    assert clip_preprocessing(record).resize == 32
    assert clip_preprocessing({**record, "resize_mode": "squash"}).preset == "whole"  # SigLIP squeezes the whole image
    with pytest.raises(InvalidRequestError, match="resize mode 'longest'"):
        clip_preprocessing({**record, "resize_mode": "longest"})


def test_digest_covers_the_text_side() -> None:
    model = clip_model()
    model.ln_final.weight.data[0] += 1
    assert clip(model).digest() != clip().digest()


@pytest.mark.slow
def test_openai_weights_get_quick_gelu_and_other_tags_do_not(tmp_path) -> None:
    """The tag decides the activation, not the architecture's default."""
    path = saved(open_clip.create_model("ViT-S-32"), tmp_path / "random.safetensors")
    assert describe("openclip:ViT-B-32/openai").clip
    handlers = list(logging.getLogger().handlers)
    config = open_clip.get_model_config("ViT-S-32")
    for quick in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            tag = {"quick_gelu": quick, "mean": (0.48, 0.46, 0.41), "std": (0.27, 0.26, 0.28)}
            patch.setattr("cillab.backbones.clip.split_name", lambda name: ("ViT-S-32", "some"))
            patch.setattr("open_clip.get_pretrained_cfg", lambda model, name, tag=tag: tag)
            backbone = make_backbone(
                "openclip:ViT-S-32/some", weights=path, image_size=64, precision="fp32", device="cpu"
            )
        assert type(backbone.module.transformer.resblocks[0].mlp.gelu).__name__ == ("QuickGELU" if quick else "GELU")
        assert backbone.preprocessing.mean == (0.48, 0.46, 0.41)
        assert (backbone.preprocessing.size, backbone.feature_dim) == (64, config["embed_dim"])
    assert logging.getLogger().handlers == handlers
