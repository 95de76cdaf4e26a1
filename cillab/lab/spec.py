"""RunSpec: everything that decides a run, as one typed record. The same names as the options of `cillab run`."""

import json
import shlex
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, model_validator

from cillab.core.errors import InvalidRequestError
from cillab.core.params import build
from cillab.core.scenario import DEFAULTS, Scenario, ScenarioName

Transform = Literal["tag", "whole", "pilot_compat"]
Precision = Literal["auto", "fp32", "bf16"]
Keep = Literal["all", "last", "none"]

# Settings that decide where a run goes and what is kept of it, but none of its numbers.
_NOT_IN_DIGEST = {"out", "cams", "keep_checkpoints"}

# Settings that came later: at their defaults they are left out of the digest, so that older runs keep theirs.
_LATER = {"scenario", "shots", "imbalance"}


def _joined(value: Any) -> Any:
    """A list of class ids as the text that the command line takes: `[3, 1, 2]` -> `3,1,2`."""
    return ",".join(str(item) for item in value) if isinstance(value, list | tuple) else value


class RunSpec(BaseModel):
    """One run: a learner on a backbone over a stream, and how closely it is watched."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True)

    data: str = "shields"
    """Data set: shields, digits, cifar100, folder:DIR, parquet:DIR or hf:NAME."""
    split: str = "B0-Inc10"
    """Classes per task: B-m Inc-n = m classes first (n, if m is 0), then n at a time; all = one task."""
    scenario: ScenarioName = "class-incremental"
    """class-incremental, few-shot (all classes in one task) or base-to-new (half of them, then the rest by name)."""
    shots: int | None = None
    """Training images of the first class, drawn by the seed; all if not given, 16 in few-shot and base-to-new."""
    imbalance: float = 1.0
    """Long tail: images of the last class, in label order, over those of the first; 1 = balanced."""
    order: Annotated[str, BeforeValidator(_joined)] = "pilot"
    """Class order: pilot (RandomState(seed).permutation), natural, or label ids such as 3,1,2."""
    seed: int = 1993
    """Decides the class order and every random draw of the run."""
    train_per_class: PositiveInt | None = None
    """Take the first N training images of each class; all of them if not given."""
    test_per_class: PositiveInt | None = None
    """Take the first N test images of each class; all of them if not given."""
    backbone: str = "bundled:vit"
    """Frozen model: bundled:vit, bundled:clip, timm:MODEL.TAG or openclip:MODEL/TAG."""
    weights: str | None = None
    """Local safetensors file to use instead of a download."""
    image_size: PositiveInt | None = None
    """Side of the backbone's input in pixels; what its weights were made for if not given."""
    transform: Transform = "tag"
    """Evaluation transform: tag (as the weights state), whole (no crop), pilot_compat (crop 224/256, [0, 1])."""
    learner: str = "simplecil"
    """The method; `cillab list learners` names them."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Hyper-parameters of the learner that differ from its defaults."""
    precision: Precision = "auto"
    """Arithmetic of the backbone: bf16 where the hardware has it (auto), or as named."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
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
    def _of_the_scenario(cls, values: Any) -> Any:
        """Split, order and shots that the scenario implies, where they were not given."""
        if not isinstance(values, dict):
            return values
        shots = values.get("shots")
        try:
            shots, imbalance = None if shots is None else int(shots), float(values.get("imbalance", 1.0))
        except (TypeError, ValueError):
            return values  # the fields' own types complain
        scenario = Scenario.of(str(values.get("scenario", "class-incremental")), shots, imbalance)
        split, order, _ = DEFAULTS[scenario.name]
        given = {"split": split, "order": order, **values}
        return {**given, "split": scenario.split(given["split"]), "shots": scenario.shots}

    @classmethod
    def of(cls, values: Mapping[str, Any], owner: str = "run") -> "RunSpec":
        """A spec from plain values, with one clear line for every complaint.

        Raises:
            InvalidRequestError: an unknown name (with the nearest one) or a value that is not valid.
        """
        return build(cls, values, owner)

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
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)

    def write(self, path: str | Path) -> None:
        """Write the YAML file that `cillab run FILE` takes."""
        path = Path(path)
        aside = path.with_name(path.name + ".tmp")
        aside.write_text(self.to_yaml(), encoding="utf-8")
        aside.replace(path)

    def with_(self, **changes: Any) -> "RunSpec":
        """A copy with some fields changed, validated like a new one."""
        return self.of({**self.model_dump(), **changes})

    def digest(self) -> str:
        """Hash of every field that can change a number of the result; 16 hexadecimal digits."""
        unsaid = {name for name in _LATER if getattr(self, name) == type(self).model_fields[name].default}
        decisive = self.model_dump(mode="json", exclude=_NOT_IN_DIGEST | unsaid)
        text = json.dumps(decisive, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return blake2b(text.encode(), digest_size=8).hexdigest()

    def folder(self) -> Path:
        """Where the run goes: `out`, or a name made of what the run is."""
        if self.out is not None:
            return Path(self.out)
        data = "".join(c if c.isalnum() else "-" for c in self.data).strip("-")
        return Path("runs") / f"{self.learner}-{data}-{self.split}-{self.seed}"

    def arguments(self) -> list[str]:
        """The words after `cillab` that do this run again; options at their defaults are left out."""
        words = ["run"]
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if name in ("params", "out") or value == field.default:
                continue
            option = "--" + name.replace("_", "-")
            words += [option] if value is True else [option, str(value)]
        for key, value in self.params.items():
            words += ["--set", f"{key}={_written(value)}"]
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
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidRequestError(f"No spec file {str(path)!r}.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidRequestError(f"Cannot read {str(path)!r} as YAML: {error}") from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise InvalidRequestError(f"{str(path)!r} must hold `name: value` lines, got {type(values).__name__}.")
    return values


def parse_setting(text: str) -> tuple[str, Any]:
    """`key=value` of `--set`: numbers, true/false, null and JSON lists are understood, the rest is text.

    Raises:
        InvalidRequestError: no `=`, or nothing before it.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise InvalidRequestError(f"--set {text!r} is not of the form key=value, as in --set epochs=3.")
    try:
        return key.strip(), json.loads(value)
    except json.JSONDecodeError:
        words = {"True": True, "False": False, "None": None}  # as Python writes them
        return key.strip(), words.get(value, value)


def _written(value: Any) -> str:
    """The inverse of `parse_setting`: text stays as it is unless it would be read as something else."""
    if isinstance(value, str) and parse_setting(f"key={value}")[1] == value:
        return value
    return json.dumps(value)
