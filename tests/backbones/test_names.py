"""Names, files and downloads: what is refused, and in which words. No network is needed or used."""

import json
from pathlib import Path

import pytest
import timm
import torch
import yaml
from safetensors.torch import load_file, save_file

import cillab
from cillab.backbones import LISTING, bundled, describe, make_backbone
from cillab.backbones.tags import natively_quick
from cillab.core.errors import HubError, InvalidRequestError, UnknownNameError, WeightsError
from cillab.protocol.ledger import ledger
from tests.backbones.models import CLIP, clip_model, pictures, saved, vit_module

NAME = "timm:test_vit.r160_in1k"
RECIPE = {
    "timm": {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2, "num_classes": 0},
    "layer_norm_eps": 1e-5,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "image_size": 32,
}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Random weights of timm's smallest ViT, with its 1000-class head."""
    return saved(timm.create_model("test_vit"), tmp_path_factory.mktemp("weights") / "test_vit.safetensors")


@pytest.mark.parametrize(
    ("name", "kind", "clip"),
    [
        ("timm:vit_base_patch16_224.augreg_in21k", "vit", False),
        ("timm:deit_tiny_patch16_224", "vit", False),  # one tag only: no doubt
        ("timm:vit_base_patch14_dinov2.lvd142m", "vit", False),
        ("timm:swin_tiny_patch4_window7_224.ms_in1k", "convnet", False),
        ("timm:mobilenetv3_small_100.lamb_in1k", "convnet", False),
        ("openclip:ViT-B-16/openai", "vit", True),
        ("openclip:RN50/openai", "convnet", True),
        ("openclip:ViT-B-16-SigLIP/webli", "vit", True),
        ("bundled:vit", "vit", False),
        ("bundled:clip", "vit", True),
    ],
)
def test_a_card_needs_no_weights(name: str, kind: str, clip: bool) -> None:
    card = describe(name)
    assert (card.kind, card.clip) == (kind, clip)
    assert card.tag.startswith(name)
    assert card.needs_download is not name.startswith("bundled")


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("tim:resnet18", UnknownNameError, "Did you mean 'timm:resnet18'"),
        ("vit", UnknownNameError, "Valid: bundled:clip, bundled:vit, openclip:MODEL/TAG, timm:MODEL.TAG"),
        ("bundled:vitt", UnknownNameError, "Did you mean 'vit'"),
        ("timm:deit_tny_patch16_224", InvalidRequestError, "Did you mean 'deit_tiny_patch16_224'"),
        ("timm:vit_base_patch16_224.augreg", InvalidRequestError, "no tag 'augreg'. Valid: .*augreg_in21k"),
        ("timm:vit_base_patch16_224", InvalidRequestError, "several weights.*shorthand that is .*_in21k_ft_in1k"),
        ("timm:vit_base_patch16_224", InvalidRequestError, r"augreg_in21k \(AugReg recipe on ImageNet-21k; 224 px"),
        ("timm:vit_base_patch16_224", InvalidRequestError, r"mae \(self-supervised \(MAE\); .* cc-by-nc"),
        ("timm:vit_base_patch16_224_in21k", InvalidRequestError, "shorthand that is timm:.*.augreg_in21k.$"),
        ("openclip:ViT-B16/openai", InvalidRequestError, "Did you mean 'ViT-B-16"),
        ("openclip:vit-b-16/openai", InvalidRequestError, "Did you mean 'ViT-B-16'"),
        ("openclip:ViT-B-16", InvalidRequestError, "TAG one of openai, .*laion2b_s34b_b88k"),
        ("openclip:ViT-B-16/opnai", InvalidRequestError, "no tag 'opnai'"),
    ],
)  # fmt: skip
def test_a_wrong_name_says_what_is_right(name: str, error: type, words: str) -> None:
    for ask in (describe, make_backbone):
        with pytest.raises(error, match=words) as raised:
            ask(name)
        assert "\n" not in str(raised.value)


