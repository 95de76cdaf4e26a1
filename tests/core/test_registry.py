"""A registry never guesses: duplicates raise, but a class that is typed again in a session takes its own place."""

import pytest

from cillab.core.registry import Registry


def made(module: str, name: str = "Mine") -> type:
    return type(name, (), {"__module__": module, "__qualname__": name})


def test_a_duplicate_raises() -> None:
    registry: Registry[type] = Registry("learner")
    registry.register("mine")(made("package.one"))
    for other in (made("package.one"), made("__main__")):
        with pytest.raises(ValueError, match="learner 'mine' is registered twice"):
            registry.register("mine")(other)


def test_a_class_of_a_notebook_may_be_typed_again() -> None:
    registry: Registry[type] = Registry("learner")
    registry.register("mine")(made("__main__"))
    again = made("__main__")
    registry.register("mine")(again)
    assert registry["mine"] is again
    with pytest.raises(ValueError, match="registered twice"):
        registry.register("mine")(made("__main__", "Other"))
