"""Parts as modules: state and load are written once, and shapes follow what is loaded."""

from abc import abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cillab.core.contract import Head, Part, State, Task
from cillab.core.devices import doubles_on
from cillab.core.errors import RunError


class ModulePart(nn.Module, Part):
    """A part whose state is its parameters, its buffers and the plain attributes that it names.

    Shapes are lazy: a part begins with empty tensors and takes those of a state. Parameters are what optimisers write
    in place; buffers are replaced, never written in place, so that undoing a task costs no copy of them.
    """

    plain: ClassVar[tuple[str, ...]] = ()
    """Attributes of plain JSON that belong to the state; lists come back as tuples."""
    learning_only: ClassVar[frozenset[str]] = frozenset()
    """Tensors that classifying can do without."""

    def __setattr__(self, name: str, value: object) -> None:
        """Assign; a buffer becomes contiguous, as from a file: LAPACK's layouts round otherwise."""
        if isinstance(value, Tensor) and name in self.__dict__.get("_buffers", ()):
            value = value.contiguous()
        super().__setattr__(name, value)  # pyright: ignore[reportArgumentType]

    def held(self) -> dict[str, Tensor]:
        """Parameters and buffers by dotted name."""
        return {**dict(self.named_parameters()), **dict(self.named_buffers())}

    def state(self) -> State:
        """Parameters, buffers and plain attributes, those of parts inside this one included."""
        meta = {path: _as_json(getattr(part, name)) for path, (part, name) in self._plain_by_path().items()}
        return State(self.held(), meta, self.learning_only)

    def load(self, state: State) -> None:
        """Take over everything, shapes included; what a slim state lacks is emptied. Nothing requires grad afterwards.

        Raises:
            RunError: a tensor is missing or left over.
        """
        for path, (part, name) in self._plain_by_path().items():
            if path in state.meta:
                setattr(part, name, _from_json(state.meta[path]))
        own = self.held()
        if odd := sorted((set(own) - set(state.tensors) - self.learning_only) | (set(state.tensors) - set(own))):
            raise RunError(f"The checkpoint does not fit a {type(self).__name__}: {odd[0]!r} is there or here alone.")
        for name, tensor in own.items():
            given = state.tensors.get(name, tensor.new_zeros((0,) * tensor.dim()))
            self.put(name, given.detach().clone().to(tensor.device))

    def _plain_by_path(self) -> dict[str, tuple[nn.Module, str]]:
        """Owner and name of every plain attribute, by the dotted name under which tensors of that owner are held."""
        parts = [(path, part) for path, part in self.named_modules() if isinstance(part, ModulePart)]
        return {f"{path}.{name}" if path else name: (part, name) for path, part in parts for name in part.plain}

    def put(self, name: str, value: Tensor) -> None:
        """Replace the parameter or buffer called `name` by `value`, whatever its shape; contiguous, as from a file."""
        value = value.contiguous()
        path, _, leaf = name.rpartition(".")
        owner = self.get_submodule(path)
        if leaf in owner._parameters:
            owner._parameters[leaf] = nn.Parameter(value, requires_grad=False)
        else:
            owner._buffers[leaf] = value


class Classifier(ModulePart):
    """Rows that features are compared with: one logit per class that arrived so far, in the order of `classes`."""

    plain: ClassVar[tuple[str, ...]] = ("classes",)

    def __init__(self) -> None:
        super().__init__()
        self.classes: tuple[int, ...] = ()

    @abstractmethod
    def grow(self, arriving: tuple[int, ...]) -> None:
        """A column for every class in `arriving` that has none."""

    def arrive(self, task: Task) -> None:
        """Room for the classes of `task`, and whatever else it says about them."""
        self.grow(task.classes)

    @abstractmethod
    def forward(self, features: Float[Tensor, "image feature"]) -> Float[Tensor, "image cls"]:
        """One score per class, in the order of `classes`."""

    @abstractmethod
    def rows(self) -> Head:
        """What features are compared with, for geometry."""


class Roster(ModulePart):
    """The classes in the order in which they were first seen, and the task that brought each."""

    plain: ClassVar[tuple[str, ...]] = ("classes", "tasks")

    def __init__(self) -> None:
        super().__init__()
        self.classes: tuple[int, ...] = ()
        self.tasks: tuple[int, ...] = ()  # index of the task that brought the class at the same place
        self.old: tuple[int, ...] = ()  # those that were there before the newest task was entered

    def enter(self, task: Task) -> None:
        """Write down the classes of `task` that are new."""
        self.old = self.classes
        arriving = tuple(c for c in dict.fromkeys(task.classes) if c not in set(self.classes))
        self.classes += arriving
        self.tasks += (task.index,) * len(arriving)


def _as_json(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _from_json(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def empty(*shape: int, device: torch.device | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor of zeros that is going to grow; one of float64 where the device has it (`doubles_on`)."""
    return torch.zeros(*shape, device=doubles_on(device) if dtype == torch.float64 else device, dtype=dtype)
