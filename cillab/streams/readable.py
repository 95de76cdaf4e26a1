"""Class names that a person, or a text encoder, can read, from what data sets call their classes."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from cillab.protocol.named import DataSet, Naming

_WNID = re.compile(r"n\d{8}")
_CORE50 = (
    "plug adapter", "mobile phone", "scissors", "light bulb", "can", "glasses", "ball", "marker", "cup",
    "remote control",
)  # fmt: skip  # five objects each, in this order (Lomonaco & Maltoni, CoRL 2017)


def readable(entry: DataSet, classes: Sequence[str]) -> tuple[str, ...]:
    """A name for every class, in the same order; where two would be equal, what the files call them is added."""
    rule = _RULES[entry.names]
    names = [entry.renamed.get(given) or rule(given) for given in classes]
    often = Counter(names)
    return tuple(name if often[name] == 1 else f"{name} ({given})" for name, given in zip(names, classes, strict=True))


def _plain(given: str) -> str:
    """`baby_back_ribs` -> `baby back ribs`."""
    return " ".join(given.replace("_", " ").split())


def _numbered(given: str) -> str:
    """`001.Black_footed_Albatross` -> `Black footed Albatross`."""
    return _plain(re.sub(r"^\d+\.", "", given))


def _lettered(given: str) -> str:
    """`b/bakery/shop` -> `bakery shop`."""
    return _plain(re.sub(r"^\w/", "", given).replace("/", " "))


def _core50(given: str) -> str:
    """`o7` -> `mobile phone 2`."""
    match = re.fullmatch(r"o(\d+)", given)
    if match is None or not 1 <= int(match[1]) <= 5 * len(_CORE50):
        return given
    kind, which = divmod(int(match[1]) - 1, 5)
    return f"{_CORE50[kind]} {which + 1}"


def _wordnet(given: str) -> str:
    """`n01440764` -> `tench`: the name CLIP's authors gave an ImageNet class, else the first lemma of the synset."""
    return _words().get(given, _plain(given)) if _WNID.fullmatch(given) else _plain(given)


@cache
def _words() -> Mapping[str, str]:
    from open_clip import IMAGENET_CLASSNAMES  # noqa: PLC0415 - both know the classes, and take a second to import
    from timm.data.imagenet_info import ImageNetInfo  # noqa: PLC0415

    every, curated = ImageNetInfo("imagenet22k"), ImageNetInfo("imagenet1k")
    lemmas = {
        wnid: every.label_name_to_description(wnid, detailed=False).split(",")[0].strip()
        for wnid in every.label_names()
    }
    return lemmas | dict(zip(curated.label_names(), IMAGENET_CLASSNAMES, strict=True))


_RULES: Mapping[Naming, Callable[[str], str]] = {
    "as-is": lambda given: given,
    "plain": _plain,
    "numbered": _numbered,
    "wordnet": _wordnet,
    "lettered": _lettered,
    "core50": _core50,
}
