"""What a scenario is: a named, typed, frozen record that deals the images of a data set out as tasks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import new_class
from typing import Any, ClassVar, TypeVar

import numpy as np
from jaxtyping import Int64
from pydantic import ConfigDict, model_serializer

from cillab.core.draws import numpy_stream
from cillab.core.errors import InvalidRequestError, shown
from cillab.core.params import HyperParams, build
from cillab.core.registry import Registry

Rows = Int64[np.ndarray, "_"]


@dataclass(frozen=True, eq=False)
class Deck:
    """What a scenario deals out: classes in the order in which they are learnt, and their images."""

    source: str  # name of the data set, for messages
    names: tuple[str, ...]  # of all classes; a class id is a position here
    order: tuple[int, ...]  # class ids
    train: Mapping[int, Rows]  # rows of each class's training images, in the source's order
    test: Mapping[int, Rows]
    split: str
    seed: int
    domains: tuple[int, ...] = ()  # of all classes: which of several data sets each comes from; empty = one

    def draw(self, *names: str | int) -> np.random.Generator:
        """The random numbers of this stream's seed for one named purpose."""
        return numpy_stream(self.seed, *names)


@dataclass(frozen=True, eq=False)
class Plan:
    """Which images of the source belong to one task: rows of the two splits."""

    classes: tuple[int, ...]  # of the training images, those included that come back
    train: Rows
    test: Rows  # of the classes that this task brings: an image is tested once
    back: tuple[int, ...] = ()  # classes that an earlier task brought

    @property
    def brings(self) -> tuple[int, ...]:
        """The classes that come for the first time."""
        return tuple(c for c in self.classes if c not in self.back)


class Scenario(HyperParams):
    """Base of all scenarios. A leaf has its own parameters, says what it implies, and defines `deal`.

    Two parameters mean the same wherever a leaf has them: `shots`, the training images of the commonest class, and
    `imbalance`, those of the rarest over those of the commonest.
    """

    name: ClassVar[str]
    split: ClassVar[str] = "scenario"
    """Split that is meant when none is given; the only one that is valid, unless the scenario `takes_split`."""
    takes_split: ClassVar[bool] = False
    """Does the split say which classes form a task?"""
    order: ClassVar[str] = "pilot"
    """Class order that is meant when none is given."""
    exposes: ClassVar[bool] = False
    """Is the learner tested while the stream flows, on the classes exposed so far? Then the result has A_AUC."""
    transfers: ClassVar[bool] = False
    """Are learners that need no image of a class tested on the tasks to come? Then the result has MTIL's numbers."""
    names_only: ClassVar[bool] = False
    """Do the classes of the last task come by name alone, without a training image?"""

    @property
    def task_id(self) -> bool:
        """Is it known at test time which task an image belongs to?"""
        return False

    @property
    def most(self) -> int | None:
        """Training images that are asked of the commonest class; None = all that there are."""
        return getattr(self, "shots", None)

    @property
    def falls(self) -> bool:
        """Does the number of training images fall from class to class, so that there are head, medium and tail?"""
        return getattr(self, "imbalance", 1) != 1

    @property
    def draws(self) -> bool:
        """Does the seed of the run decide which images are used at all?"""
        return self.most is not None or self.falls

    def deal(self, deck: Deck) -> tuple[Plan, ...]:
        """The tasks, in order.

        Raises:
            InvalidRequestError: the data cannot be dealt out like this.
        """
        raise NotImplementedError

    def split_of(self, given: str | None) -> str:
        """The split to use: the one given, or the one that the scenario implies.

        Raises:
            InvalidRequestError: a split that contradicts the scenario.
        """
        if given is None or given == self.split:
            return self.split
        if not self.takes_split:
            raise InvalidRequestError(
                f"split = {shown(given)} contradicts scenario = {self.name!r}, "
                f"whose split is {self.split!r}: leave it out."
            )
        if owner := next((n for n in scenarios if scenarios[n].split == given and scenarios[n].names_only), None):
            raise InvalidRequestError(f"split = {shown(given)} is that of the scenario {owner}: name the scenario.")
        return given

    @property
    def settings(self) -> dict[str, Any]:
        """The parameters by name, as plain JSON."""
        return {name: value for name, value in self.model_dump(mode="json").items() if name != "name"}

    @property
    def text(self) -> str:
        """`few-shot(shots=1)`: the name, and what differs from its defaults."""
        fields = type(self).model_fields
        said = [f"{n}={v}" for n, v in self.settings.items() if n not in fields or v != fields[n].default]
        return f"{self.name}({', '.join(said)})" if said else self.name

    @model_serializer(mode="wrap")
    def _named(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        return {"name": self.name, **handler(self)}


class Foreign(Scenario):
    """A scenario that is not installed here, as a file states it: it can be read, not dealt."""

    model_config = ConfigDict(frozen=True, extra="allow")


scenarios: Registry[type[Scenario]] = Registry("scenario")

S = TypeVar("S", bound=type[Scenario])


def scenario(name: str) -> Callable[[S], S]:
    """Decorator: enter a scenario under `name`."""

    def enter(cls: S) -> S:
        cls.name = name
        scenarios.register(name)(cls)
        return cls

    return enter


def make_scenario(value: Any, **settings: Any) -> Scenario:
    """A scenario from its name, from `{"name": ..., parameters}`, or as it is; `settings` count over what is there.

    Raises:
        UnknownNameError: no such scenario, with the nearest one.
        InvalidRequestError: a parameter that it does not have, or a value out of bounds.
    """
    if isinstance(value, Scenario):
        if not settings:
            return value
        value = value.model_dump()
    given = {"name": value} if isinstance(value, str) else value
    if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
        raise InvalidRequestError(
            f"scenario = {shown(value)}: write a name, or name and parameters: {{name: few-shot}}."
        )
    given = {**given, **settings}
    name = given.pop("name")
    return build(scenarios[name], given, f"Scenario {name!r}")


def stated_scenario(value: Any) -> Scenario:
    """As `make_scenario`, for what a file states: a scenario that is unknown here is kept as it stands."""
    name = value.get("name") if isinstance(value, Mapping) else value
    if isinstance(name, str) and name not in scenarios:
        given = dict(value) if isinstance(value, Mapping) else {}
        given.pop("name", None)
        body = {"__module__": __name__, "__annotations__": {"name": ClassVar[str]}, "name": name}
        kind: type[Foreign] = new_class("Foreign", (Foreign,), exec_body=lambda space: space.update(body))
        return kind(**given)
    return make_scenario(value)


def former(values: Mapping[str, Any]) -> dict[str, Any]:
    """Flat values with `shots` and `imbalance` beside the scenario, as older files have them, in today's words."""
    found = dict(values)
    asked = found.get("scenario", "class-incremental")
    old = "shots" in found or "imbalance" in found or (asked == "few-shot" and found.get("split") == "all")
    if not old or not isinstance(asked, str | Mapping | Scenario):
        return found
    record = asked.model_dump() if isinstance(asked, Scenario) else {"name": asked} if isinstance(asked, str) else asked
    record = {**record} | {key: value for key in ("shots", "imbalance") if (value := found.pop(key, None)) is not None}
    if record.get("name") == "class-incremental" and "imbalance" in record:
        if record["imbalance"] in (1, "1", "1.0"):
            del record["imbalance"]
        else:
            record |= {"name": "long-tail", "profile": "labels"}
    if asked == "few-shot":
        record["name"] = "all-at-once"
    return {**found, "scenario": record}
