"""RunSpec: everything that decides a run, as one typed record. The same names as the options of `cillab run`."""

import json
import shlex
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.fields import FieldInfo

from cillab.core.errors import InvalidRequestError, nearest, one_line, shown
from cillab.core.params import complaint
from cillab.protocol.scenario import former, make_scenario
from cillab.protocol.specs import PARTS, BackboneSpec, StreamSpec, flat_fields, flat_name

Keep = Literal["all", "last", "none"]

_LONGEST = 80  # of a data set's name in that of a folder: the end of a long path tells it from others
_MOST_VALUES = 100_000  # of a YAML file, aliases written out

# Settings that decide where a run goes and what is kept of it, but none of its numbers.
NOT_IN_DIGEST = {"out", "cams", "keep_checkpoints", "near_duplicates"}
_LATER = (
    "image_column",
    "label_column",
    "compile",
)  # settings that once were not there: runs from then keep their digest
_FORMER = ("shots", "imbalance")  # of older files; today parameters of a scenario
_WHERE = flat_fields()


class RunSpec(BaseModel):
    """One run: a learner on a backbone over a stream, and how closely it is watched.

    `stream` and `backbone` are records. Everywhere outside Python their fields are flat: `RunSpec.of({"data": "digits",
    "backbone": "bundled:clip"})`, `--data digits`, `data: digits`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True)

    stream: StreamSpec = Field(default_factory=StreamSpec)
    """What comes, task by task."""
    backbone: BackboneSpec = Field(default_factory=BackboneSpec)
    """What looks at it."""
    learner: str = "simplecil"
    """The method; `cillab list learners` names them."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Hyper-parameters of the learner that differ from its defaults."""
    probe_points: Annotated[int, Field(ge=1, le=2000)] = 500
    """Test images that are followed through the whole run, the same number of each class."""
    train_probe_per_class: Annotated[int, Field(ge=1)] = 20
    """Training images of each seen class on which collapse and drift are measured (the learner does not see them)."""
    cams: bool = False
    """Keep Grad-CAM maps of the probe points with every step."""
    keep_checkpoints: Keep = "all"
    """Which tasks' states stay on disk: all (any task can be reopened), the last one, none. Until a run is finished the
    last one stays in any case, so that it can be resumed."""
    out: str | None = None
    """Run folder. Must not exist, or be empty."""

    @model_validator(mode="before")
    @classmethod
    def _parted(cls, values: Any) -> Any:
        """Flat names into the records that they belong to."""
        if not isinstance(values, Mapping):
            return values
        parts: dict[str, dict[str, Any]] = {part: {} for part in PARTS}
        whole: dict[str, Any] = {}
        for name, value in former(values).items():
            if isinstance(value, BaseModel) and name in PARTS:
                whole[name] = value
            elif isinstance(value, Mapping) and name in PARTS:
                parts[name].update(value)
            elif name in _WHERE:
                part, field = _WHERE[name]
                parts[part][field] = value
            else:
                whole[name] = value
        return {**{part: given for part, given in parts.items() if given}, **whole}

    @field_validator("params", mode="before")
    @classmethod
    def _none(cls, value: Any) -> Any:
        return {} if value is None else value

    @classmethod
    def of(cls, values: Mapping[str, Any], owner: str = "run") -> "RunSpec":
        """A spec from plain values, with one clear line for every complaint.

        Raises:
            InvalidRequestError: an unknown name (with the nearest one) or a value that is not valid.
        """
        known = [*cls.settings(), *PARTS]
        for name in values:
            if name not in known and name not in _FORMER:
                hint = nearest(name, known)
                suffix = f" Did you mean {hint!r}?" if hint else ""
                raise InvalidRequestError(f"{owner} has no parameter {shown(name)}. Valid: {', '.join(known)}.{suffix}")
        try:
            return cls(**values)
        except ValidationError as error:
            raise InvalidRequestError(f"{owner}: {complaint(error, within=tuple(PARTS))}") from error

    @classmethod
    def settings(cls) -> dict[str, FieldInfo]:
        """Everything that can be asked for, by flat name: what options and forms are made from."""
        found: dict[str, FieldInfo] = {}
        for name, info in cls.model_fields.items():
            if name in PARTS:
                inner = PARTS[name].model_fields
                found |= {flat_name(name, field): inner[field] for field in inner}
            else:
                found[name] = info
        return found

    @classmethod
    def schema_of_settings(cls) -> dict[str, Any]:
        """JSON schema of `settings`: flat, as a form draws it."""
        own = cls.model_json_schema()["properties"]
        inner = {part: kind.model_json_schema()["properties"] for part, kind in PARTS.items()}
        found: dict[str, Any] = {}
        for name in cls.settings():
            part, field = _WHERE.get(name, ("", name))
            found[name] = inner[part][field] if part else own[name]
        return {"title": "RunSpec", "type": "object", "properties": found}

    @model_serializer(mode="plain")
    def flat(self) -> dict[str, Any]:
        """Every setting by flat name, as plain JSON: what stands in run.json and spec.yaml."""
        found: dict[str, Any] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, BaseModel):
                inner = value.model_dump(mode="json")
                found |= {flat_name(name, field): inner[field] for field in inner}
            else:
                found[name] = value
        return found

    @classmethod
    def read(cls, path: str | Path) -> "RunSpec":
        """The spec in a YAML file.

        Raises:
            InvalidRequestError: the file is missing, is not YAML, or holds something that a spec does not.
        """
        path = Path(path)
        values = read_yaml(path)
        return cls.of(values, owner=path.name)

    def to_yaml(self) -> str:
        """The whole spec, defaults included, so that it means the same after a default has changed."""
        return yaml.safe_dump(self.flat(), sort_keys=False, allow_unicode=True, width=110)

    def write(self, path: str | Path) -> None:
        """Write the YAML file that `cillab run FILE` takes."""
        path = Path(path)
        aside = path.with_name(path.name + ".tmp")
        aside.write_text(self.to_yaml(), encoding="utf-8")
        aside.replace(path)

    def with_(self, **changes: Any) -> "RunSpec":
        """A copy with some fields changed, validated like a new one."""
        return self.of({**self.flat(), **changes})

    def digest(self) -> str:
        """Hash of every field that can change a number of the result; 16 hexadecimal digits."""
        decisive = {name: value for name, value in self.flat().items() if name not in NOT_IN_DIGEST}
        if self.stream.scenario == make_scenario("class-incremental"):
            del decisive["scenario"]  # there was no other once, and runs from then keep their digest
        decisive = {name: value for name, value in decisive.items() if name not in _LATER or value not in (None, False)}
        text = json.dumps(decisive, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return blake2b(text.encode(), digest_size=8).hexdigest()

    def params_digest(self) -> str:
        """Hash of learner and hyper-parameters alone."""
        return RunSpec(learner=self.learner, params=self.params).digest()

    def folder(self) -> Path:
        """Where the run goes: `out`, or a name made of what the run is."""
        if self.out is not None:
            return Path(self.out).expanduser()
        s = self.stream
        data = "".join(c if c.isalnum() else "-" for c in s.data[-_LONGEST:]).strip("-")
        split = s.split if s.scenario.takes_split else s.scenario.name
        return Path("runs") / f"{self.learner}-{data}-{split}-{s.seed}"

    def arguments(self) -> list[str]:
        """The words after `cillab` that do this run again; what is implied or a default is left out."""
        scenario, words = self.stream.scenario, ["run"]
        implied = RunSpec.of({"scenario": scenario.name}).flat() | {"scenario": "class-incremental"}
        for name, value in (self.flat() | {"scenario": scenario.name}).items():
            if name not in ("params", "out") and value != implied[name]:
                option = "--" + name.replace("_", "-")
                words += [option] if value is True else [option, str(value)]
        usual = make_scenario(scenario.name).settings
        changed = {key: value for key, value in scenario.settings.items() if value != usual[key]}
        for option, values in (("--set-scenario", changed), ("--set", self.params)):
            for key, value in values.items():
                words += [option, f"{key}={_written(value)}"]
        return [*words, "--out", str(self.folder())]

    def command(self) -> str:
        """The line that does this run again."""
        return shlex.join(["cillab", *self.arguments()])


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds names and values.

    Raises:
        InvalidRequestError: the file is missing, unreadable, or something else.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_NamesOnce)
        _must_be_small(values)
    except RecursionError:
        raise InvalidRequestError(f"{shown(str(path), 200)} is nested too deeply.") from None
    except FileNotFoundError:
        raise InvalidRequestError(f"No spec file {shown(str(path), 200)}.") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InvalidRequestError(f"Cannot read {shown(str(path), 120)} as YAML: {one_line(error)[:200]}") from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise InvalidRequestError(
            f"{shown(str(path), 200)} must hold `name: value` lines, got {type(values).__name__}."
        )
    return values


