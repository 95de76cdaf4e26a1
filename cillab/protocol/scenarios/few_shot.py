"""few-shot: many images of the base classes, then a few classes at a time with a few images each."""

from typing import ClassVar, final

from pydantic import NonNegativeInt, PositiveInt

from cillab.core.errors import InvalidRequestError
from cillab.protocol.dealing import by_class
from cillab.protocol.rarity import drawn
from cillab.protocol.scenario import Deck, Plan, Scenario, scenario


@scenario("few-shot")
@final
class FewShot(Scenario):
    """Few-shot class-incremental: base classes with all images, then `way` classes with `shots` images at a time.

    60 base classes and eight tasks of 5-way 5-shot on 100 classes. Source: TOPIC, Tao et al., CVPR 2020,
    arXiv:2004.10956. The shots are one list for every seed and every class order, drawn once by `draw`; the manifest
    names each image. The published lists are other draws of the same kind.
    """

    order: ClassVar[str] = "natural"
    base: PositiveInt | None = None
    """Classes of the first task; three fifths of all if not given."""
    way: PositiveInt = 5
    """Classes of each later task."""
    shots: PositiveInt | None = 5
    """Training images of each class of the later tasks; null = all."""
    draw: NonNegativeInt = 0
    """Which list of shots."""

    @property
    def most(self) -> int | None:
        """Every later class has to have its shots."""
        return self.shots

    def deal(self, deck: Deck) -> tuple[Plan, ...]:
        """The base, then the ways; the last task takes what is left."""
        classes = len(deck.order)
        base = self.base or max(1, round(0.6 * classes))
        if base > classes:
            raise InvalidRequestError(f"few-shot: base = {base}, and the data have {classes} classes.")
        rest = classes - base
        sizes = [base, *[self.way] * (rest // self.way), *([rest % self.way] if rest % self.way else [])]
        later = {c: deck.train[c] for c in deck.order[base:]}
        return by_class(deck, sizes, {**deck.train, **drawn(later, tuple(later), self.shots, 1.0, self.draw)})
