"""What a run asks of its stream and of its backbone, as two records that stand inside RunSpec."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    SerializeAsAny,
    WithJsonSchema,
    model_validator,
)

from cillab.core.errors import InvalidRequestError
from cillab.core.params import build
from cillab.protocol.facts import Compared, declare_fields
from cillab.protocol.scenario import Scenario, former, make_scenario, scenarios
from cillab.protocol.scenarios.class_incremental import ClassIncremental

Transform = Literal["tag", "whole", "pilot_compat"]
Precision = Literal["auto", "fp32", "bf16"]


def joined(value: Any) -> Any:
    """A list of class ids as the text that the command line takes: `[3, 1, 2]` -> `3,1,2`."""
    return ",".join(str(item) for item in value) if isinstance(value, list | tuple) else value


AnyScenario = Annotated[
    SerializeAsAny[Scenario],
    BeforeValidator(make_scenario),
    WithJsonSchema({"type": "string", "enum": list(scenarios)}),
]


class StreamSpec(BaseModel):
    """What comes, task by task: data, scenario, split into tasks, order and seed."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True)

    data: Annotated[str, Compared()] = "shields"
    """Data set: shields, digits, a named one (`cillab data list`), folder:DIR, parquet:DIR or hf:NAME."""
    split: Annotated[str, Compared()] = "B0-Inc10"
    """Classes per task: B-m Inc-n = m classes first (n, if m is 0), then n at a time; all = one task."""
    scenario: Annotated[AnyScenario, Compared()] = Field(default_factory=ClassIncremental)
    """How images are dealt out as tasks; `cillab list scenarios` names them, --set-scenario sets their parameters."""
    order: Annotated[str, BeforeValidator(joined), Compared()] = "pilot"
    """Class order: pilot (RandomState(seed).permutation), natural, or label ids such as 3,1,2."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1), Compared(by_seed=True)] = 1993
    """Decides the class order and every random draw of the run."""
    train_per_class: Annotated[PositiveInt | None, Compared()] = None
    """Take the first N training images of each class; all of them if not given."""
    test_per_class: Annotated[PositiveInt | None, Compared()] = None
    """Take the first N test images of each class; all of them if not given."""
    image_column: Annotated[str | None, Compared()] = None
    """Column of a table that holds the images; told by name and type if not given."""
    label_column: Annotated[str | None, Compared()] = None
    """Column of a table that holds the classes; told by name and type if not given."""
    near_duplicates: bool = False
    """Count the test images that look like a training image; decodes every image once."""

    @model_validator(mode="before")
    @classmethod
    def _implied(cls, values: Any) -> Any:
        """Split and order that the scenario implies, where they were not given."""
        if not isinstance(values, Mapping):
            return values
        given = {name: value for name, value in former(values).items() if not (name == "split" and value is None)}
        scenario = make_scenario(given.get("scenario", ClassIncremental()))
        if isinstance(given.get("split"), str | None):  # else the field's own type complains
            given["split"] = scenario.split_of(given.get("split"))
        return {"order": scenario.order, **given, "scenario": scenario}

    @model_validator(mode="after")
    def _enough(self) -> "StreamSpec":
        """Refuse to ask for more images of a class than are taken."""
        most, taken = self.scenario.most, self.train_per_class
        if most is not None and taken is not None and taken < most:
            raise InvalidRequestError(
                f"train_per_class = {taken} leaves fewer images than shots = {most} asks for."
            )  # fmt: skip
        return self

    @classmethod
    def of(cls, values: Mapping[str, Any], owner: str = "stream") -> "StreamSpec":
        """A record from plain values, with one clear line for every complaint.

        Raises:
            InvalidRequestError: an unknown name (with the nearest one) or a value that is not valid.
        """
        return build(cls, former(values), owner)


class BackboneSpec(BaseModel):
    """The frozen model, how it sees an image, and the arithmetic it does. `name` is `--backbone`."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True)

    name: Annotated[str, Compared()] = "bundled:vit"
    """Frozen model: bundled:vit, bundled:clip, timm:MODEL.TAG or openclip:MODEL/TAG."""
    weights: str | None = None
    """Local safetensors file to use instead of a download."""
    image_size: Annotated[PositiveInt | None, Compared(of=lambda made: made.backbone.preprocessing.size)] = None
    """Side of the backbone's input in pixels; what its weights were made for if not given."""
    transform: Annotated[Transform, Compared(of=lambda made: made.backbone.preprocessing.preset)] = "tag"
    """Evaluation transform: tag (as the weights state), whole (no crop), pilot_compat (crop 224/256, [0, 1])."""
    precision: Annotated[Precision, Compared(key=False, of=lambda made: made.backbone.precision)] = "auto"
    """Arithmetic of the backbone: bf16 where the hardware has it (auto), or as named."""
    device: Annotated[str, Compared(key=False, of=lambda made: str(made.backbone.device))] = "auto"
    """auto (CUDA, else the CPU), cpu, cuda, cuda:1, mps (Apple; its float64 sums lie on the CPU)."""
    compile: bool = False
    """Compile the blocks with torch.compile: the first batch takes a minute, and numbers differ in the last digits."""


PARTS: Mapping[str, type[BaseModel]] = {"stream": StreamSpec, "backbone": BackboneSpec}
"""The records inside a run's spec. Their fields have flat names on the command line and on disk."""


def flat_name(part: str, field: str) -> str:
    """The name of a record's field on the command line and on disk: a record's `name` goes by the record's own."""
    return part if field == "name" else field


def flat_fields() -> dict[str, tuple[str, str]]:
    """Part and field by flat name."""
    return {flat_name(part, field): (part, field) for part, kind in PARTS.items() for field in kind.model_fields}


def order_text(order: str | Sequence[int | str], ids: Sequence[int]) -> str:
    """How a class order is written down: the name of a rule, or the ids that a list or a file means."""
    return order if order in ("pilot", "natural") else ",".join(map(str, ids))  # type: ignore[return-value]


declare_fields(StreamSpec, "stream", {"data": "", "split": "", "order": "", "scenario": ClassIncremental()})
declare_fields(BackboneSpec, "backbone", dict.fromkeys(("backbone", "transform", "precision", "device"), ""))
