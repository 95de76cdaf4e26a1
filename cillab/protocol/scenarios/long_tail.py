"""long-tail: classes arrive task by task, and the number of their images falls exponentially."""

from typing import Annotated, ClassVar, Literal, final

from pydantic import Field, PositiveInt

from cillab.protocol.dealing import by_class
from cillab.protocol.rarity import drawn
from cillab.protocol.scenario import Deck, Plan, Scenario, scenario
from cillab.protocol.splits import parse_split


@scenario("long-tail")
@final
class LongTail(Scenario):
    """Class-incremental, with an exponentially falling number of training images; test images stay balanced.

        n_k = max(1, round(n tau^{k / (K - 1)})),    tau = imbalance

    Source of the profile: Cui et al., CVPR 2019, arXiv:1901.05555; ordered and shuffled streams: LT-CIL, Liu et al.,
    ECCV 2022, arXiv:2210.00266.
    """

    split: ClassVar[str] = "B0-Inc10"
    takes_split: ClassVar[bool] = True
    imbalance: Annotated[float, Field(gt=0, le=1)] = 0.01
    """tau: images of the rarest class over those of the commonest; 1 = balanced."""
    profile: Literal["ordered", "shuffled", "labels"] = "ordered"
    """Falls in the order of learning (ordered), in an order drawn by the seed (shuffled), or by label id."""
    shots: PositiveInt | None = None
    """Training images of the commonest class; all that it has if not given."""

    def deal(self, deck: Deck) -> tuple[Plan, ...]:
        """Blocks of classes after the split."""
        ranks = {
            "ordered": lambda: list(deck.order),
            "labels": lambda: sorted(deck.order),
            "shuffled": lambda: deck.draw("long tail").permutation(sorted(deck.order)).tolist(),
        }[self.profile]()
        train = drawn(deck.train, ranks, self.shots, self.imbalance, deck.seed)
        return by_class(deck, parse_split(deck.split, len(deck.order)), train)
