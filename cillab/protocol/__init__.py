"""Floor 1: what a number means. A scenario, the stream that it deals, the backbone, and the row of facts of a result.

Pure Python and NumPy: a request is refused, and a run read, without loading torch. Importing this package registers
every scenario and every fact.
"""

from cillab.protocol.facts import FACTS, Compared, Fact, Made, declare, protocol_key
from cillab.protocol.row import Protocol
from cillab.protocol.scenario import Deck, Plan, Scenario, make_scenario, scenarios, stated_scenario
from cillab.protocol.specs import BackboneSpec, StreamSpec

__all__ = [
    "FACTS",
    "BackboneSpec",
    "Compared",
    "Deck",
    "Fact",
    "Made",
    "Plan",
    "Protocol",
    "Scenario",
    "StreamSpec",
    "declare",
    "make_scenario",
    "protocol_key",
    "scenarios",
    "stated_scenario",
]
