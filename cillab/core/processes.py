"""One run on several processes, as `accelerate launch` and `torchrun` start them.

Every process is the whole run: same seed, same stream, same learner. Two places divide the work between them and put it
together again, so that all processes hold the same state at every moment: the forward passes of a frozen backbone
(features of all images are gathered) and gradient steps (gradients are averaged). What a method does with features and
gradients is not divided, and needs to know nothing of this. The first process writes the run; the others write the same
into a folder that is thrown away.
"""

import atexit
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor, distributed

from cillab.core.arrays import double
from cillab.core.errors import RunError
from cillab.core.launched import expected

_APART = 1e-3  # relative difference of a sum beyond which states are not the same up to rounding


def begin() -> None:
    """Join the other processes, if a launcher has started several: NCCL between CUDA devices, else gloo."""
    if expected() == 1 or distributed.is_initialized():
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    atexit.register(_leave)


def count() -> int:
    """Processes of this run."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def mine(rows: int) -> slice:
    """The rows of a batch that are this process's; all of them where there are too few to divide."""
    if rows < count():
        return slice(0, rows)
    each, more = divmod(rows, count())
    own = distributed.get_rank() if count() > 1 else 0
    first = own * each + min(own, more)
    return slice(first, first + each + (own < more))


def share(rows: int) -> float:
    """The weight of this process's own mean in the mean over `rows` images."""
    own = mine(rows)
    return (own.stop - own.start) / rows if rows >= count() else 1 / count()


def gathered(part: Tensor, rows: int) -> Tensor:
    """The rows of all processes, in order, from each one's `mine(rows)`."""
    if count() == 1 or rows < count():
        return part
    most = -(-rows // count())
    own = part.new_zeros(most, *part.shape[1:])
    own[: len(part)] = part
    found = [torch.empty_like(own) for _ in range(count())]
    distributed.all_gather(found, own)
    sizes = [rows // count() + (number < rows % count()) for number in range(count())]
    return torch.cat([one[:size] for one, size in zip(found, sizes, strict=True)])


def average_gradients(parameters: Sequence[Tensor], share: float) -> None:
    """Replace every gradient by the mean over the whole batch; `share` of its images are this process's.

    A gradient that no process has stays None: an optimiser skips it.
    """
    if count() == 1:
        return
    there = parameters[0].new_tensor([parameter.grad is not None for parameter in parameters])
    rows = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([there, *(share * row.reshape(-1) for row in rows)])
    distributed.all_reduce(flat)
    own, *sums = flat.split([len(rows), *(row.numel() for row in rows)])
    for parameter, somewhere, summed in zip(parameters, own.tolist(), sums, strict=True):
        parameter.grad = summed.reshape(parameter.shape) if somewhere else None


def mean(value: Tensor, share: float) -> Tensor:
    """A mean over the whole batch from each process's own; `share` of the images are this process's."""
    if count() == 1:
        return value
    value = share * value.detach()
    distributed.all_reduce(value)
    return value


def must_agree(tensors: Iterable[Tensor], facts: Any, what: str) -> None:
    """Refuse to go on where the processes hold different states: their next gathering would mix them.

    `facts` is what states hold as JSON: counts and names must be the same, real numbers may differ by rounding.

    Raises:
        RunError: a fact, or a sum or a sum of squares beyond rounding, differs.
    """
    if count() == 1:
        return
    sums = [one for t in map(double, (t.detach() for t in tensors if t.is_floating_point()))
            for one in (t.sum(), t.square().sum())]  # fmt: skip
    on = torch.device("cuda", torch.cuda.current_device()) if distributed.get_backend() == "nccl" else "cpu"
    own = torch.stack([one.to(on) for one in (*sums, *_digits(facts))])
    found = [torch.empty_like(own) for _ in range(count())]
    distributed.all_gather(found, own)
    scale = torch.stack(found).abs().amax(dim=0).clamp(min=1e-6)
    if bool(((torch.stack(found) - found[0]).abs() > _APART * scale).any()):
        raise RunError(f"The processes disagree about {what}: this method cannot be run on several. Start one process.")


def _digits(facts: Any) -> Float64[Tensor, " word"]:
    """SHA-256 of `facts` without their real numbers, as words from 1 to 2; those of other facts differ by a lot."""

    def exact(fact: Any) -> Any:
        if isinstance(fact, Mapping):
            return {str(name): exact(value) for name, value in fact.items()}
        if isinstance(fact, list | tuple):
            return [exact(value) for value in fact]
        return None if isinstance(fact, float) else fact

    digest = sha256(json.dumps(exact(facts), sort_keys=True, default=str).encode()).digest()
    return torch.tensor([1 + byte / 255 for byte in digest], dtype=torch.float64)


def wait() -> None:
    """Wait until every process is here."""
    if count() > 1:
        distributed.barrier()


def _leave() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()
