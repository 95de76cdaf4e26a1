"""The methods, one file each, independent of one another; and those that installed packages bring.

A file is imported when somebody asks for a learner that is called like it; all are when somebody asks for a list, or
for a name that no file has.

A package brings learners by an entry point of the group `cillab.learners` that names its module: importing the module
enters them. A package that cannot be imported, or that takes a name that is taken, costs no more than itself.
"""

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from typing import Any, get_args

from cillab.core.contract import Backbone, Family, Learner
from cillab.core.errors import IncompatibleError, one_line
from cillab.core.params import build
from cillab.core.registry import learners

_FILES = frozenset(module.name for module in iter_modules(__path__)) - {"checks"}
_A_VIT = "bundled:vit or timm:vit_base_patch16_224.augreg_in21k"
GROUP = "cillab.learners"
unusable: dict[str, str] = {}
"""Entry points that brought no learner, and why; known once learners have been listed."""


def _load(name: str | None) -> None:
    """Import the file that is called like a learner, or all files and what entry points name."""
    if name is None:
        _load_all()
    elif (file := name.replace("-", "_")) in _FILES:
        import_module(f"{__name__}.{file}")


@cache
def _load_all() -> None:
    for file in sorted(_FILES):
        import_module(f"{__name__}.{file}")
    for point in entry_points(group=GROUP):
        try:
            point.load()
        except Exception as error:  # whatever somebody's module does: the others stay usable
            unusable[f"{point.name} = {point.value}"] = f"{type(error).__name__}: {one_line(error)}"


learners.found_by(_load)


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
