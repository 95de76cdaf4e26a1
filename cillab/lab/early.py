"""Refusals before torch is loaded: what can be known of a request from the kept catalogue and this machine alone.

Everything here is refused by the library itself too, in the same words where it can be; a request that passes may
still be refused there. Without a kept catalogue nothing is known of learners and backbones, and they are left to it.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from pydantic import Field, create_model

from cillab.core.devices import check_compiler, check_device
from cillab.core.errors import InvalidRequestError, UnknownNameError, nearest, shown, unknown_name
from cillab.core.memory import must_fit
from cillab.core.params import HyperParams, build
from cillab.lab.offer import kept
from cillab.lab.spec import RunSpec
from cillab.protocol.named import must_allow_training, must_be_here

_LIBRARIES = ("bundled", "openclip", "timm")
_SPLIT = re.compile(r"B[\s-]*\d+[\s_,-]*Inc[\s-]*0*[1-9]\d*|all|base-new", re.IGNORECASE)
_BATCH = 16  # images that are on their way through a model at once, at the very least


def refuse_early(spec: RunSpec) -> None:
    """Refuse what cannot work, in milliseconds.

    Raises:
        CillabError: one clear line.
    """
    given = spec.model_dump(mode="json")
    for name, value in given.items():
        if isinstance(value, str) and any(ord(c) < 32 or 0xD800 <= ord(c) < 0xE000 for c in value):
            raise InvalidRequestError(f"{name} = {shown(value)} holds a character that no name or path has.")
    must_allow_training(given["data"])
    must_be_here(given["data"])
    check_device(given["device"])
    if given["compile"]:
        check_compiler(given["device"])
    dealt_by_split = given["scenario"].get("name") == "class-incremental"
    if dealt_by_split and not _SPLIT.fullmatch(given["split"].strip()):
        forms = "B0-Inc10 (10 at a time), B50-Inc10 (first 50, then 10), all (one task)"
        raise InvalidRequestError(f"split = {shown(given['split'])}. Valid: {forms}.")
    if given.get("image_size"):
        side = given["image_size"]
        must_fit(_BATCH * 3 * 4 * side**2, f"A batch of images of {side} x {side} pixels")
    if given.get("weights") is not None and not Path(given["weights"]).expanduser().is_file():
        raise InvalidRequestError(f"weights = {shown(given['weights'])}: there is no such file.")
    known = kept()
    if known is not None:
        _check_method(spec.learner, spec.params, given["backbone"], known)


def _check_method(learner: str, params: Mapping[str, Any], backbone: str, known: Mapping[str, Any]) -> None:
    if learner not in known["learners"]:
        raise unknown_name("learner", learner, known["learners"])
    said = {name: value for name, value in params.items() if value is not None}  # a preset may fill what is None
    build(record_of(known["learners"][learner]), said, f"Learner {learner!r}")
    library, _, rest = backbone.partition(":")
    if library not in _LIBRARIES or not rest:
        guess = nearest(library, _LIBRARIES)
        if rest and guess:
            forms = ", ".join(sorted(known["backbones"]))
            hint = f"Did you mean '{guess}:{rest}'?"
            raise UnknownNameError(f"Unknown backbone {shown(backbone)}. Valid: {forms}. {hint}")
        raise unknown_name("backbone", backbone, known["backbones"])
    if library == "bundled" and backbone not in known["backbones"]:
        raise unknown_name("backbone", backbone, known["backbones"])
    if line := known["refusals"].get(learner, {}).get(backbone):
        raise InvalidRequestError(line)


def record_of(entry: Mapping[str, Any]) -> type[HyperParams]:
    """A record that takes what the learner's own takes, made from its JSON schema: names, kinds and bounds."""
    schema = entry["params"]
    inner = {name: _record(name, one, {}) for name, one in schema.get("$defs", {}).items()}
    record = _record(schema.get("title", "Params"), schema, inner)
    record.former = dict(entry.get("former", {}))
    return record


def _record(title: str, schema: Mapping[str, Any], inner: Mapping[str, type[HyperParams]]) -> type[HyperParams]:
    fields: dict[str, Any] = {}
    for name, one in schema.get("properties", {}).items():
        reference = one.get("$ref", "").rpartition("/")[2]
        default = one.get("default", ...)
        if reference in inner:
            record = inner[reference]
            fields[name] = (record, record() if default is ... else record(**default))
        else:
            fields[name] = (_kind(one), default)
    return create_model(title, __base__=HyperParams, **fields)


def _kind(schema: Mapping[str, Any]) -> Any:
    """The type of one value; whatever is not understood takes anything."""
    if "enum" in schema:
        return Literal[tuple(schema["enum"])]  # type: ignore[valid-type]
    if "const" in schema:
        return Literal[schema["const"]]  # type: ignore[valid-type]
    if "anyOf" in schema:
        return Union[tuple(_kind(one) for one in schema["anyOf"])]  # noqa: UP007 - made at run time
    kinds = {"integer": int, "number": float, "boolean": bool, "string": str, "null": type(None)}
    plain = kinds.get(schema.get("type", ""))
    if plain is None:
        return Any
    bounds = {"minimum": "ge", "exclusiveMinimum": "gt", "maximum": "le", "exclusiveMaximum": "lt"}
    limits = {ours: schema[theirs] for theirs, ours in bounds.items() if theirs in schema}
    return Annotated[plain, Field(**limits)] if limits else plain
