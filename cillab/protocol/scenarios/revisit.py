"""revisit: the whole sequence of tasks comes again, each time with other images."""

from typing import Annotated, ClassVar, final

import numpy as np
from pydantic import Field

from cillab.core.errors import InvalidRequestError
from cillab.protocol.dealing import joined, settled
from cillab.protocol.scenario import Deck, Plan, Scenario, scenario
from cillab.protocol.splits import parse_split


@scenario("revisit")
@final
class Revisit(Scenario):
    """Classes return: the tasks of the split come `rounds` times, each time with another part of the images.

    With one class a task, 100 classes and three rounds this is a stream of 300 tasks. A task that brings no new class
    has no test images of its own; accuracy is that on all classes seen. Source of the idea: class-incremental with
    repetition, Hemati et al., CoLLAs 2023, arXiv:2301.11396.
    """

    split: ClassVar[str] = "B0-Inc10"
    takes_split: ClassVar[bool] = True
    rounds: Annotated[int, Field(ge=1)] = 2
    """How often each task comes."""

    def deal(self, deck: Deck) -> tuple[Plan, ...]:
        """Divide each class's images over the rounds."""
        parts: dict[int, list[np.ndarray]] = {}
        for c in deck.order:
            if len(deck.train[c]) < self.rounds:
                raise InvalidRequestError(
                    f"revisit: rounds = {self.rounds}, and class {deck.names[c]!r} has {len(deck.train[c])} images."
                )
            mixed = deck.train[c] if self.rounds == 1 else deck.draw("revisit", c).permutation(deck.train[c])
            parts[c] = [np.sort(part) for part in np.array_split(mixed, self.rounds)]
        blocks, start = [], 0
        for size in parse_split(deck.split, len(deck.order)):
            blocks.append(deck.order[start : start + size])
            start += size
        tasks = [(block, joined([parts[c][k] for c in block])) for k in range(self.rounds) for block in blocks]
        return settled(tasks, deck.test)
