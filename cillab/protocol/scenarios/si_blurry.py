"""si-blurry: some classes belong to one task alone, images of the others stray into other tasks."""

from typing import Annotated, ClassVar, Literal, final

import numpy as np
from pydantic import Field, PositiveInt

from cillab.core.errors import InvalidRequestError
from cillab.protocol.dealing import class_of, flowing, joined, settled
from cillab.protocol.scenario import Deck, Plan, Rows, Scenario, scenario


@scenario("si-blurry")
@final
class SiBlurry(Scenario):
    """Tasks of random sizes whose boundaries blur: a share of the images of some classes strays into other tasks.

    `disjoint` of the classes stay in their task; of the images of the others, `blur` are dealt out anew over the other
    tasks. Tested on the classes exposed so far, A_AUC included. Source: Si-Blurry, Moon et al. (MVP), ICCV 2023,
    arXiv:2308.09303, which splits disjoint and blurry classes over the tasks separately; here it is one split.
    """

    exposes: ClassVar[bool] = True
    disjoint: Annotated[float, Field(ge=0, le=1)] = 0.5
    """N: share of the classes that appear in one task only."""
    blur: Annotated[float, Field(ge=0, le=1)] = 0.1
    """M: share of the other classes' images that stray."""
    tasks: PositiveInt = 5
    """Number of tasks."""
    sizes: Literal["random", "equal"] = "random"
    """Classes of a task: as drawn by the seed, or as equal as can be."""
    every: PositiveInt | None = 1000
    """Images between two tests; null = one test at the end of every task."""

    def deal(self, deck: Deck) -> tuple[Plan, ...]:
        """Assign classes to tasks, let images stray, shuffle within tasks where there are tests inside them."""
        home = self._home(deck)
        rows = joined([deck.train[c] for c in deck.order])
        owner = class_of(deck)
        task = np.array([home[c] for c in owner[rows].tolist()])
        strays = self._strays(deck, owner[rows])
        if self.tasks > 1:
            shift = deck.draw("si-blurry", "where").integers(1, self.tasks, size=len(rows))
            task = np.where(strays, (task + shift) % self.tasks, task)
        parts = [rows[task == index] for index in range(self.tasks)]
        if self.every is None:
            classes = [[c for c in deck.order if c in set(owner[part].tolist())] for part in parts]
            return settled(((c, part) for c, part in zip(classes, parts, strict=True) if c), deck.test)
        mixed = [deck.draw("si-blurry", "mix", index).permutation(part) for index, part in enumerate(parts)]
        return flowing(deck, joined(mixed), self.every)

    def _home(self, deck: Deck) -> dict[int, int]:
        """The task of every class, in class order."""
        count = len(deck.order)
        if count < self.tasks:
            raise InvalidRequestError(f"si-blurry: tasks = {self.tasks}, and the data have {count} classes.")
        if self.sizes == "equal":
            ends = [len(part) for part in np.array_split(np.arange(count), self.tasks)]
        else:
            cuts = np.sort(deck.draw("si-blurry", "sizes").permutation(count - 1)[: self.tasks - 1] + 1)
            ends = np.diff([0, *cuts.tolist(), count]).tolist()
        return dict(zip(deck.order, np.repeat(np.arange(self.tasks), ends).tolist(), strict=True))

    def _strays(self, deck: Deck, labels: Rows) -> np.ndarray:
        """Which images leave their class's task."""
        blurry = deck.draw("si-blurry", "classes").permutation(sorted(deck.order))
        blurry = blurry[: round((1 - self.disjoint) * len(blurry))]
        may = np.flatnonzero(np.isin(labels, blurry))
        chosen = deck.draw("si-blurry", "images").permutation(may)[: round(self.blur * len(may))]
        found = np.zeros(len(labels), dtype=bool)
        found[chosen] = True
        return found
