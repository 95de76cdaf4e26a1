"""Frozen pre-trained models by name, and what learners dress them with.

    backbone = make_backbone("timm:vit_base_patch16_224.augreg_in21k")
    slots = Slots.everywhere(backbone, "after", lambda i: NoiseSlot(backbone.token_dim, 48, generator=rng))
    with backbone.wearing(Overlay(backbone, *norms(backbone)), slots):
        features = backbone.embed(pixels)

The backbone itself is never changed; what a learner trains is worn for the length of a `with` block.
"""

from importlib import import_module
from pathlib import Path

import torch

from cillab.backbones.cache import FeatureMemory
from cillab.backbones.card import Card
from cillab.backbones.computing import Precision
from cillab.backbones.frozen import FrozenBackbone
from cillab.backbones.noise import NoiseMeter, NoiseSlot, metered, sampling
from cillab.backbones.overlay import Overlay, norms
from cillab.backbones.slots import AdapterSlot, Slot, Slots
from cillab.core.errors import UnknownNameError, nearest, unknown_name
from cillab.core.pixels import Preset

__all__ = [
    "LISTING",
    "AdapterSlot",
    "Card",
    "FeatureMemory",
    "FrozenBackbone",
    "NoiseMeter",
    "NoiseSlot",
    "Overlay",
    "Slot",
    "Slots",
    "describe",
    "feature_dim_of",
    "make_backbone",
    "metered",
    "norms",
    "sampling",
]

# Imported when a name asks for them: a bundled ViT need not load open_clip.
_LIBRARIES = {
    "bundled": "cillab.backbones.bundled",
    "openclip": "cillab.backbones.clip",
    "timm": "cillab.backbones.vision",
}
LISTING = {
    "bundled:vit": "a small ViT that ships with the package, 64 px, pre-trained on clean shields",
    "bundled:clip": "a small open_clip model that ships with the package, 64 px, pre-trained on clean shields",
    "timm:MODEL.TAG": "any timm model, for example timm:vit_base_patch16_224.augreg_in21k (downloaded once)",
    "openclip:MODEL/TAG": "any open_clip model, for example openclip:ViT-B-16/openai (downloaded once)",
}
FORMS = tuple(sorted(LISTING))


def describe(name: str) -> Card:
    """What `name` is, without loading or downloading weights.

    Raises:
        UnknownNameError: not one of the four forms.
        InvalidRequestError: an unknown or ambiguous model or tag.
    """
    library, rest = _split(name)
    return import_module(_LIBRARIES[library]).describe(rest)


def feature_dim_of(name: str) -> int:
    """Number of features of the backbone called `name`, without loading or downloading weights.

    Raises:
        UnknownNameError: not one of the four forms.
        InvalidRequestError: an unknown or ambiguous model or tag.
    """
    library, rest = _split(name)
    return import_module(_LIBRARIES[library]).feature_dim_of(rest)


def make_backbone(
    name: str,
    *,
    weights: str | Path | None = None,
    image_size: int | None = None,
    transform: Preset = "tag",
    precision: Precision = "auto",
    device: str | torch.device = "auto",
    compile: bool = False,
    cache: FeatureMemory | str | Path | None = None,
) -> FrozenBackbone:
    """The backbone called `name`: `bundled:vit`, `bundled:clip`, `timm:MODEL.TAG` or `openclip:MODEL/TAG`.

    `weights` is a local safetensors file instead of the published weights, `image_size` another input size,
    `transform` the named evaluation transform, `cache` a folder or a `FeatureMemory` to share. `compile` lets
    torch.compile have the blocks.

    Raises:
        UnknownNameError: not one of the four forms.
        InvalidRequestError: an unknown or ambiguous model, or an option out of bounds.
        HubError: a download that did not succeed.
        WeightsError: weights that cannot be read or do not fit.
    """
    library, rest = _split(name)
    memory = cache if isinstance(cache, FeatureMemory) else FeatureMemory(None if cache is None else Path(cache))
    backbone = import_module(_LIBRARIES[library]).load(
        rest, None if weights is None else Path(weights), image_size, precision=precision, device=device, memory=memory
    )
    if transform != "tag":
        backbone.preprocessing = backbone.preprocessing.under(transform)
    if compile:
        backbone.compile()
    return backbone


def _split(name: str) -> tuple[str, str]:
    library, _, rest = name.partition(":")
    if library in _LIBRARIES and rest:
        return library, rest
    error = unknown_name("backbone", name, FORMS)
    guess = nearest(library, _LIBRARIES)
    if rest and guess:
        raise UnknownNameError(f"Unknown backbone {name!r}. Valid: {', '.join(FORMS)}. Did you mean '{guess}:{rest}'?")
    raise error
