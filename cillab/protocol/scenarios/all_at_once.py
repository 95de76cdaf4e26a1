"""all-at-once: one task with every class and a few images of each."""

from typing import Annotated, ClassVar, final

from pydantic import Field, PositiveInt

from cillab.protocol.dealing import by_class
from cillab.protocol.rarity import drawn
from cillab.protocol.scenario import Deck, Plan, Scenario, scenario
from cillab.protocol.splits import ALL_AT_ONCE


@scenario("all-at-once")
@final
class AllAtOnce(Scenario):
    """One task with all classes, a few training images of each, head to tail in label order.

    The few-shot protocol of prompt tuning: CoOp, Zhou et al., IJCV 2022, arXiv:2109.01134. Files from before version
    0.2 call it few-shot.
    """

    split: ClassVar[str] = ALL_AT_ONCE
    order: ClassVar[str] = "natural"
    shots: PositiveInt | None = 16
    """Training images of the first class, drawn by the seed; null = all."""
    imbalance: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Images of the last class, in label order, over those of the first; 1 = balanced."""

    def deal(self, deck: Deck) -> tuple[Plan, ...]:
        """Everything at once."""
        train = drawn(deck.train, sorted(deck.order), self.shots, self.imbalance, deck.seed)
        return by_class(deck, [len(deck.order)], train)
