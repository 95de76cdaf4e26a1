"""Class names as vectors: sentences around a name, encoded once, averaged on the sphere."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cillab.backbones.clip import ClipBackbone
from cillab.core.contract import Backbone
from cillab.core.errors import IncompatibleError, InvalidRequestError

TEMPLATES: tuple[str, ...] = ("a photo of a {}.",)

# The seven sentences that CLIP's authors picked from their eighty for ImageNet (Radford et al. 2021, notebook
# "Prompt Engineering for ImageNet" of their release).
TEMPLATES_7: tuple[str, ...] = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)


def sentences_of(names: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Every name in every template, a blank for an underscore; all sentences of one name together."""
    return [template.format(name.replace("_", " ")) for name in names for template in templates]


def encode_classes(
    backbone: Backbone, names: Sequence[str], templates: Sequence[str] = TEMPLATES
) -> Float[Tensor, "cls feature"]:
    """One vector of length 1 per class: the mean over templates of the normalised sentence embeddings, normalised.

    No gradient. Every sentence is encoded once per backbone and remembered, so a class that was asked for before
    costs nothing, in whatever order and company it returns.

    Raises:
        IncompatibleError: the backbone has no text side.
        InvalidRequestError: no template, or one without exactly one `{}`.
    """
    if not isinstance(backbone, ClipBackbone):
        raise IncompatibleError(f"{backbone.tag} has no text side: use bundled:clip or openclip:MODEL/TAG.")
    for template in templates:
        if template.count("{}") != 1:
            raise InvalidRequestError(f"Template {template!r}: write {{}} once, where the class name goes.")
    if not templates:
        raise InvalidRequestError("No template: give at least one sentence with {} where the class name goes.")
    sentences = sentences_of(names, templates)
    remembered = backbone.sentences
    if missing := [text for text in dict.fromkeys(sentences) if text not in remembered]:
        with torch.no_grad():
            remembered.update(zip(missing, F.normalize(backbone.encode_text(missing), dim=-1), strict=True))
    if not sentences:
        return torch.zeros(0, backbone.feature_dim, device=backbone.device)
    table = torch.stack([remembered[text] for text in sentences])
    return F.normalize(table.view(len(names), len(templates), -1).mean(dim=1), dim=-1)
