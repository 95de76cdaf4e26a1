"""One control for one typed setting, drawn from its JSON schema: choices, bounds, default and documentation."""

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import streamlit as st

from app.shell import html, state

Schema = Mapping[str, Any]


class Group(NamedTuple):
    """Settings that belong together: those of the method itself (no name), or those of one record among them."""

    name: str
    words: str
    properties: dict[str, Any]  # schemas, by dotted name


def unfolded(record: Schema) -> list[Group]:
    """The schema of a record as groups of plain settings; a record in it is a group, with this record's defaults."""
    own, inner = Group("", "", {}), []
    for name, schema in record.get("properties", {}).items():
        kind = schema.get("$ref", "").rpartition("/")[2]
        if not kind:
            own.properties[name] = schema
            continue
        defaults = schema.get("default") or {}
        for group in unfolded({**record["$defs"][kind], "$defs": record["$defs"]}):
            words = " ".join(str(schema.get("description", "")).split())
            rows = {f"{name}.{n}": {**s, **_default(defaults, n)} for n, s in group.properties.items()}
            inner.append(Group(name if not group.name else f"{name}.{group.name}", group.words or words, rows))
    return [own, *inner]


def _default(defaults: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {"default": defaults[name]} if name in defaults else {}


def kind_of(schema: Schema) -> tuple[str, Schema, bool]:
    """What sort of control; the schema that holds the bounds; and may it be left empty?"""
    options = [part for part in schema.get("anyOf", []) if part.get("type") != "null"]
    empty = len(options) < len(schema.get("anyOf", []))
    inner: Schema = options[0] if len(options) == 1 else schema
    if "enum" in inner:
        return "choice", inner, empty
    known = ("boolean", "integer", "number", "string")
    return (inner["type"] if inner.get("type") in known else "json"), inner, empty


def complaint(schema: Schema, value: Any) -> str:
    """What is wrong with a number, in the words of the library's own validation; empty when nothing is."""
    _, inner, _ = kind_of(schema)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return ""
    for bound, words, breaks in (
        ("exclusiveMinimum", "greater than", lambda v, b: v <= b),
        ("minimum", "greater than or equal to", lambda v, b: v < b),
        ("exclusiveMaximum", "less than", lambda v, b: v >= b),
        ("maximum", "less than or equal to", lambda v, b: v > b),
    ):
        if bound in inner and breaks(value, inner[bound]):
            return f"Input should be {words} {inner[bound]}"
    return ""


def written(value: Any) -> str:
    """A value as the screen and the command line write it."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _unset(schema: Schema) -> str:
    """What an empty field means: all of them, where the documentation says so."""
    return "all" if " all" in f" {schema.get('description', '')}".lower() else written(None)


def bounds(schema: Schema) -> str:
    """The range of a number in words, empty where it has none."""
    _, inner, _ = kind_of(schema)
    low, high = inner.get("minimum", inner.get("exclusiveMinimum")), inner.get("maximum", inner.get("exclusiveMaximum"))
    above = "over" if "exclusiveMinimum" in inner else "from"
    below = "below" if "exclusiveMaximum" in inner else "to"
    return " ".join(f"{word} {written(bound)}" for word, bound in ((above, low), (below, high)) if bound is not None)


def as_typed(schema: Schema, value: Any) -> Any:
    """A value as the widget of its control holds it, to be put there from outside."""
    kind, _, _ = kind_of(schema)
    if kind == "choice":
        return str(value)
    if kind == "json":
        return json.dumps(value)
    if kind == "string":
        return "" if value is None else str(value)
    return float(value) if kind == "number" and value is not None else value


def differs(value: Any, default: Any) -> bool:
    """Is this not the default? 1 and 1.0 are the same, 1 and True are not."""
    return (
        type(value) is not type(default) if isinstance(value, bool) != isinstance(default, bool) else value != default
    )


def field(name: str, schema: Schema, key: str, *, mark: bool = True) -> Any:
    """The control of one setting, with what it means behind the question mark and its default underneath."""
    default, text = schema.get("default"), html.markdown(" ".join(str(schema.get("description", "")).split()))
    value = _control(name.rpartition(".")[2], schema, key, text)
    if mark:
        changed = differs(value, default)
        words = f"default {_unset(schema) if default is None else written(default)}"
        words = ", ".join(part for part in (words, bounds(schema)) if part)
        html.show(
            f"<p>{html.safe(words)}{'<b>changed</b>' if changed else ''}</p>",
            "ci-default on" if changed else "ci-default",
        )
    return value


def _control(name: str, schema: Schema, key: str, text: str) -> Any:
    kind, inner, empty = kind_of(schema)
    default, more = schema.get("default"), {"key": key, "help": text or None, **state.bound()}
    if kind == "choice":
        options = [str(option) for option in inner["enum"]]
        return st.selectbox(name, options, index=options.index(str(default)) if default is not None else 0, **more)
    if kind == "boolean":
        return st.toggle(name, bool(default), **more)
    if kind in ("integer", "number"):
        if empty:
            more["placeholder"] = _unset(schema)
        return _number(name, inner, default, empty, kind == "integer", more)
    if kind == "string":
        return st.text_input(name, "" if default is None else str(default), max_chars=300, **more) or (
            None if empty else ""
        )
    given = st.text_input(name, json.dumps(default), max_chars=2000, **more)
    try:
        return json.loads(given or "null")
    except json.JSONDecodeError:
        return given  # refused by the library, with its own words


def _number(name: str, inner: Schema, default: Any, empty: bool, whole: bool, more: Mapping[str, Any]) -> Any:
    low, high = inner.get("minimum"), inner.get("maximum")
    if whole:
        if low is None and "exclusiveMinimum" in inner:
            low = int(inner["exclusiveMinimum"]) + 1
        limits = {"min_value": None if low is None else int(low), "max_value": None if high is None else int(high)}
        start = None if default is None and empty else int(default or 0)
        return st.number_input(name, value=start, step=1, **limits, **more)
    size = abs(float(default or 0))
    step = 10.0 ** math.floor(math.log10(size) - 0.31) if size else 0.01
    floor = inner.get("exclusiveMinimum", low)
    limits = {"min_value": None if floor is None else float(floor), "max_value": None if high is None else float(high)}
    start = None if default is None and empty else float(default or 0)
    return st.number_input(name, value=start, step=step, format="%g", **limits, **more)