def test_what_the_project_itself_names_is_unambiguous() -> None:
    """Presets and the ledger of published results: a full tag, spelt as a run records it."""
    presets = (Path(cillab.__file__).parent / "presets").glob("*.yaml")
    named = {yaml.safe_load(path.read_text(encoding="utf-8")).get("backbone", "bundled:vit") for path in presets}
    named |= {entry.backbone for entry in ledger().values() if entry.backbone}
    assert len(named) >= 6
    for name in named:
        assert describe(name).tag == name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vit_base_patch16_clip_224.openai", "timm:vit_base_patch16_clip_quickgelu_224.openai computes what they were"),
        ("vit_large_patch14_clip_336.openai", "timm:vit_large_patch14_clip_quickgelu_336.openai computes"),
        ("vit_base_patch16_clip_quickgelu_224.openai", ""),
        ("vit_base_patch16_clip_224.laion2b", ""),
        ("vit_base_patch16_clip_224.openai_ft_in1k", ""),  # fine-tuned with GELU
        ("deit_tiny_patch16_224.fb_in1k", ""),
    ],
)
def test_clip_weights_under_another_activation_are_named(name: str, words: str) -> None:
    assert words in natively_quick(name)
    assert bool(natively_quick(name)) is bool(words)


def test_the_warning_comes_before_the_download(monkeypatch, caplog) -> None:
    def offline(*_args, **_kwargs):
        raise ConnectionError("no network")

    monkeypatch.setattr("cillab.backbones.vision.hf_hub_download", offline)
    with pytest.raises(HubError):
        make_backbone("timm:vit_base_patch16_clip_224.openai")
    assert "its weights were trained with QuickGELU" in caplog.text


def test_both_classifiers_of_a_distilled_model_are_dropped(tmp_path) -> None:
    path = saved(timm.create_model("deit_tiny_distilled_patch16_224"), tmp_path / "distilled.safetensors")
    backbone = make_backbone(
        "timm:deit_tiny_distilled_patch16_224.fb_in1k", weights=path, image_size=32, precision="fp32", device="cpu"
    )
    assert not [key for key in backbone.module.state_dict() if key.startswith("head")]
    assert backbone.anatomy.prefix_tokens == 2
    assert backbone(pictures(2)).shape == (2, 192)


@pytest.mark.slow
def test_dinov2_is_fed_224_pixels_instead_of_518(tmp_path) -> None:
    path = saved(timm.create_model("vit_small_patch14_dinov2", num_classes=0), tmp_path / "dinov2.safetensors")
    options = {"weights": path, "precision": "fp32", "device": "cpu"}
    backbone = make_backbone("timm:vit_small_patch14_dinov2.lvd142m", image_size=224, **options)
    assert backbone.module.pos_embed.shape == (1, 1 + 16 * 16, 384)
    assert backbone(pictures(1)).shape == (1, 384)
    assert make_backbone("timm:vit_small_patch14_dinov2.lvd142m", **options).preprocessing.size == 518
    with pytest.raises(InvalidRequestError, match=r"image_size = 256: .* multiple of its patch size 14"):
        make_backbone("timm:vit_small_patch14_dinov2.lvd142m", image_size=256, **options)


def test_the_listing_is_what_can_be_made() -> None:
    assert {name.partition(":")[0] for name in LISTING} == {"bundled", "openclip", "timm"}


def test_local_weights_are_the_models(file) -> None:
    backbone = make_backbone(NAME, weights=file, precision="fp32", device="cpu")
    weights = load_file(file)
    assert backbone.tag == NAME
    assert torch.equal(backbone.module.blocks[0].mlp.fc1.weight, weights["blocks.0.mlp.fc1.weight"])
    assert not [name for name in backbone.module.state_dict() if name.startswith("head.")]
    assert backbone.preprocessing.size == 160
    with torch.no_grad():
        assert backbone(pictures(2)).shape == (2, backbone.feature_dim) == (2, 64)


