"""What the tags of timm's weights mean, in words: why two models of one name are not one model."""

import re
from collections.abc import Sequence

import timm

_SAID = 12  # tags that are explained before the rest is only named
_WORDS = {
    "augreg": "AugReg recipe",
    "augreg2": "AugReg recipe, fine-tuned anew for timm",
    "orig": "recipe of the ViT paper",
    "sam": "trained with SAM",
    "dino": "self-supervised (DINO)",
    "mae": "self-supervised (MAE)",
    "mim": "self-supervised (masked images)",
    "openai": "OpenAI's CLIP",
    "clip": "CLIP",
    "bamboo": "Bamboo",
    "fb": "the authors' own",
    "tv": "torchvision",
    "tv2": "torchvision, second recipe",
    "ssl": "semi-supervised",
    "swsl": "semi-weakly supervised",
}
_DATA = {
    "in1k": "ImageNet-1k",
    "in12k": "ImageNet-12k",
    "in21k": "ImageNet-21k",
    "in22k": "ImageNet-22k",
    "laion2b": "LAION-2B",
    "laion400m": "LAION-400M",
    "lvd142m": "LVD-142M",
    "lvd1689m": "LVD-1689M",
    "webli": "WebLI",
    "yfcc100m": "YFCC-100M",
    "ig1b": "a billion Instagram images",
    "datacompxl": "DataComp-XL",
    "dfn2b": "DFN-2B",
}


def meaning(full: str) -> str:
    """`augreg_in21k_ft_in1k` -> `AugReg recipe on ImageNet-21k, then ImageNet-1k; 224 px, mean 0.5`.

    Words that are not known stand as they are. Input size, mean and licence are what timm's record states.
    """
    tag = full.partition(".")[2]
    first, *later = tag.split("_ft_")
    words = [_WORDS.get(word, word) for word in first.split("_") if word not in _DATA]
    data = [_DATA[word] for word in first.split("_") if word in _DATA]
    said = " ".join(words) + (f" on {' and '.join(data)}" if data and words else "".join(data))
    tuned = "".join(f", then {_DATA.get(word, word)}" for part in later for word in part.split("_"))
    config = timm.get_pretrained_cfg(full)
    if config is None:
        return said + tuned
    licence = f", {config.license}" if config.license and "nc" in config.license else ""
    return f"{said}{tuned}; {config.input_size[-1]} px, mean {config.mean[0]:.3g}{licence}"


def choices(architecture: str, tags: Sequence[str]) -> str:
    """Every tag with what it means; of very many, the last ones by name alone."""
    said = [f"{tag} ({meaning(f'{architecture}.{tag}')})" for tag in tags[:_SAID]]
    return "; ".join([*said, *tags[_SAID:]])


def natively_quick(full: str) -> str:
    """What is wrong with CLIP weights that were trained with QuickGELU, under a model that computes GELU; else "".

    timm's record says which these are. `openclip:` models need no warning: they follow the record of their weights.
    """
    architecture, _, tag = full.partition(".")
    config = timm.get_pretrained_cfg(full)
    notes = " ".join(config.notes or ()) if config is not None else ""
    if not re.search("quickgelu", notes, re.IGNORECASE) or "quickgelu" in architecture:
        return ""
    right = f"{architecture.replace('_clip_', '_clip_quickgelu_')}.{tag}"
    known = timm.list_models(f"{right.partition('.')[0]}.*", pretrained=True)
    advice = f" timm:{right} computes what they were trained with." if right in known else ""
    return f"timm:{full} computes GELU, but its weights were trained with QuickGELU: other features.{advice}"
