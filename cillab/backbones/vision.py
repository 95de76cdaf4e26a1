"""Any timm model as a backbone: named by its full tag, which also decides the preprocessing."""

import logging
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, final

import timm
import torch
from huggingface_hub import hf_hub_download, try_to_load_from_cache
from jaxtyping import Float
from timm.data.config import resolve_data_config
from timm.models._pretrained import PretrainedCfg
from torch import Tensor, nn

from cillab.backbones.card import Card
from cillab.backbones.files import complaints_about, shapes_in
from cillab.backbones.frozen import Anatomy, FrozenBackbone
from cillab.backbones.tags import choices, natively_quick
from cillab.core.errors import HubError, InvalidRequestError, WeightsError, nearest, one_line
from cillab.core.pixels import Preprocessing, Triple

log = logging.getLogger(__name__)

# timm's modules whose models are one stack of blocks on one sequence of tokens, which is what slots stand on.
# Other transformers (Swin, XCiT, ...) are hierarchical or mix differently and count as "convnet": features only.
_VIT_MODULES = frozenset(
    {"beit", "deit", "eva", "vision_transformer", "vision_transformer_hybrid", "vision_transformer_relpos"}
)

# What papers and older code call these weights. `vit_base_patch16_224` alone meant the second one in timm 0.6 and
# silently means others since 0.9, hence no name without a tag where there is a choice.
SHORTHAND = {
    "vit_base_patch16_224_in21k": "vit_base_patch16_224.augreg_in21k",
    "vit-b/16-in21k": "vit_base_patch16_224.augreg_in21k",
    "pretrained_vit_b16_224_in21k": "vit_base_patch16_224.augreg_in21k",
    "vit_base_patch16_224": "vit_base_patch16_224.augreg_in21k_ft_in1k",
    "vit-b/16-in1k": "vit_base_patch16_224.augreg_in21k_ft_in1k",
    "pretrained_vit_b16_224": "vit_base_patch16_224.augreg_in21k_ft_in1k",
}


@final
class TimmBackbone(FrozenBackbone):
    """A timm model without its classifier; the feature is what timm calls the pre-logits (class token or average)."""

    def _forward(self, pixels: Float[Tensor, "image 3 size size"]) -> Float[Tensor, "row feature"]:
        return self.module(pixels)

    def _weights(self) -> nn.Module:
        return self.module


def full_name(name: str) -> str:
    """`architecture.tag` for what the user wrote, never a guess.

    Raises:
        InvalidRequestError: unknown architecture (with the nearest), unknown tag, or several tags to choose from.
    """
    hint = SHORTHAND.get(name.lower())
    suffix = f" In the literature's shorthand that is timm:{hint}." if hint else ""
    architecture, _, tag = name.partition(".")
    if architecture not in _architectures():
        close = nearest(architecture, _architectures())
        raise InvalidRequestError(
            f"Unknown timm model {architecture!r}." + (suffix or (f" Did you mean {close!r}?" if close else ""))
        )
    tags = tags_of(architecture)
    if tag and tag not in tags:
        raise InvalidRequestError(f"{architecture} has no tag {tag!r}. Valid: {', '.join(tags) or '(none)'}.{suffix}")
    if not tag and len(tags) > 1:
        raise InvalidRequestError(
            f"timm:{name} could mean several weights, which give different features: write timm:{architecture}.TAG "
            f"with TAG one of {choices(architecture, tags)}.{suffix}"
        )
    return f"{architecture}.{tag or tags[0]}" if tags else architecture


def tags_of(architecture: str) -> list[str]:
    """The tags under which timm knows weights of `architecture`."""
    names = timm.list_models(f"{architecture}.*", pretrained=True)
    return [name.partition(".")[2] for name in names if name.partition(".")[0] == architecture]


@lru_cache(maxsize=1)
def _architectures() -> frozenset[str]:
    return frozenset(timm.list_models())


def kind_of(architecture: str) -> Literal["vit", "convnet"]:
    """Whether slots can stand in it ("vit") or not ("convnet"): by the module that defines it, without building."""
    module = timm.model_entrypoint(architecture).__module__.rpartition(".")[2]
    return "vit" if module in _VIT_MODULES else "convnet"


def describe(name: str) -> Card:
    """The card of `timm:name`."""
    full = full_name(name)
    config = timm.get_pretrained_cfg(full)
    cached = None
    if config is not None and config.hf_hub_id:
        cached = try_to_load_from_cache(config.hf_hub_id, _file_on_hub(config))
    return Card(f"timm:{full}", kind_of(full.partition(".")[0]), False, not isinstance(cached, str))


def feature_dim_of(name: str) -> int:
    """Number of features of `timm:name`; the model is built without memory for its weights."""
    with torch.device("meta"):
        model: Any = timm.create_model(full_name(name), pretrained=False, num_classes=0)
    return int(model.num_features)


