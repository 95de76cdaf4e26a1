"""base-to-new: half of the classes with a few images, then the other half by name alone."""

from typing import Annotated, ClassVar, final

from pydantic import Field, PositiveInt

from cillab.protocol.dealing import NO_ROWS, by_class
from cillab.protocol.rarity import drawn
from cillab.protocol.scenario import Deck, Plan, Scenario, scenario
from cillab.protocol.splits import BASE_THEN_NEW, parse_split


@scenario("base-to-new")
@final
class BaseToNew(Scenario):
    """The first half of the classes with a few images each, then the second half by name alone.

    Base and new classes never compete: the result has the accuracy of each half and their harmonic mean. Source:
    CoCoOp, Zhou et al., CVPR 2022, arXiv:2203.05557.
    """

    split: ClassVar[str] = BASE_THEN_NEW
    order: ClassVar[str] = "natural"
    names_only: ClassVar[bool] = True
    shots: PositiveInt | None = 16
    """Training images of the first class, drawn by the seed; null = all."""
    imbalance: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Images of the last base class, in label order, over those of the first; 1 = balanced."""

    def deal(self, deck: Deck) -> tuple[Plan, ...]:
        """Two halves; the second has no training image."""
        sizes = parse_split(BASE_THEN_NEW, len(deck.order))
        base, new = deck.order[: sizes[0]], deck.order[sizes[0] :]
        train = drawn({c: deck.train[c] for c in base}, sorted(base), self.shots, self.imbalance, deck.seed)
        return by_class(deck, sizes, {**train, **dict.fromkeys(new, NO_ROWS)})
