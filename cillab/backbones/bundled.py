"""The two small models that ship with the package, through the same classes as any other."""

import json
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from cillab.backbones.card import Card
from cillab.backbones.clip import ClipBackbone, clip_from_config
from cillab.backbones.files import complaints_about, shapes_in
from cillab.backbones.vision import TimmBackbone, timm_anatomy
from cillab.core.errors import InvalidRequestError, WeightsError, unknown_name
from cillab.core.pixels import Preprocessing

NAMES = ("clip", "vit")
FOLDER = Path(__file__).parent / "weights"


def describe(name: str) -> Card:
    """The card of `bundled:name`.

    Raises:
        UnknownNameError: neither vit nor clip.
    """
    if name not in NAMES:
        raise unknown_name("bundled model", name, NAMES)
    return Card(f"bundled:{name}", "vit", name == "clip", False)


def feature_dim_of(name: str) -> int:
    """Number of features of `bundled:name`, from its recipe."""
    recipe = json.loads((FOLDER / f"bundled_{name}.json").read_text(encoding="utf-8"))
    return int(recipe["embed_dim"] if name == "clip" else recipe["timm"]["embed_dim"])


def load(
    name: str, weights: Path | None, image_size: int | None, folder: Path = FOLDER, **options: Any
) -> TimmBackbone | ClipBackbone:
    """`bundled:vit` or `bundled:clip`; `weights` replaces the tensors, not the architecture.

    Raises:
        InvalidRequestError: an image size that the patches do not divide.
        WeightsError: the package was installed without its weights, or the file does not fit.
    """
    card = describe(name)
    recipe_path = folder / f"bundled_{name}.json"
    if not recipe_path.is_file():
        raise WeightsError(f"{card.tag} is not in this installation: {recipe_path.name} is missing.")
    recipe = json.loads(recipe_path.read_text(encoding="utf-8"))
    path = weights if weights is not None else folder / f"bundled_{name}.safetensors"
    preprocessing = _preprocessing(recipe)
    patch = recipe["vision_cfg"]["patch_size"] if name == "clip" else recipe["timm"]["patch_size"]
    if image_size is not None:
        if image_size % patch:
            raise InvalidRequestError(
                f"image_size = {image_size}: {card.tag} needs a multiple of its patch size {patch}."
            )
        preprocessing = preprocessing.under("tag", image_size)
    if name == "clip":
        config = {key: recipe[key] for key in ("embed_dim", "vision_cfg", "text_cfg", "quick_gelu") if key in recipe}
        config["vision_cfg"] = {**config["vision_cfg"], "image_size": preprocessing.size}
        return clip_from_config(config, path, tag=card.tag, preprocessing=preprocessing, **options)
    module = _vit(recipe)
    shapes_in(path)
    with complaints_about(path, card.tag):
        module.load_state_dict({key: tensor.float() for key, tensor in load_file(path).items()}, strict=True)
    module.set_input_size(
        img_size=(preprocessing.size, preprocessing.size)
    )  # interpolates the position embedding if need be
    anatomy = timm_anatomy(module, "vit")
    return TimmBackbone(module, tag=card.tag, anatomy=anatomy, preprocessing=preprocessing, **options)


def _vit(recipe: dict[str, Any]) -> VisionTransformer:
    """The timm model of `bundled_vit.json`."""
    norm = partial(nn.LayerNorm, eps=recipe.get("layer_norm_eps", 1e-6))
    return VisionTransformer(norm_layer=norm, **recipe["timm"])


def _preprocessing(recipe: dict[str, Any]) -> Preprocessing:
    """Both models look at the whole square picture, with values in [-1, 1] unless the recipe says otherwise."""
    size = recipe.get("image_size") or recipe["vision_cfg"]["image_size"]
    half = [0.5, 0.5, 0.5]
    return Preprocessing(
        size=int(size),
        crop_fraction=float(recipe.get("crop_fraction", 1.0)),
        interpolation=recipe.get("interpolation", "bicubic"),
        mean=tuple(recipe.get("mean", half)),
        std=tuple(recipe.get("std", half)),
    )
