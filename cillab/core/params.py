"""Hyper-parameters: typed, frozen, documented records that refuse what they do not know."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from cillab.core.errors import InvalidRequestError, nearest


class HyperParams(BaseModel):
    """Base of a learner's hyper-parameters. Stored with every run; its schema draws the app's form."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True)


Record = TypeVar("Record", bound=BaseModel)


def build(record: type[Record], values: Mapping[str, Any], owner: str) -> Record:
    """`record(**values)`, with every complaint as one line that names the owner, the value and what is valid.

    Raises:
        InvalidRequestError: an unknown name (with the nearest one) or a value out of bounds.
    """
    valid = sorted(record.model_fields)
    for name in values:
        if name not in valid:
            hint = nearest(name, valid)
            suffix = f" Did you mean {hint!r}?" if hint else ""
            raise InvalidRequestError(
                f"{owner} has no parameter {name!r}. Valid: {', '.join(valid) or '(none)'}.{suffix}"
            )
    try:
        return record(**values)
    except ValidationError as error:
        raise InvalidRequestError(f"{owner}: {complaint(error)}") from error


def complaint(error: ValidationError) -> str:
    """Pydantic's findings in one line: `epochs = 0: Input should be greater than 0`."""
    parts = []
    for finding in error.errors(include_url=False):
        where = ".".join(str(step) for step in finding["loc"]) or "request"
        parts.append(f"{where} = {finding.get('input')!r}: {finding['msg']}")
    return "; ".join(parts) + "."
