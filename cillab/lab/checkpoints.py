"""A learner's state on disk: safetensors, written as a whole or not at all, read back before it counts."""

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cillab.core.contract import Learner, Part, State
from cillab.core.errors import RunError, one_line
from cillab.core.state import pack, restore, unpack, upgraded
from cillab.runs.arrays import Arrays
from cillab.runs.files import write_atomically
from cillab.runs.sums import sealed_arrays


def save(path: Path, parts: Mapping[str, Part], *, slim: bool = False) -> None:
    """Write the parts' state; `slim` leaves out what only further learning needs.

    Raises:
        RunError: the disk is full, or the file does not read back as it was written.
    """
    write_states(path, {name: part.state() for name, part in parts.items()}, slim=slim)


def write_states(path: Path, states: Mapping[str, State], *, slim: bool = False) -> None:
    """`save` for states that are already at hand."""
    tensors, meta = pack(states, slim=slim)
    content = sealed_arrays(safetensors.torch.save(_unshared(tensors), metadata=meta))
    write_atomically(path, lambda file: file.write(content))
    if path.read_bytes() != content:
        path.unlink(missing_ok=True)
        raise RunError(f"{path} does not read back as it was written: the disk or its file system loses data.")


def read_states(path: Path) -> tuple[dict[str, State], bool]:
    """The states in a checkpoint, and whether it was slimmed.

    Raises:
        RunError: missing or damaged.
    """
    Arrays(path).verify()
    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        return unpack(tensors, meta), meta.get("slim") == "true"
    except FileNotFoundError:
        raise RunError(f"{path} is missing.") from None
    except (SafetensorError, ValueError, KeyError, OSError) as error:
        raise RunError(f"{path} is damaged: {one_line(error)}") from error


def load(path: Path, learner: Learner, *, whole: bool = True) -> None:
    """Make `learner` what the checkpoint describes; `whole` asks for one that learning can go on from.

    Raises:
        RunError: missing, damaged, slimmed although `whole`, or of another kind of learner.
    """
    states, slim = read_states(path)
    if slim and whole:
        raise RunError(f"{path} was slimmed: it can be looked at, but learning cannot go on from it.")
    parts = learner.parts()
    restore(parts, upgraded(states, parts, learner.former_parts))


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Safetensors refuses two names for one memory: give the second its own copy."""
    found: dict[str, Tensor] = {}
    taken: set[int] = set()
    for name, tensor in tensors.items():
        address = tensor.untyped_storage().data_ptr()
        found[name] = tensor.clone() if address in taken else tensor
        taken.add(address)
    return found
