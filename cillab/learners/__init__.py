"""The methods, one file each, independent of one another; and those that installed packages bring.

A package brings learners by an entry point of the group `cillab.learners` that names its module: importing the module
enters them. A package that cannot be imported, or that takes a name that is taken, costs no more than itself.
"""

from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from typing import Any, get_args

from cillab.core.contract import Backbone, Family, Learner
from cillab.core.errors import IncompatibleError, one_line
from cillab.core.params import build
from cillab.core.registry import learners

_NOT_METHODS = {"checks"}
_A_VIT = "bundled:vit or timm:vit_base_patch16_224.augreg_in21k"

for _module in iter_modules(__path__):
    if _module.name not in _NOT_METHODS:
        import_module(f"{__name__}.{_module.name}")

GROUP = "cillab.learners"
unusable: dict[str, str] = {}
"""Entry points that brought no learner, and why."""

for _point in entry_points(group=GROUP):
    try:
        _point.load()
    except Exception as error:  # whatever somebody's module does: the others stay usable
        unusable[f"{_point.name} = {_point.value}"] = f"{type(error).__name__}: {one_line(error)}"


def by_family() -> dict[str, list[str]]:
    """Names of learners by family, families in the order in which `Family` lists them."""
    found = {family: [n for n in learners if learners[n].capabilities.family == family] for family in get_args(Family)}
    return {family: names for family, names in found.items() if names}


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


__all__ = ["GROUP", "by_family", "check_fit", "learners", "make_learner", "unusable"]
