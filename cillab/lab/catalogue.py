"""What can be asked for, as plain JSON: learners with their typed hyper-parameters, data sets, backbones.

A form is drawn from it in a process that never loads torch; `cillab list schema` prints it.
"""

from inspect import cleandoc
from typing import Any

from cillab.core.errors import IncompatibleError, one_line
from cillab.lab.spec import RunSpec
from cillab.lab.starts import starts
from cillab.protocol.scenario import Scenario, scenarios


def catalogue() -> dict[str, Any]:
    """Everything a form needs. Loads torch, but neither weights nor images.

    `refusals[learner][backbone]` is the library's own line for a pair that cannot work; pairs that can are left out.
    """
    import cillab.streams  # noqa: PLC0415 - registers the data sets; all of these load torch
    from cillab.backbones import LISTING, describe  # noqa: PLC0415
    from cillab.core.registry import sources  # noqa: PLC0415
    from cillab.learners import by_family, learners, unusable  # noqa: PLC0415

    ready = [name for name in LISTING if name.startswith("bundled:")]  # forms such as timm:MODEL.TAG name no model
    cards = {name: describe(name) for name in ready}
    begin = starts(
        {name: learners[name].Params for name in learners},
        frozenset(name for name in learners if "clip" in learners[name].capabilities.needs),
    )
    return {
        "cillab_version": cillab.__version__,
        "spec": RunSpec.schema_of_settings(),
        "scenarios": {name: _scenario(scenarios[name]) for name in scenarios},
        "learners": {
            name: {**_learner(learners[name]), "starts": [start._asdict() for start in begin[name]]}
            for names in by_family().values()
            for name in names
        },
        "unusable": dict(unusable),
        "data": {name: cleandoc(sources[name].__doc__ or "").split("\n")[0] for name in sources},
        "backbones": dict(LISTING),
        "cards": {name: {"kind": card.kind, "clip": card.clip} for name, card in cards.items()},
        "refusals": {
            name: {b: line for b, card in cards.items() if (line := _refusal(name, card))} for name in learners
        },
    }


def _learner(method: Any) -> dict[str, Any]:
    can = method.capabilities
    return {
        "summary": can.summary,
        "paper": can.paper,
        "evidence": can.evidence,
        "family": can.family,
        "when": can.when,
        "exemplars": can.exemplars,
        "needs": sorted(can.needs),
        "shows": sorted(can.shows),
        "text": cleandoc(method.__doc__ or ""),
        "params": method.Params.model_json_schema(),
        "former": dict(method.Params.former),
    }


def _scenario(kind: type[Scenario]) -> dict[str, Any]:
    return {
        "summary": cleandoc(kind.__doc__ or "").split("\n")[0],
        "text": cleandoc(kind.__doc__ or ""),
        "params": kind.model_json_schema(mode="validation"),
        "split": kind.split,
        "takes_split": kind.takes_split,
        "order": kind.order,
    }


def _refusal(learner: str, card: Any) -> str:
    from cillab.learners import check_fit  # noqa: PLC0415

    try:
        check_fit(learner, kind=card.kind, clip=card.clip, tag=card.tag)
    except IncompatibleError as error:
        return one_line(error)
    return ""
