"""Several seeds of one experiment: intervals of a learner, and two learners compared seed by seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cillab.core.errors import InvalidRequestError, unknown_name
from cillab.geometry.seeds import Interval, PairedDifference, paired_difference, t_interval
from cillab.protocol import FACTS, protocol_key
from cillab.runs.index import unsaid

NUMBERS = (
    "a_last", "a_avg", "forgetting_chaudhry", "forgetting_pilot", "bwt_gem",
    "accuracy_head", "accuracy_medium", "accuracy_tail", "accuracy_base", "accuracy_new", "harmonic", "a_auc",
    "transfer", "mtil_avg", "mtil_last",
)  # fmt: skip
ENOUGH = 3  # class orders, below which an interval says little


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed; `interval` is Student's, over seeds."""

    learner: str
    params: str
    protocol: tuple[Any, ...]  # what these runs share, in the order of `protocol_key`
    values: dict[int, float]  # by seed
    interval: Interval

    @property
    def sentence(self) -> str:
        """The result in words, in percent, with what it does not cover."""
        i, count = self.interval, len(self.values)
        if count < 2:
            return f"{self.learner}: {100 * i.mean:.2f} % from one seed; its spread is unknown."
        text = f"{self.learner}: {100 * i.mean:.2f} +- {100 * i.half_width:.2f} % over {count} seeds"
        return f"{text} ({100 * i.level:.0f} % t-interval)" + ("." if count >= ENOUGH else "; take at least 3.")


def over_seeds(rows: Sequence[dict[str, Any]], by: str = "a_last", level: float = 0.95) -> list[Group]:
    """Rows of a table (`Table.rows`), grouped by everything but the seed, best mean first.

    Of several runs of one seed the newest counts.

    Raises:
        UnknownNameError: a number that no row has.
    """
    if by not in NUMBERS:
        raise unknown_name("number", by, NUMBERS)
    found: dict[tuple[str, str, tuple[Any, ...]], dict[int, float]] = {}
    for row in sorted(rows, key=lambda r: str(r["created"])):
        if row[by] is not None and row["seed"] is not None:
            own = {*_of_a_seed(), "data_digest"} if row["drawn"] else _of_a_seed()
            shared = tuple(row[name] for name in protocol_key() if name not in own)
            found.setdefault((row["learner"], row["params"], shared), {})[int(row["seed"])] = float(row[by])
    groups = [
        Group(learner, params, shared, values, t_interval(list(values.values()), level))
        for (learner, params, shared), values in found.items()
    ]
    return sorted(groups, key=lambda group: group.interval.mean, reverse=not by.startswith("forgetting"))


def compare(a: Group, b: Group, level: float = 0.95) -> PairedDifference:
    """A - b over the seeds that both have: pairing takes out what a class order does to every learner.

    Raises:
        InvalidRequestError: different protocols, or no seed in common.
    """
    if a.protocol != b.protocol:
        raise InvalidRequestError(f"{a.learner} and {b.learner} were not run under the same protocol.")
    common = sorted(a.values.keys() & b.values.keys())
    if not common:
        raise InvalidRequestError(
            f"{a.learner} and {b.learner} share no seed: {sorted(a.values)} and {sorted(b.values)}."
        )
    return paired_difference([a.values[s] for s in common], [b.values[s] for s in common], level)


def shared(groups: Sequence[Group]) -> dict[tuple[Any, ...], list[Group]]:
    """Groups by protocol: only those that stand together here may be compared."""
    found: dict[tuple[Any, ...], list[Group]] = {}
    for group in groups:
        found.setdefault(group.protocol, []).append(group)
    return found


def stated(group: Group) -> str:
    """The protocol of a group in a line, without what a seed decides and what is not stated."""
    names = [name for name in protocol_key() if name not in _of_a_seed()]
    plain = [
        f"{name} {value}"
        for name, value in zip(names, group.protocol, strict=True)
        if not unsaid(name, value) and not name.endswith("digest")
    ]
    return ", ".join(plain) or "no protocol stated"


def _of_a_seed() -> set[str]:
    """What may differ between runs of one experiment."""
    return {name for name, fact in FACTS.items() if fact.by_seed}


def difference_sentence(a: Group, b: Group, level: float = 0.95) -> str:
    """A against b over the seeds they share, in words.

    Raises:
        InvalidRequestError: as `compare`.
    """
    found = compare(a, b, level)
    i, count = found.interval, found.interval.count
    text = f"{a.learner} - {b.learner}: {100 * i.mean:+.2f} points"
    if count < 2:
        return f"{text} on one seed; one pair says nothing about the spread."
    text += f", {100 * level:.0f} % interval {100 * i.low:+.2f} to {100 * i.high:+.2f}, over {count} shared seeds"
    more = f" (higher in {found.wins}, p = {found.p_value:.2g}, paired t-test)"
    return f"{text}{more}." if count >= ENOUGH else f"{text}{more}; take at least {ENOUGH}."


def seeds_text(rows: Sequence[dict[str, Any]], by: str = "a_last") -> str:
    """Markdown: means with intervals per protocol, and each learner against the best one, seed by seed.

    Raises:
        UnknownNameError: a number that no row has.
    """
    parts = []
    for groups in shared(over_seeds(rows, by)).values():
        lines = [f"**{stated(groups[0])}** ({by})", "", *(f"- {group.sentence}" for group in groups)]
        rest = [group for group in groups[1:] if group.values.keys() & groups[0].values.keys()]
        lines += ["", *(f"- {difference_sentence(groups[0], group)}" for group in rest)] if rest else []
        parts.append("\n".join(lines))
    return "\n\n".join(parts) or "No finished runs."
