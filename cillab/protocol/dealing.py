"""What several scenarios do with a deck: check it, cut it into tasks of classes."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from cillab.core.errors import DataError, shown
from cillab.protocol.scenario import Deck, Plan, Rows

NO_ROWS = np.empty(0, dtype=np.int64)


def joined(rows: Sequence[Rows]) -> Rows:
    """Several runs of rows as one; none give an empty one."""
    return np.concatenate([NO_ROWS, *rows])


def by_class(deck: Deck, sizes: Sequence[int], train: Mapping[int, Rows]) -> tuple[Plan, ...]:
    """Tasks of so many classes each, in the deck's order, with the training images that `train` holds."""
    plans, start = [], 0
    for size in sizes:
        classes = deck.order[start : start + size]
        plans.append(Plan(classes, joined([train[c] for c in classes]), joined([deck.test[c] for c in classes])))
        start += size
    return tuple(plans)


def settled(parts: Iterable[tuple[Sequence[int], Rows]], test: Mapping[int, Rows]) -> tuple[Plan, ...]:
    """Tasks from their classes and training rows; the first task that has a class brings its test images."""
    plans, seen = [], set[int]()
    for classes, train in parts:
        back = tuple(c for c in classes if c in seen)
        seen.update(classes)
        plans.append(Plan(tuple(classes), train, joined([test[c] for c in classes if c not in back]), back))
    return tuple(plans)


def flowing(deck: Deck, flow: Rows, every: int) -> tuple[Plan, ...]:
    """A flow of training images cut into pieces of `every` images, the last as long as what is left."""
    owner, place = class_of(deck), {c: k for k, c in enumerate(deck.order)}
    pieces = [flow[start : start + every] for start in range(0, len(flow), every)]
    classes = [sorted(set(owner[piece].tolist()), key=place.__getitem__) for piece in pieces]
    return settled(zip(classes, pieces, strict=True), deck.test)


def class_of(deck: Deck) -> Rows:
    """The class of every training row that the deck holds, by row."""
    owner = np.full(1 + max(int(rows.max()) for rows in deck.train.values()), -1)
    for class_id, rows in deck.train.items():
        owner[rows] = class_id
    return owner


def check_deck(deck: Deck) -> None:
    """Refuse data in which a class has no training image.

    Raises:
        DataError: with its name.
    """
    for class_id in deck.order:
        if len(deck.train[class_id]) == 0:
            raise DataError(
                f"{deck.source}: class {shown(deck.names[class_id])} has no training image: "
                "add some, remove the class, or leave it out with --order."
            )


def check_plans(deck: Deck, plans: Sequence[Plan]) -> None:
    """Refuse a task that could not be tested.

    Raises:
        DataError: with its place and its first classes.
    """
    for index, plan in enumerate(plans):
        if plan.brings and len(plan.test) == 0:
            names = ", ".join(deck.names[c] for c in plan.brings[:5])
            raise DataError(f"{deck.source}: task {index + 1} ({names}) has no test image.")
