"""A list of deltas that grows by one per task: adapters, low-rank branches, prompts of their own."""

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar, final

from torch import nn

from cillab.core.contract import Part, State

D = TypeVar("D", bound=Part)  # a delta with parameters as well: `Slots`, `LoRA`, `Affine`, `Overlay`


@final
class Wardrobe(Part, Generic[D]):
    """Deltas made one after the other by `make(i)`, oldest first. Their state is that of each under `i/name`.

        adapters = Wardrobe(lambda i: adapters(learner, 64, i))
        newest = adapters.grow()                     one more, to be trained
        h = [run(adapter) for adapter in adapters]   the images at hand under each

    `make` is called again when a state with more deltas is loaded: it must need nothing but the number.
    """

    def __init__(self, make: Callable[[int], D]) -> None:
        self._make = make
        self._worn: list[D] = []

    def grow(self) -> D:
        """Make one more; it is the last from now on."""
        self._worn.append(self._make(len(self._worn)))
        return self._worn[-1]

    def __len__(self) -> int:
        return len(self._worn)

    def __iter__(self) -> Iterator[D]:
        return iter(self._worn)

    def __getitem__(self, index: int) -> D:
        return self._worn[index]

    def parameters(self) -> Iterator[nn.Parameter]:
        """The parameters of all, oldest first."""
        one: Any
        for one in self._worn:
            yield from one.parameters()

    def state(self) -> State:
        """The state of each, and how many there are."""
        states = [worn.state() for worn in self._worn]
        tensors = {f"{i}/{name}": t for i, state in enumerate(states) for name, t in state.tensors.items()}
        only = frozenset(f"{i}/{name}" for i, state in enumerate(states) for name in state.learning_only)
        return State(tensors, {"count": len(states), "each": [dict(state.meta) for state in states]}, only)

    def load(self, state: State) -> None:
        """As many deltas as `state` has, each with its own state."""
        count = int(state.meta["count"])
        del self._worn[count:]
        while len(self._worn) < count:
            self.grow()
        for i, worn in enumerate(self._worn):
            start = f"{i}/"
            own = {k.removeprefix(start): t for k, t in state.tensors.items() if k.startswith(start)}
            worn.load(State(own, state.meta["each"][i]))
