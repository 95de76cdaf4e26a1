"""cross-domain: several data sets, one after the other, in one stream."""

from typing import ClassVar, final

from cillab.protocol.dealing import joined, settled
from cillab.protocol.scenario import Deck, Plan, Scenario, scenario
from cillab.protocol.splits import ALL_AT_ONCE, parse_split


@scenario("cross-domain")
@final
class CrossDomain(Scenario):
    """Several data sets in one stream, one after the other: --data "shields + digits".

    The split holds within each data set; by default each is one task. The result has Transfer, Avg and Last of
    multi-domain task-incremental learning; Transfer needs a learner that can name classes before it has seen an image
    of them, and is blank for the others. Source: ZSCL, Zheng et al., ICCV 2023, arXiv:2303.06628; without task id:
    X-TAIL, Xu et al., NeurIPS 2024, arXiv:2406.18868.
    """

    split: ClassVar[str] = ALL_AT_ONCE
    takes_split: ClassVar[bool] = True
    order: ClassVar[str] = "natural"
    transfers: ClassVar[bool] = True
    known: bool = False
    """Is it known at test time which task an image belongs to? Then only that task's classes compete in these three."""

    @property
    def task_id(self) -> bool:
        """As asked for."""
        return self.known

    def deal(self, deck: Deck) -> tuple[Plan, ...]:
        """The split of every domain, domain after domain."""
        domains = deck.domains or (0,) * len(deck.names)
        tasks = []
        for domain in sorted({domains[c] for c in deck.order}):
            own, start = [c for c in deck.order if domains[c] == domain], 0
            for size in parse_split(deck.split, len(own)):
                block = own[start : start + size]
                tasks.append((block, joined([deck.train[c] for c in block])))
                start += size
        return settled(tasks, deck.test)
