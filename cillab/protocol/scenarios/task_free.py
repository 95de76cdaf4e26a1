"""task-free: classes fade in and out; there is no moment at which a task begins."""

from typing import Annotated, ClassVar, final

import numpy as np
from pydantic import Field, PositiveInt

from cillab.protocol.dealing import flowing, joined
from cillab.protocol.scenario import Deck, Plan, Scenario, scenario


@scenario("task-free")
@final
class TaskFree(Scenario):
    """Classes fade in and out one after the other, each image at a normally distributed moment; no boundaries.

        an image of class k (of K, in class order) comes at   t ~ N((k + 1/2) / K, width^2)

    The learner gets pieces of the flow and is tested after each on the classes exposed so far. Source of the schedule:
    Shanahan et al., 2021, arXiv:2105.13327.
    """

    exposes: ClassVar[bool] = True
    width: Annotated[float, Field(ge=0)] = 0.05
    """Standard deviation of a class's moments, in units of the whole stream; 0 = class after class."""
    every: PositiveInt = 1000
    """Images between two tests."""

    def deal(self, deck: Deck) -> tuple[Plan, ...]:
        """Sort all images by their moments."""
        moments = []
        for place, c in enumerate(deck.order):
            centre, noise = (place + 0.5) / len(deck.order), deck.draw("task-free", c)
            moments.append(centre + self.width * noise.standard_normal(len(deck.train[c])))
        flow = joined([deck.train[c] for c in deck.order])[np.argsort(np.concatenate(moments), kind="stable")]
        return flowing(deck, flow, self.every)
