"""Hyper-parameters: typed, frozen, documented records that refuse what they do not know, and may hold one another."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.fields import FieldInfo

from cillab.core.errors import InvalidRequestError, cut, nearest, printable, shown

_MOST = 3  # findings in one complaint


class HyperParams(BaseModel):
    """Base of a learner's hyper-parameters. Stored with every run; its schema draws the app's form.

    A field may be a record again (`fit: Fit = Fit(epochs=20)`). Values come nested (`{"fit": {"epochs": 3}}`), dotted
    (`fit.epochs=3`), or under the bare name of a field of the record `fit`, or else of the first record that has it
    (`epochs=3`). What is not given inside a record stays as the method's own default has it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True)

    former: ClassVar[Mapping[str, str]] = {}
    """Spellings of older specs, and what they are called now: {"align_lr": "align.lr"}; "" for what is gone."""
    quick: ClassVar[Mapping[str, Any]] = {}
    """Values that keep a learner quick while it is checked."""

    @classmethod
    def presets(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Values that hold where none is given, by dotted name; a record with variants reads `values` for its name."""
        del values
        return {}

    @model_validator(mode="before")
    @classmethod
    def _nest(cls, values: Any) -> Any:
        """Dotted and bare names into the records they belong to, over the defaults of the method."""
        if not isinstance(values, Mapping):
            return values
        given: dict[str, Any] = {}
        for name, value in values.items():
            if cls.former.get(name) != "":
                _put(given, cls.path_of(name), value)
        try:
            presets = cls.presets(given)
        except (TypeError, KeyError, AttributeError):  # a value of another kind: its own field complains
            presets = {}
        for path, value in presets.items():
            if _get(given, cls.path_of(path)) is None:
                _put(given, cls.path_of(path), value)
        for name, record in cls.records().items():
            if isinstance(given.get(name), Mapping):
                given[name] = {**record.model_dump(), **given[name]}
        return given

    @classmethod
    def records(cls) -> dict[str, "HyperParams"]:
        """The records among the fields, with the method's defaults."""
        return {n: info.default for n, info in cls.model_fields.items() if isinstance(info.default, HyperParams)}

    @classmethod
    def path_of(cls, name: str) -> tuple[str, ...]:
        """Where the value called `name` belongs: `epochs` is ("fit", "epochs") in a record that has `fit: Fit`."""
        name = cls.former.get(name, name)
        head, _, tail = name.partition(".")
        records = cls.records()
        if tail and head in records:
            return (head, *type(records[head]).path_of(tail))
        if name not in cls.model_fields:
            for owner, record in sorted(records.items(), key=lambda item: item[0] != "fit"):
                if name in type(record).model_fields:
                    return owner, name
        return (name,)


class Parameter(NamedTuple):
    """One value of a record and of the records in it, under its dotted name."""

    name: str
    info: FieldInfo
    default: Any
    owner: type[HyperParams]  # the record that declares it


def parameters_of(record: type[HyperParams], prefix: str = "", own: HyperParams | None = None) -> Iterator[Parameter]:
    """Every value of `record`, records in it unfolded: `fit.epochs`, `fit.lr`, `gamma`."""
    inner = record.records() if own is None else {n: getattr(own, n) for n in record.records()}
    for name, info in record.model_fields.items():
        if name in inner:
            yield from parameters_of(type(inner[name]), f"{prefix}{name}.", inner[name])
        else:
            yield Parameter(prefix + name, info, info.default if own is None else getattr(own, name), record)


def flat(params: HyperParams) -> dict[str, Any]:
    """The values by dotted name, as plain JSON."""
    found: dict[str, Any] = {}
    for name, value in params.model_dump(mode="json").items():
        nested = {f"{name}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {name: value}
        found.update(nested)
    return found


Record = TypeVar("Record", bound=BaseModel)


def build(record: type[Record], values: Mapping[str, Any], owner: str) -> Record:
    """`record(**values)`, with every complaint as one line that names the owner, the value and what is valid.

    Raises:
        InvalidRequestError: an unknown name (with the nearest one) or a value out of bounds.
    """
    for name in values:
        _check_name(record, name, owner)
    try:
        return record(**values)
    except ValidationError as error:
        raise InvalidRequestError(f"{owner}: {complaint(error)}") from error


def _check_name(record: type[BaseModel], name: str, owner: str) -> None:
    """Refuse a name that neither `record` nor a record in it has."""
    valid = sorted(record.model_fields)
    known = set(valid)
    if issubclass(record, HyperParams):
        paths = [p.name for p in parameters_of(record)]
        valid = sorted({*valid, *paths} - set(record.records()))
        known |= {*paths, *record.former, *(path.rpartition(".")[2] for path in paths)}
    if name not in known:
        hint = nearest(name, known)
        suffix = f" Did you mean {hint!r}?" if hint else ""
        raise InvalidRequestError(
            f"{owner} has no parameter {shown(name)}. Valid: {', '.join(valid) or '(none)'}.{suffix}"
        )


def complaint(error: ValidationError, within: tuple[str, ...] = ()) -> str:
    """Pydantic's findings in one line: `epochs = 0: Input should be greater than 0`; names in `within` are left out."""
    parts = []
    for finding in error.errors(include_url=False):
        steps = finding["loc"]
        where = ".".join(str(step) for step in (steps[1:] if steps[:1] in [(w,) for w in within] else steps))
        where = cut(printable(where), 80) or "request"  # names of keys may come from a file
        parts.append(f"{where} = {shown(finding.get('input'))}: {finding['msg']}")
    more = f"; and {len(parts) - _MOST} more" if len(parts) > _MOST else ""
    return "; ".join(parts[:_MOST]) + more + "."


def _put(target: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    """Set `value` at `path`; a record that is given whole is joined with what is there, name by name."""
    name, *rest = path
    if rest:
        inner = target.get(name)
        if not isinstance(inner, dict):
            inner = inner.model_dump() if isinstance(inner, BaseModel) else {}
        target[name] = inner
        _put(inner, tuple(rest), value)
    elif isinstance(value, Mapping) and isinstance(target.get(name), dict):
        target[name] = {**value, **target[name]}
    else:
        target[name] = dict(value) if isinstance(value, Mapping) else value


def _get(source: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """What stands at `path`, or None."""
    value: Any = source
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
    return value