def test_another_image_size_interpolates_the_positions(file) -> None:
    backbone = make_backbone(NAME, weights=file, image_size=96, precision="fp32", device="cpu")
    assert backbone.preprocessing.size == 96
    assert backbone.module.pos_embed.shape[1] == (96 // backbone.anatomy.patch_size) ** 2 + 1
    with torch.no_grad():
        assert backbone(pictures(2)).isfinite().all()
    with pytest.raises(InvalidRequestError, match=r"image_size = 97: .* multiple of its patch size 16"):
        make_backbone("timm:vit_base_patch16_224.augreg_in21k", weights=file, image_size=97)


def test_a_preset_is_named_in_the_preprocessing(file) -> None:
    backbone = make_backbone(NAME, weights=file, transform="pilot_compat", device="cpu")
    assert (backbone.preprocessing.preset, backbone.preprocessing.mean) == ("pilot_compat", (0.0, 0.0, 0.0))


def test_weights_that_do_not_fit_name_file_and_key(file, tmp_path) -> None:
    model = timm.create_model("test_vit")
    missing = saved(model, tmp_path / "missing.safetensors", norm__weight=None)
    surplus = saved(model, tmp_path / "surplus.safetensors", extra__weight=torch.zeros(1))
    shape = saved(model, tmp_path / "shape.safetensors", norm__bias=torch.zeros(7))
    other = saved(timm.create_model("test_resnet"), tmp_path / "other.safetensors")
    for path, words in (
        (missing, r"missing.safetensors does not fit test_vit.r160_in1k: 'norm.weight' is missing"),
        (surplus, r"surplus.safetensors does not fit .*the model has no 'extra.weight'"),
        (shape, r"'norm.bias' has shape \[7\], the model wants \[64\]"),
        (other, r"other.safetensors does not fit"),
        (tmp_path / "nowhere.safetensors", r"No weights file .*nowhere.safetensors"),
    ):
        with pytest.raises(WeightsError, match=words) as raised:
            make_backbone(NAME, weights=path)
        assert "\n" not in str(raised.value)


def test_pickles_and_damaged_files_are_refused(file, tmp_path) -> None:
    for suffix in (".pth", ".pt", ".bin"):
        path = tmp_path / f"weights{suffix}"
        path.write_bytes(b"\x80\x02")
        for name in (NAME, "openclip:ViT-B-16/openai"):
            with pytest.raises(WeightsError, match=r"can run code when opened and are refused"):
                make_backbone(name, weights=path)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(WeightsError, match=r"cut.safetensors is not a readable safetensors file"):
        make_backbone(NAME, weights=cut)


def test_an_unreachable_hub_says_what_was_wanted(monkeypatch) -> None:
    def offline(*_args, **_kwargs):
        raise ConnectionError("no network")

    monkeypatch.setattr("cillab.backbones.vision.hf_hub_download", offline)
    monkeypatch.setattr("cillab.backbones.clip.download_pretrained", offline)
    with pytest.raises(HubError, match=r"model.safetensors of timm/test_vit.r160_in1k .*no network.*--weights FILE"):
        make_backbone(NAME)
    with pytest.raises(
        HubError, match=r"openclip:ViT-B-16/openai from timm/vit_base_patch16_clip_224.openai.*--weights"
    ):
        make_backbone("openclip:ViT-B-16/openai")


def write_bundle(folder) -> None:
    (folder / "bundled_vit.json").write_text(json.dumps(RECIPE))
    (folder / "bundled_clip.json").write_text(json.dumps(CLIP))
    for name, module in (("vit", vit_module()), ("clip", clip_model())):
        half = {key: tensor.half() for key, tensor in module.state_dict().items()}
        save_file(half, folder / f"bundled_{name}.safetensors")


@pytest.mark.parametrize("name", ["vit", "clip"])
def test_a_bundle_is_loaded_from_half_precision(name: str, tmp_path) -> None:
    write_bundle(tmp_path)
    options = {"precision": "fp32", "device": "cpu"}
    backbone = bundled.load(name, None, None, folder=tmp_path, **options)
    assert backbone.tag == f"bundled:{name}"
    assert backbone.clip is (name == "clip")
    assert all(parameter.dtype == torch.float32 for parameter in backbone.module.parameters())
    larger = bundled.load(name, None, 48, folder=tmp_path, **options)
    with torch.no_grad():
        assert backbone(pictures(3)).shape == larger(pictures(3)).shape == (3, 32 if name == "vit" else 24)
    assert larger.preprocessing.size == 48
    with pytest.raises(InvalidRequestError, match="multiple of its patch size 8"):
        bundled.load(name, None, 50, folder=tmp_path, **options)
    with pytest.raises(WeightsError, match=rf"bundled:{name} is not in this installation"):
        bundled.load(name, None, None, folder=tmp_path / "nothing", **options)
