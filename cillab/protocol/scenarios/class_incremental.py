"""class-incremental: classes arrive task by task, with all their images."""

from typing import ClassVar, final

from pydantic import PositiveInt

from cillab.protocol.dealing import by_class
from cillab.protocol.rarity import drawn
from cillab.protocol.scenario import Deck, Plan, Scenario, scenario
from cillab.protocol.splits import parse_split


@scenario("class-incremental")
@final
class ClassIncremental(Scenario):
    """Classes arrive task by task after the split B-m Inc-n, with all their images, and never return.

    Source: iCaRL, Rebuffi et al., CVPR 2017, arXiv:1611.07725; the split's name and the pilot order: PyCIL, Zhou et
    al., 2023, arXiv:2112.12533.
    """

    split: ClassVar[str] = "B0-Inc10"
    takes_split: ClassVar[bool] = True
    shots: PositiveInt | None = None
    """Training images of every class, drawn by the seed; all if not given."""

    def deal(self, deck: Deck) -> tuple[Plan, ...]:
        """Blocks of classes."""
        train = drawn(deck.train, deck.order, self.shots, 1.0, deck.seed)
        return by_class(deck, parse_split(deck.split, len(deck.order)), train)
