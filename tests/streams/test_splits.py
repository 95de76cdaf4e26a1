"""Splits and class orders against published fixtures and a naive loop."""

import re
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from cillab.core.errors import InvalidRequestError, UnknownNameError
from cillab.protocol.splits import class_order, numbers_read_as_ids, parse_split

# First entries of np.random.RandomState(1993).permutation(n), the rule of PyCIL, PILOT and C3Box.
PILOT = {
    10: "4 2 7 6 0 3 5 8 9 1",
    37: "24 1 8 28 2 13 22 10 6 17 23 12",
    45: "21 35 13 17 25 18 10 22 41 8 2 38",
    47: "10 41 38 40 37 16 21 24 22 43 8 2",
    50: "43 41 23 14 13 40 42 22 16 45 17 10",
    100: "68 56 78 8 23 84 90 65 74 76 40 89 3 92 55 9 26 80 43 38 58 70 77 1 85 19 17 50 28 53 13 81 45 82 6 59 83 16 "
    "15 44 91 41 72 60 79 52 20 10 31 54 37 95 14 71 96 98 97 2 64 66 42 22 35 86 24 34 87 21 99 0 88 27 18 94 11 12 "
    "47 25 30 46 62 69 36 61 7 63 75 5 32 4 51 48 73 93 39 67 29 49 57 33",
    196: "59 134 162 9 42 72 118 99 109 79 43 100",
    200: "168 136 51 9 183 101 171 99 42 159 191 70",
    300: "169 221 146 296 92 229 49 70 126 77 243 57",
    397: "181 7 108 112 36 93 56 28 256 133 210 159",
}


@pytest.mark.parametrize("classes", PILOT)
def test_pilot_order_is_the_published_one(classes: int) -> None:
    expected = tuple(map(int, PILOT[classes].split()))
    order = class_order("pilot", classes, 1993)
    assert order[: len(expected)] == expected
    assert sorted(order) == list(range(classes))


@pytest.mark.parametrize("classes", [101, 102])
def test_pilot_order_of_other_sizes_is_not_that_of_100(classes: int) -> None:
    assert class_order("pilot", classes, 1993) != class_order("pilot", 100, 1993)
    assert sorted(class_order("pilot", classes, 1993)) == list(range(classes))


def test_the_seed_matters_to_pilot_and_to_nothing_else() -> None:
    assert class_order("pilot", 20, 1) != class_order("pilot", 20, 2)
    assert class_order("natural", 20, 1) == class_order("natural", 20, 2) == tuple(range(20))


@pytest.mark.parametrize(
    ("split", "classes", "sizes"),
    [
        ("B0-Inc10", 100, (10,) * 10),
        ("B50-Inc10", 100, (50, *(10,) * 5)),
        ("B16 Inc20", 196, (16, *(20,) * 9)),
        ("b-0 inc-30", 100, (30, 30, 30, 10)),
        ("B100Inc5", 102, None),
        ("B0-Inc5", 5, (5,)),
        ("B5-Inc1", 5, (5,)),
    ],
)
def test_sizes(split: str, classes: int, sizes: tuple[int, ...] | None) -> None:
    if sizes is None:
        with pytest.raises(InvalidRequestError, match="wants 5 classes after the first 100, the data have 2"):
            parse_split(split, classes)
    else:
        assert parse_split(split, classes) == sizes


@given(base=st.integers(0, 60), increment=st.integers(1, 60), classes=st.integers(1, 120))
def test_sizes_by_dealing_classes_out_one_by_one(base: int, increment: int, classes: int) -> None:
    first = base or increment
    if first > classes or 0 < classes - first < increment:
        with pytest.raises(InvalidRequestError, match="wants"):
            parse_split(f"B{base}-Inc{increment}", classes)
        return
    tasks = [0]
    for _ in range(classes):
        if tasks[-1] == (first if len(tasks) == 1 else increment):
            tasks.append(0)
        tasks[-1] += 1
    assert parse_split(f"B{base}-Inc{increment}", classes) == tuple(tasks)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("ten at a time", "Valid: B0-Inc10"),
        ("B0-Inc10x", "Valid: B0-Inc10"),
        ("B0-Inc0", "Inc0 gives none"),
        ("B0-Inc20", "first task wants 20 classes, the data have 10"),
        ("B12-Inc1", "first task wants 12 classes, the data have 10"),
    ],
)
def test_bad_splits_say_what_is_wrong(split: str, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        parse_split(split, 10)


NAMES = ("cat", "dog", "emu", "fox")


def test_every_way_to_write_a_list(tmp_path: Path) -> None:
    lines, one_line, as_json = tmp_path / "lines.txt", tmp_path / "line.txt", tmp_path / "order.json"
    lines.write_text("fox\n1\n\ncat\n")
    one_line.write_text("fox, dog, cat")
    as_json.write_text('["fox", 1, "cat"]')
    for order in ([3, 1, 0], ["fox", "dog", 0], "3,1,0", " 3, 1 ,0 ", str(lines), str(one_line), str(as_json)):
        assert class_order(order, NAMES) == (3, 1, 0)


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ([0, 0], "class 0 .cat. is given twice"),
        ("1,2,1", "class 1 .dog. is given twice"),
        ([4], "no class 4. Valid: 0 to 3"),
        ([-1], "no class -1"),
        (["fux"], "no class 'fux'.*Did you mean 'fox'"),
        ([], "list is empty"),
    ],
)
def test_bad_lists_say_what_is_wrong(order: list[int | str] | str, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        class_order(order, NAMES)


def test_a_misspelt_rule_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"'pilott'.*Did you mean 'pilot'"):
        class_order("pilott", NAMES)


NUMBERS = ("1", "10", "2")  # folders in the order of the alphabet


def test_a_number_is_an_id_even_where_class_names_are_numbers() -> None:
    assert class_order(["2"], ("2", "0", "1")) == (2,)
    assert class_order("2,0", NUMBERS) == (2, 0)


@pytest.mark.parametrize("order", ["names:10,2,1", " names:10, 2 ,1,".strip()])
def test_names_that_are_numbers_can_be_given(order: str) -> None:
    assert class_order(order, NUMBERS) == (1, 2, 0)
    assert numbers_read_as_ids(order, NUMBERS, (1, 2, 0)) is None


@pytest.mark.parametrize(("order", "message"), [("10,2", "no class 10.*write names:10"), ("names:3", "no class '3'")])
def test_numbers_that_are_neither_say_how_names_are_given(order: str, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        class_order(order, NUMBERS)


@pytest.mark.parametrize(
    ("order", "names", "said"),
    [
        ("1,2", NUMBERS, "id 1 is the class '10'.*names:10,2"),
        (["1", 2], NUMBERS, "id 1 is the class '10'"),
        ("0,1", ("0", "1", "2"), None),  # both mean the same
        ("natural", NUMBERS, None),
        (["cat"], ("1", "cat", "0"), None),  # a name was given, no number
        ("0,1", ("cat", "dog"), None),
    ],
)
def test_numbers_that_could_be_names_are_said(order: str, names: tuple[str, ...], said: str | None) -> None:
    found = numbers_read_as_ids(order, names, class_order(order, names))
    assert (found is None) if said is None else re.search(said, found or "")