def _file_on_hub(config: PretrainedCfg) -> str:
    return config.hf_hub_filename or "model.safetensors"


def load(name: str, weights: Path | None, image_size: int | None, **options: Any) -> TimmBackbone:
    """The timm model `name` with its own weights, or those in `weights`.

    Raises:
        InvalidRequestError: unknown or ambiguous name, or a size that the patches do not divide.
        HubError: the weights are not in the cache and cannot be downloaded.
        WeightsError: the file cannot be read or does not fit.
    """
    full = full_name(name)
    if warning := natively_quick(full):
        log.warning("%s", warning)
    config = timm.get_pretrained_cfg(full) or PretrainedCfg()
    patch = re.search(r"patch(\d+)", full)
    if image_size is not None and patch and image_size % int(patch[1]):
        raise InvalidRequestError(f"image_size = {image_size}: {full} needs a multiple of its patch size {patch[1]}.")
    path = weights if weights is not None else _download(full, config)
    module = _build(full, config, path, image_size)
    preprocessing = preprocessing_of(resolve_data_config(pretrained_cfg=module.pretrained_cfg), image_size)
    anatomy = timm_anatomy(module, kind_of(full.partition(".")[0]))
    return TimmBackbone(module, tag=f"timm:{full}", anatomy=anatomy, preprocessing=preprocessing, **options)


def _download(full: str, config: PretrainedCfg) -> Path:
    if not config.hf_hub_id:
        raise WeightsError(f"timm knows no downloadable safetensors of {full}: give a local file with --weights FILE.")
    file = _file_on_hub(config)
    try:
        return Path(hf_hub_download(config.hf_hub_id, file))
    except Exception as error:
        raise HubError(
            f"Could not get {file} of {config.hf_hub_id} from the Hugging Face hub ({type(error).__name__}: "
            f"{one_line(error)[:160]}). A local file does as well: --weights FILE.safetensors."
        ) from error


def _build(full: str, config: PretrainedCfg, path: Path, image_size: int | None) -> Any:
    """The model with the classifier of the file, so that loading is strict; the classifier is dropped afterwards."""
    shapes = shapes_in(path)
    names = [config.classifier] if isinstance(config.classifier, str) else list(config.classifier or ())
    head = shapes.get(f"{names[0]}.weight") if names else None
    num_classes = head[0] if head else 0
    sized: dict[str, Any] = {"img_size": image_size} if image_size is not None and config.fixed_input_size else {}
    with complaints_about(path, full):
        module: Any = timm.create_model(
            full,
            pretrained=True,
            pretrained_cfg_overlay={"file": str(path), "num_classes": num_classes, "label_offset": 0},
            num_classes=num_classes,
            **sized,
        )
    if num_classes:
        module.reset_classifier(0)
    return module


def preprocessing_of(config: dict[str, Any], image_size: int | None) -> Preprocessing:
    """What timm says about the input of some weights, as our `Preprocessing`.

    Raises:
        InvalidRequestError: an interpolation or crop that is not implemented on the device.
    """
    if config["interpolation"] not in ("bicubic", "bilinear"):
        raise InvalidRequestError(f"interpolation {config['interpolation']!r} of these weights is not supported.")
    if config["crop_mode"] not in ("center", "squash"):
        raise InvalidRequestError(f"crop mode {config['crop_mode']!r} of these weights is not supported.")
    own = Preprocessing(
        size=config["input_size"][-1],
        crop_fraction=float(config["crop_pct"]),
        interpolation=config["interpolation"],
        mean=_triple(config["mean"]),
        std=_triple(config["std"]),
    )
    return own.under("whole" if config["crop_mode"] == "squash" else "tag", image_size)


def _triple(values: Sequence[float]) -> Triple:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def timm_anatomy(module: Any, kind: str, prefix: str = "") -> Anatomy:
    """Where the blocks are and how wide they are; `prefix` when the model is inside another one."""
    width = int(module.num_features)
    feature_dim = int(
        getattr(module, "head_hidden_size", None) or width
    )  # MobileNet has one more convolution in its head
    if kind == "vit":
        names = tuple(f"{prefix}blocks.{index}" for index in range(len(module.blocks)))
        patch = module.patch_embed.patch_size
        return Anatomy("vit", names, int(module.embed_dim), feature_dim, int(patch[0]), int(module.num_prefix_tokens))
    stages = [str(info["module"]) for info in getattr(module, "feature_info", ())]
    known = dict(module.named_modules())
    names = tuple(f"{prefix}{name}" for name in dict.fromkeys(stages) if name in known)
    return Anatomy("convnet", names, width, feature_dim)
