"""A registry never guesses: duplicates raise, but a class that is typed again in a session takes its own place."""

import pytest

from cillab.core.errors import unknown_name
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


def test_what_stands_in_files_is_loaded_when_it_is_asked_for() -> None:
    registry: Registry[type] = Registry("learner")
    loaded: list[str | None] = []

    def load(name: str | None) -> None:
        loaded.append(name)
        if name in ("mine", None) and "mine" not in registry._entries:
            registry.register("mine")(made("package.mine"))
        if name is None and "second" not in registry._entries:  # a file that holds more than what it is called
            registry.register("second")(made("package.mine", "Second"))

    registry.found_by(load)
    assert registry["mine"].__name__ == "Mine" and loaded == ["mine"]
    assert "mine" in registry and loaded == ["mine"]
    assert registry["second"].__name__ == "Second" and loaded == ["mine", "second", None]
    assert list(registry) == ["mine", "second"] and len(registry) == 2
    with pytest.raises(Exception, match="Valid: mine, second"):
        registry["third"]


def test_a_long_list_of_names_is_cut_and_the_nearest_still_named() -> None:
    names = [f"name-{number:03}" for number in range(300)]
    said = str(unknown_name("array", "name_077" * 40, names))
    assert len(said) <= 400 and " and 280 more." in said
    assert str(unknown_name("array", "name077", names)).endswith("Did you mean 'name-077'?")
    assert str(unknown_name("array", "a", names[:3])) == "Unknown array 'a'. Valid: name-000, name-001, name-002."
    assert "Valid: (none)." in str(unknown_name("array", "a", ()))
