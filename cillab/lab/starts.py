"""Where a run may start from: settings that somebody has already chosen for a method, as forms offer them.

They come from the presets that ship with the package, so a form and `cillab sweep preset:NAME` never differ.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from cillab.core.params import HyperParams, build, flat
from cillab.lab.spec import RunSpec
from cillab.lab.sweep import presets, read_plan

_KINDS = {
    "-paper": "As in its paper",
    "-ablation": "",
    "-ablation-cifar100": "",
    "-draws": "",
}  # by a name's end
_USUAL = "As in our tables"
_OTHERS = ("learner", "params", "out", "seed")  # what a start leaves as it is
_QUICK = {"split": "B0-Inc20", "train_per_class": 20, "test_per_class": 10, "cams": True}


class Start(NamedTuple):
    """A starting point of one method."""

    name: str
    words: str
    settings: dict[str, Any]  # of the run, by flat name, where they differ from the defaults
    params: dict[str, Any]  # of the method, by dotted name, where they differ from the defaults


def starts(records: Mapping[str, type[HyperParams]], text: frozenset[str] = frozenset()) -> dict[str, list[Start]]:
    """For every method (`records` has its hyper-parameters by name): a quick one, then the rows of the presets.

    Methods in `text` read class names, so their quick start is on the bundled CLIP.
    """
    found = {name: [_quick(name in text)] for name in records}
    for preset, title in presets().items():
        kind = next((words for end, words in _KINDS.items() if preset.endswith(end)), _USUAL)
        seen = set()
        for row, spec in read_plan(f"preset:{preset}").rows if kind else ():
            if row not in seen and spec.learner in records:  # the first of its seeds stands for all
                seen.add(row)
                words = f"{title}. All of it: cillab sweep preset:{preset}"
                of = row if kind != _USUAL else preset if row == spec.learner else f"{preset}: {row}"
                found[spec.learner].append(_from(f"{kind}, {of}", words, spec, records[spec.learner]))
    return {name: sorted(rows, key=_rank) for name, rows in found.items()}


def _quick(text: bool) -> Start:
    backbone = {"backbone": "bundled:clip"} if text else {}
    words = "Five tasks of 20 classes of the bundled data, 20 training images a class, Grad-CAM maps kept."
    return Start("A first look", words, {**backbone, **_QUICK}, {})


def _rank(start: Start) -> int:
    return ("A first look", "As in its paper", _USUAL).index(start.name.partition(",")[0])


def _from(name: str, words: str, spec: RunSpec, record: type[HyperParams]) -> Start:
    plain = RunSpec().flat()
    settings = {k: v for k, v in spec.flat().items() if k not in _OTHERS and v != plain[k]}
    usual, own = flat(record()), flat(build(record, spec.params, spec.learner))
    return Start(name, words, settings, {key: value for key, value in own.items() if value != usual[key]})
