"""Parts as one bundle: pack for a checkpoint, unpack from one, undo when something stops half-way."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from cillab.core.contract import Part, State
from cillab.core.errors import InvalidRequestError, RunError


def snapshot(parts: Mapping[str, Part]) -> dict[str, State]:
    """Copies of all states: later training does not change them."""
    return {
        name: State(
            {key: tensor.detach().clone() for key, tensor in state.tensors.items()}, state.meta, state.learning_only
        )
        for name, state in ((name, part.state()) for name, part in parts.items())
    }


def restore(parts: Mapping[str, Part], states: Mapping[str, State]) -> None:
    """Load every state into the part of the same name.

    Raises:
        RunError: the names differ, so the states belong to another learner.
    """
    if set(parts) != set(states):
        raise RunError(f"The checkpoint holds parts {sorted(states)}, the learner has {sorted(parts)}.")
    for name, part in parts.items():
        part.load(states[name])


@contextmanager
def undone_on_failure(parts: Mapping[str, Part]) -> Iterator[None]:
    """Whatever ends this block early (an error, a cancel, a closed generator), the parts are as they were before it.

    Parameters are copied, since optimisers write them in place. All other tensors are only held: a part replaces them
    (a Gram matrix of 10,000 x 10,000 is 800 MB).
    """
    before = {name: _held(part.state()) for name, part in parts.items()}
    try:
        yield
    except BaseException:  # GeneratorExit too: closing `observe` half-way must change nothing
        restore(parts, before)
        raise


def not_finite(parts: Mapping[str, Part]) -> str | None:
    """The first tensor that holds infinity or NaN, by `part/name`; None where all are finite. Copies nothing."""
    for name, part in parts.items():
        for key, tensor in part.state().tensors.items():
            if tensor.is_floating_point() and tensor.numel():
                low, high = tensor.detach().aminmax()
                if not bool(torch.isfinite(low) & torch.isfinite(high)):
                    return f"{name}/{key}"
    return None


def exploded(where: str, task: int) -> InvalidRequestError:
    """What to say, and to try, when learning has left the numbers."""
    return InvalidRequestError(
        f"Task {task + 1} left numbers that are not finite ({where}): the learner is as it was before it. "
        "Lower the learning rate (--set lr=...), or clip gradients (--set clip=1)."
    )


def _held(state: State) -> State:
    tensors = {k: t.detach().clone() if isinstance(t, nn.Parameter) else t for k, t in state.tensors.items()}
    return State(tensors, state.meta, state.learning_only)


def upgraded(states: Mapping[str, State], parts: Mapping[str, Part], former: Mapping[str, str]) -> dict[str, State]:
    """The states of an older checkpoint under today's names.

    `former` says what parts were called. Older checkpoints had their class ids in several parts, and no roster.
    """
    found = {former.get(name, name): state for name, state in states.items()}
    if "roster" in parts and "roster" not in found:
        metas = [state.meta for state in found.values()]
        classes = next((m[key] for m in metas for key in ("classes", "seen") if m.get(key)), [])
        found["roster"] = State({}, {"classes": classes, "tasks": [0] * len(classes)})
    return found


def pack(states: Mapping[str, State], *, slim: bool = False) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors named `part/tensor` and string metadata, as safetensors wants them.

    `slim` leaves out what only further learning needs: such a checkpoint can be looked at, not resumed.
    """
    tensors: dict[str, Tensor] = {}
    meta: dict[str, str] = {"slim": json.dumps(slim)}
    for name, state in states.items():
        kept = {k: t for k, t in state.tensors.items() if not (slim and k in state.learning_only)}
        tensors |= {f"{name}/{key}": tensor.detach().cpu().contiguous() for key, tensor in kept.items()}
        meta[f"part:{name}"] = json.dumps({"meta": state.meta, "learning_only": sorted(state.learning_only)})
    return tensors, meta


def unpack(tensors: Mapping[str, Tensor], meta: Mapping[str, str]) -> dict[str, State]:
    """The inverse of `pack`."""
    states = {}
    for key, text in meta.items():
        if key.startswith("part:"):
            name = key.removeprefix("part:")
            own = {k.removeprefix(f"{name}/"): t for k, t in tensors.items() if k.startswith(f"{name}/")}
            described = json.loads(text)
            states[name] = State(own, described["meta"], frozenset(described["learning_only"]))
    return states
