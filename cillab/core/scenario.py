"""What a stream asks for: classes task by task, few shots of all classes at once, or names instead of images.

    class-incremental   tasks after `split`, training images of every class
    few-shot            one task with all classes, a few training images each, head to tail
    base-to-new         the first half of the classes with a few images each, then the second half by name alone

The last two are the protocols of prompt tuning: Zhou et al., CoOp, IJCV 2022, arXiv:2109.01134, and CoCoOp, CVPR 2022,
arXiv:2203.05557. Pure Python: nothing heavy is imported, so that a request can be refused at once.
"""

from dataclasses import dataclass
from typing import Literal, final, get_args

from cillab.core.errors import InvalidRequestError, unknown_name

ScenarioName = Literal["class-incremental", "few-shot", "base-to-new"]
SCENARIOS: tuple[str, ...] = get_args(ScenarioName)
ALL_AT_ONCE, BASE_THEN_NEW = "all", "base-new"  # names of splits

# What is meant when nothing is said: split, class order, shots.
DEFAULTS: dict[str, tuple[str, str, int | None]] = {
    "class-incremental": ("B0-Inc10", "pilot", None),
    "few-shot": (ALL_AT_ONCE, "natural", 16),
    "base-to-new": (BASE_THEN_NEW, "natural", 16),
}
THIRDS = ("head", "medium", "tail")


@final
@dataclass(frozen=True)
class Scenario:
    """The protocol of a stream beside its split: which kind, how many shots, how long a tail."""

    name: str = "class-incremental"
    shots: int | None = None  # training images of the first class; None = all there are
    imbalance: float = 1.0  # tau = smallest / largest number of training images

    @classmethod
    def of(cls, name: str, shots: int | None = None, imbalance: float = 1.0) -> "Scenario":
        """A checked scenario; the shots that the name implies where none are given.

        Raises:
            UnknownNameError: no such scenario, with the nearest one.
            InvalidRequestError: shots or imbalance out of range.
        """
        if name not in DEFAULTS:
            raise unknown_name("scenario", name, SCENARIOS)
        if shots is not None and shots < 1:
            raise InvalidRequestError(f"shots = {shots}: at least 1, or leave it out.")
        if not 0 < imbalance <= 1:
            raise InvalidRequestError(
                f"imbalance = {imbalance}: the ratio of the rarest to the commonest class is in (0, 1]; 1 = balanced."
            )
        return cls(name, DEFAULTS[name][2] if shots is None else shots, imbalance)

    def split(self, given: str | None) -> str:
        """The split to use: the one given, or the one that the scenario implies.

        Raises:
            InvalidRequestError: a split that contradicts the scenario.
        """
        implied = DEFAULTS[self.name][0]
        if given is None or given == implied:
            return implied
        if self.name == "class-incremental":
            if given == BASE_THEN_NEW:
                raise InvalidRequestError(f"split = {given!r} is that of the scenario base-to-new: name the scenario.")
            return given
        raise InvalidRequestError(
            f"split = {given!r} contradicts scenario = {self.name!r}, whose split is {implied!r}: leave it out."
        )

    @property
    def names_only_at_the_end(self) -> bool:
        """Does the last task bring names and no training image?"""
        return self.name == "base-to-new"


PLAIN = Scenario()


def shots_of(count: int, imbalance: float, classes: int) -> tuple[int, ...]:
    """Training images of each class of a long tail, first class to last.

        n_k = max(1, round(n tau^{k / (K - 1)})),    k = 0..K-1

    Exponential decay, tau = min n_k / max n_k up to rounding. Source: Cui et al., CVPR 2019, arXiv:1901.05555
    (long-tailed CIFAR); with n = 16 and tau in {1, 0.25, 0.06}: Guo et al., CPT, CVPR 2026, arXiv:2605.11939.
    """
    return tuple(max(1, round(count * imbalance ** (k / max(classes - 1, 1)))) for k in range(classes))


def thirds_of(classes: tuple[int, ...]) -> dict[int, str]:
    """`head`, `medium` or `tail` for every class, by label id: the order in which `shots_of` counts down.

    Three parts as equal as can be; what is left over goes to the head first, then to the medium. Fewer than three
    classes have no medium.
    """
    ordered, found = sorted(classes), {}
    whole, rest = divmod(len(ordered), 3)
    for position, name in enumerate(THIRDS):
        size = whole + (position < rest) if len(ordered) != 2 else int(name != "medium")
        found |= dict.fromkeys(ordered[len(found) : len(found) + size], name)
    return found