class _NamesOnce(yaml.SafeLoader):
    """A mapping that gives a name twice is a mistake; YAML's own loader keeps the last value without a word."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        given = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if twice := sorted({name for name in given if given.count(name) > 1}):
            raise yaml.YAMLError(
                f"{', '.join(map(repr, twice))} given twice in line {node.start_mark.line + 1} and below"
            )
        return node


def _must_be_small(values: Any) -> None:
    """Refuse a file that grows when it is written out: an alias stands for all that it names, again and again.

    Raises:
        YAMLError: it would be larger than any spec, or holds itself.
    """
    sizes: dict[int, int | None] = {}  # by identity; None while it is being counted

    def size(node: Any) -> int:
        if not isinstance(node, dict | list):
            return 1
        known = sizes.get(id(node), 0)
        if known is None:
            raise yaml.YAMLError("an alias stands for something that holds it")
        if not known:
            sizes[id(node)] = None
            inner = node.values() if isinstance(node, dict) else node
            known = sizes[id(node)] = 1 + sum(size(one) for one in inner)
        if known > _MOST_VALUES:
            raise yaml.YAMLError(f"written out, it would hold more than {_MOST_VALUES:,} values")
        return known

    size(values)


def parse_setting(text: str) -> tuple[str, Any]:
    """`key=value` of `--set`: numbers, true/false, null and JSON lists are understood, the rest is text.

    Raises:
        InvalidRequestError: no `=`, or nothing before it.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise InvalidRequestError(f"--set {shown(text)} is not of the form key=value, as in --set epochs=3.")
    try:
        return key.strip(), json.loads(value)
    except (ValueError, RecursionError):
        words = {"True": True, "False": False, "None": None}  # as Python writes them
        return key.strip(), words.get(value, value)


def _written(value: Any) -> str:
    """The inverse of `parse_setting`: text stays as it is unless it would be read as something else."""
    if isinstance(value, str) and parse_setting(f"key={value}")[1] == value:
        return value
    return json.dumps(value)
