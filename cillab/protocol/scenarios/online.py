"""online: the images of a class-incremental stream flow by once, and the learner is tested on the way."""

from typing import ClassVar, final

from pydantic import PositiveInt

from cillab.protocol.dealing import flowing, joined
from cillab.protocol.scenario import Deck, Plan, Scenario, scenario
from cillab.protocol.splits import parse_split


@scenario("online")
@final
class Online(Scenario):
    """One pass: images come in pieces, shuffled within the classes of the split; no boundary is told.

    A piece is one task for the learner, and after each it is tested on the classes exposed so far; A_AUC is the area
    under that curve. Source: CLIB, Koh et al., ICLR 2022, arXiv:2110.10031. A learner that trains makes one pass over
    a piece where its epochs are 1.
    """

    split: ClassVar[str] = "B0-Inc10"
    takes_split: ClassVar[bool] = True
    exposes: ClassVar[bool] = True
    every: PositiveInt = 1000
    """Images between two tests."""

    def deal(self, deck: Deck) -> tuple[Plan, ...]:
        """Shuffled blocks, one after the other, cut into pieces."""
        flow, start = [], 0
        for index, size in enumerate(parse_split(deck.split, len(deck.order))):
            rows = joined([deck.train[c] for c in deck.order[start : start + size]])
            flow.append(deck.draw("online", index).permutation(rows))
            start += size
        return flowing(deck, joined(flow), self.every)
