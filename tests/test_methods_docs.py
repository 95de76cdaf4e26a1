"""docs/methods.md says what the methods say of themselves, and every method says enough."""

import subprocess
import sys
from pathlib import Path

import pytest

from cillab.learners import by_family, learners

ROOT = Path(__file__).parents[1]


def test_the_page_is_up_to_date() -> None:
    command = [sys.executable, "scripts/methods_docs.py", "--check"]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_every_method_stands_in_one_family() -> None:
    assert sorted(name for names in by_family().values() for name in names) == sorted(learners)


@pytest.mark.parametrize("name", list(learners))
def test_a_card_says_what_when_how_sure_and_what_is_kept(name: str) -> None:
    cls = learners[name]
    can = cls.capabilities
    assert can.summary and can.paper and can.evidence and can.when.endswith(".")
    assert "|" not in can.summary + can.when + can.paper
    text = " ".join((cls.__doc__ or "").split())
    assert "eeps" in text or "stores" in text or "holds" in text.lower(), "the docstring does not say what is kept"
    assert "pass" in text, "the docstring does not say how many passes an image takes"
