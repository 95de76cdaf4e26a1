"""Declarations of what a method shows: names, axes, and what is refused."""

import pytest

from cillab.core.internals import SHARED, Internal, declared


@pytest.mark.parametrize(
    ("shape", "axes"), [("f32 [L, t]", 2), ("f32 [K old]", 1), ("f32 []", 0), ("f32 [K, r, d]", 3)]
)
def test_axes_are_counted_from_the_shape(shape: str, axes: int) -> None:
    assert Internal("group/name", shape, "anything").axes == axes


def test_a_name_alone_is_the_shared_one() -> None:
    mine = Internal("mine/row", "f32 [K]", "one number per class", "degrees")
    assert declared(("prompts/chosen", mine)) == (SHARED["prompts/chosen"], mine)
    assert str(mine) == "f32 [K]: one number per class, degrees"
    assert (mine.group, SHARED["prompts/chosen"].group) == ("mine", "prompts")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("mine/row",), "'mine/row' is not shared"),
        ((Internal("prompts/chosen", "f32 [2]", "something else"),), "'prompts/chosen' is declared twice"),
        (("ridge/gamma", "ridge/gamma"), "'ridge/gamma' is declared twice"),
    ],
)
def test_what_is_refused(given, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        declared(given)
