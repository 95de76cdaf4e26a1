"""The protocol row of a run: every fact, flat, as it stands in run.json, in result.json and in a table."""

from collections.abc import Mapping
from copy import copy
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, TypeAdapter, model_validator

import cillab.protocol.specs  # noqa: F401 - its records declare their facts first
from cillab.protocol.facts import FACTS, Made, declare
from cillab.protocol.scenario import Scenario, former, stated_scenario


class Protocol(BaseModel):
    """The row without which a number means nothing: a value for each of `FACTS`; `None` = not stated.

    Its fields are the facts: those of StreamSpec and BackboneSpec under their flat names, and those declared below or
    by other packages. What a file states beyond them is kept. A scenario of an older file is read as today's record.
    """

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _stated(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        given = former(values)
        found: dict[str, Any] = {}
        for name, fact in FACTS.items():
            value = given.pop(name, None)
            if value is None:
                found[name] = copy(fact.unsaid)
            elif fact.kind is Scenario:
                found[name] = stated_scenario(value)
            else:
                found[name] = _adapter(fact.kind).validate_python(value)
        return {**found, **given}

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


_ADAPTERS: dict[Any, TypeAdapter] = {}


def _adapter(kind: Any) -> TypeAdapter:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def stated(made: Made) -> Protocol:
    """The row of a run that is about to begin."""
    return Protocol.model_validate({name: fact.of(made) for name, fact in FACTS.items()})


def data_digest(stream: Any) -> str:
    """Hash of the images' stored bytes, whatever the order of the classes and the split into tasks."""
    digest = sha256()
    for split in ("train", "test"):
        rows = np.concatenate([getattr(plan, split) for plan in stream.plans])
        digest.update(stream.source.digest(split, np.sort(rows)).encode())
    return digest.hexdigest()


declare("data_digest", str, lambda made: data_digest(made.stream), key=True)
declare("split_digest", str, lambda made: made.stream.digest, key=True, by_seed=True)
declare("leaked", int, lambda made: made.stream.source.leaked)
declare("near_leaked", int, lambda made: made.stream.source.near_leaked)
declare("weights_digest", str, lambda made: made.backbone.digest(), key=True)
declare("exemplars", bool, lambda made: made.learner.capabilities.exemplars, key=True)
declare("task_id_at_test", bool, lambda made: made.stream.scenario.task_id, key=True, unsaid=False)
declare("class_names", bool, lambda made: "class-names" in made.learner.capabilities.needs)
declare("learner", str, lambda made: made.spec.learner, unsaid="")
declare("params", dict, lambda made: made.spec.params, unsaid={})
declare("params_digest", str, lambda made: made.spec.params_digest())
declare("spec_digest", str, lambda made: made.spec.digest())
declare("evidence", str, lambda made: "own run", unsaid="own run")
