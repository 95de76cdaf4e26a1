"""Floor 3: the methods, one file each, independent of one another."""

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from cillab.core.contract import Backbone, Learner
from cillab.core.errors import IncompatibleError
from cillab.core.params import build
from cillab.core.registry import learners

_NOT_METHODS = {"checks"}
_A_VIT = "bundled:vit or timm:vit_base_patch16_224.augreg_in21k"

for _module in iter_modules(__path__):
    if _module.name not in _NOT_METHODS:
        import_module(f"{__name__}.{_module.name}")


def make_learner(name: str, backbone: Backbone, *, seed: int = 1993, **params: Any) -> Learner[Any]:
    """The learner called `name` on `backbone`, with hyper-parameters by name.

    Raises:
        UnknownNameError: no such learner. InvalidRequestError: no such hyper-parameter, or a value out of bounds.
        IncompatibleError: the learner needs what this backbone lacks.
    """
    cls = learners[name]
    check_fit(name, kind=backbone.kind, clip=backbone.clip, tag=backbone.tag)
    return cls(backbone, build(cls.Params, params, f"Learner {name!r}"), seed=seed)


def check_fit(name: str, *, kind: str, clip: bool, tag: str) -> None:
    """Refuse a learner on a backbone that lacks what it needs, before anything is loaded.

    Raises:
        IncompatibleError: with the reason and what would work.
    """
    needs = learners[name].capabilities.needs
    if "clip" in needs and not clip:
        raise IncompatibleError(
            f"Learner {name!r} compares images with text, but {tag!r} has no text side. "
            "Use bundled:clip or openclip:MODEL/TAG."
        )
    if "vit" in needs and kind != "vit":
        raise IncompatibleError(
            f"Learner {name!r} works between the blocks of a ViT, but {tag!r} is a {kind}. "
            f"Use {'bundled:clip or openclip:ViT-B-16/openai' if 'clip' in needs else _A_VIT}."
        )


__all__ = ["check_fit", "learners", "make_learner"]
