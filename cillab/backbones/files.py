"""Weights in local files: safetensors only, loaded strictly, complaints in one line that names file and key."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open

from cillab.core.errors import CillabError, WeightsError, one_line

_FOREIGN = re.compile(r'(Missing|Unexpected) key\(s\) in state_dict: "([^"]+)"')
_MISSHAPEN = re.compile(
    r"size mismatch for ([^:\s]+): copying a param with shape torch\.Size\(([^)]*)\) from checkpoint, "
    r"the shape in current model is torch\.Size\(([^)]*)\)"
)


def shapes_in(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors in a safetensors file, read from its header alone.

    Raises:
        WeightsError: no such file, another format (a pickle can run code when it is opened), or a damaged file.
    """
    if not path.is_file():
        raise WeightsError(f"No weights file {path}.")
    if path.suffix != ".safetensors":
        raise WeightsError(
            f"{path} is not a .safetensors file. Pickles (.pth, .pt, .bin) can run code when opened and are refused; "
            "convert it where you trust it: safetensors.torch.save_file(torch.load(OLD, weights_only=True), NEW)."
        )
    try:
        with safe_open(path, "pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no dict
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file: {one_line(error)}.") from error


@contextmanager
def complaints_about(path: Path, model: str) -> Iterator[None]:
    """Whatever a library says while it loads `path` strictly, as one `WeightsError` with the first offending key."""
    try:
        yield
    except CillabError:
        raise
    except Exception as error:
        raise WeightsError(f"{path} does not fit {model}: {_first_offence(str(error))}") from error


def _first_offence(message: str) -> str:
    if found := _MISSHAPEN.search(message):
        key, given, wanted = found.groups()
        return f"{key!r} has shape {given}, the model wants {wanted}."
    if found := _FOREIGN.search(message):
        kind, key = found.groups()
        return f"{key!r} is missing." if kind == "Missing" else f"the model has no {key!r}."
    return " ".join(message.split())[:300] or "it could not be read."
