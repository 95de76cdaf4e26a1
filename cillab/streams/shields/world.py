"""Which shields there are: tinctures, divisions, compositions, and which of them form the 100 classes."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, islice, permutations, product

from cillab.streams.shields.charges import CHARGES

TINCTURES: dict[str, tuple[int, int, int]] = {  # sRGB; chosen by eye to sit together like enamel on metal
    "red": (190, 30, 45),
    "blue": (28, 82, 172),
    "green": (24, 122, 74),
    "purple": (118, 52, 140),
    "black": (36, 35, 44),
    "gold": (236, 178, 46),
    "white": (238, 234, 224),
}
METALS = ("gold", "white")
COLOURS = ("red", "blue", "green", "purple", "black")

PARTED: dict[str, str] = {  # both tinctures on an equal footing: named, and enumerated, in the order of TINCTURES
    "halved": "a {field} and {second} shield split down the middle",
    "divided": "a {field} and {second} shield split across the middle",
    "diagonal": "a {field} and {second} shield split diagonally",
    "quartered": "a {field} and {second} quartered shield",
    "striped": "a {field} and {second} striped shield",
    "barred": "a {field} and {second} barred shield",
    "slanted": "a {field} and {second} diagonally striped shield",
    "chequered": "a {field} and {second} chequered shield",
    "diamonds": "a {field} and {second} diamond-patterned shield",
    "rayed": "a {field} and {second} rayed shield",
}
ORDINARIES: dict[str, str] = {  # a figure of the second tincture laid on the field: the order matters
    "chevron": "a {field} shield with a {second} chevron",
    "cross": "a {field} shield with a {second} cross",
    "saltire": "a {field} shield with a {second} diagonal cross",
    "border": "a {field} shield with a {second} border",
    "band": "a {field} shield with a {second} band",
    "sash": "a {field} shield with a {second} sash",
}
DIVISIONS: dict[str, str] = {"plain": "a {field} shield", **PARTED, **ORDINARIES}

# Neighbours on a shield must differ in brightness (heraldry's rule of tincture); two pairs of colours also do.
_PAIRS = [*product(METALS, COLOURS), ("red", "black"), ("red", "blue")]


@dataclass(frozen=True, slots=True)
class Composition:
    """One kind of shield. `second` equals `field` on a plain shield, the only division with one tincture."""

    division: str
    field: str
    second: str
    charge: str
    tincture: str

    def __post_init__(self) -> None:
        for value, valid in (
            (self.division, DIVISIONS),
            (self.field, TINCTURES),
            (self.second, TINCTURES),
            (self.charge, CHARGES),
            (self.tincture, TINCTURES),
        ):
            if value not in valid:
                raise ValueError(f"Unknown part of a shield {value!r}. Valid: {', '.join(valid)}.")
        if (self.division == "plain") != (self.field == self.second):
            raise ValueError(f"A {self.division} shield cannot be {self.field} and {self.second}.")

    @property
    def shield(self) -> str:
        """The shield without its charge, in plain English and with its article."""
        return DIVISIONS[self.division].format(field=self.field, second=self.second)

    @property
    def name(self) -> str:
        """Plain English, exact: two compositions share a name only if they are equal."""
        return f"{self.tincture} {self.charge} on {self.shield}"

    def differs_in(self, other: "Composition") -> int:
        """In how many of the five attributes two compositions differ."""
        return sum(getattr(self, part) != getattr(other, part) for part in self.__dataclass_fields__)


def _fields() -> Iterator[tuple[str, str, str]]:
    yield from (("plain", tincture, tincture) for tincture in TINCTURES)
    order = list(TINCTURES)
    for pair in _PAIRS:
        field, second = sorted(pair, key=order.index)
        yield from ((division, field, second) for division in PARTED)
        for a, b in permutations((field, second)):
            yield from ((division, a, b) for division in ORDINARIES)


def _allowed(field: str, second: str, tincture: str) -> bool:
    if field == second:
        return (tincture in METALS) != (field in METALS)
    return tincture not in (field, second)


def _shuffle_key(index: int) -> int:
    """A fixed scrambling of 0, 1, 2, ... (two rounds of multiply and shift): the same on every machine, for ever."""
    for _ in range(2):
        index = (index + 1) * 0x9E3779B97F4A7C15 % 2**64
        index ^= index >> 29
    return index


Parts = tuple[str, str, str, str, str]
"""A composition that nobody has asked for yet: division, field, second, charge, tincture."""


def _everything() -> list[Parts]:
    ordered = [
        (division, field, second, charge, tincture)
        for division, field, second in _fields()
        for charge, tincture in product(CHARGES, TINCTURES)
        if _allowed(field, second, tincture)
    ]
    return [ordered[i] for i in sorted(range(len(ordered)), key=_shuffle_key)]


_CHARGE_FAMILIES = {
    "stars": "star",
    "fishes": "fish",
    "keys": "key",
    "towers": "tower",
    "trees": "tree",
    "crowns": "crown",
}
_FIELD_FAMILIES = {
    "blue and white stripes": (("striped", "blue", "white"), ("gold", "red")),
    "red and gold chequers": (("chequered", "red", "gold"), ("white", "blue")),
    "black and gold quarters": (("quartered", "black", "gold"), ("red", "white")),
    "green with a white border": (("border", "green", "white"), ("gold", "red")),
}
FAMILIES: tuple[str, ...] = (*_CHARGE_FAMILIES, *_FIELD_FAMILIES)
_MEMBERS = 10


def _apart(one: Parts, other: Parts) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


def _charge_family(charge: str, everything: list[Parts]) -> list[Parts]:
    """Five shields with this charge, each followed by a sibling that differs from it in one attribute only."""
    reserved = {field for field, _ in _FIELD_FAMILIES.values()}
    mine = [c for c in everything if c[3] == charge and c[:3] not in reserved]
    chosen: list[Parts] = []
    for changed in (4, 0, 2, 4, 0):  # tincture, division, second
        chosen += next(
            [new, sibling]
            for new in mine
            if all(_apart(new, other) >= 3 for other in chosen)
            for sibling in mine
            if _apart(new, sibling) == 1 and new[changed] != sibling[changed]
        )
    return chosen


def _field_family(field: tuple[str, str, str], tinctures: tuple[str, str], everything: list[Parts]) -> list[Parts]:
    """Ten charges on one field: six of the first tincture, four of the second."""
    mine = [[c for c in everything if (*c[:3], c[4]) == (*field, t)] for t in tinctures]
    return mine[0][:6] + mine[1][: _MEMBERS - 6]


def _classes(everything: list[Parts]) -> tuple[Parts, ...]:
    families = [_charge_family(charge, everything) for charge in _CHARGE_FAMILIES.values()]
    families += [_field_family(*field, everything) for field in _FIELD_FAMILIES.values()]
    return tuple(c for family in families for c in family)


_all = _everything()
_taken = _classes(_all)
_reserved = frozenset(_taken)

CLASSES: tuple[Composition, ...] = tuple(Composition(*parts) for parts in _taken)
"""The 100 incremental classes, family by family: class `c` belongs to family `c // 10`."""

PRETRAINING: tuple[Composition, ...] = tuple(
    Composition(*parts) for parts in islice((c for c in _all if c not in _reserved), 4000)
)
"""The compositions the bundled models were pre-trained on. None of them is an incremental class."""


def family_of(class_id: int) -> int:
    """Position in FAMILIES of the family a class belongs to."""
    if not 0 <= class_id < len(CLASSES):
        raise ValueError(f"Class {class_id} does not exist: shields has classes 0 to {len(CLASSES) - 1}.")
    return class_id // _MEMBERS


def closest_pairs() -> list[tuple[int, int]]:
    """Pairs of classes that differ in a single attribute: the confusions to expect."""
    return [(a, b) for a, b in combinations(range(len(CLASSES)), 2) if CLASSES[a].differs_in(CLASSES[b]) == 1]
