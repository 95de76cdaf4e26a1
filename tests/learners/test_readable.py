"""A method is read in one go: its file without its record of hyper-parameters is short."""

import ast
import re
from pathlib import Path

import pytest

import cillab.learners
from cillab.core.registry import learners

MOST = 120  # lines that are read for one method
LONGER = {
    "MiN": (172, "paper, released code and our default differ in nine places, and each stays selectable"),
}
FILES = [p for p in sorted(Path(cillab.learners.__file__).parent.glob("*.py")) if p.stem not in {"__init__", "checks"}]


def test_a_method_stands_in_a_file_that_is_called_like_it() -> None:
    """So that it is found, and asking for it loads no other (`make_learner` looks for the file first)."""
    ours = {n: learners[n].__module__ for n in learners if learners[n].__module__.startswith("cillab.learners.")}
    assert ours == {name: f"cillab.learners.{name.replace('-', '_')}" for name in ours}
    assert sorted(name.replace("-", "_") for name in ours) == [file.stem for file in FILES]


def lengths(source: str) -> dict[str, int]:
    """Lines that are read for each method of a file: all but records and the other methods of a family."""
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]

    def lines(node: ast.ClassDef) -> int:
        return node.end_lineno - min(node.lineno, *(d.lineno for d in node.decorator_list), node.lineno) + 1

    records = [node for node in classes if node.name.endswith("Params")]
    methods = [n for n in classes if any(ast.unparse(d).startswith("method(") for d in n.decorator_list)]
    shared = len(source.splitlines()) - sum(map(lines, records)) - sum(map(lines, methods))
    return {node.name: shared + lines(node) for node in methods}


@pytest.mark.parametrize("file", FILES, ids=lambda p: p.stem)
def test_a_method_is_at_most_120_lines_without_its_record(file: Path) -> None:
    for name, count in lengths(file.read_text()).items():
        most, reason = LONGER.get(name, (MOST, ""))
        assert count <= most, f"{file.name}: {count} lines are read for {name}, at most {most} ({reason or 'the rule'})"
        assert name not in LONGER or count > MOST, f"{name} needs no exception any more"


@pytest.mark.parametrize("file", FILES, ids=lambda p: p.stem)
def test_a_record_says_what_its_fields_mean_and_not_what_was_measured(file: Path) -> None:
    records = [n for n in ast.parse(file.read_text()).body if isinstance(n, ast.ClassDef) and n.name.endswith("Params")]
    for said in (node.value for record in records for node in ast.walk(record) if isinstance(node, ast.Expr)):
        text = said.value if isinstance(said, ast.Constant) and isinstance(said.value, str) else ""
        assert not re.search(r"\b\d\d\.\d\b|\d %", text), f"{file.name}: results go to docs/results: {text}"


def test_lines_are_counted_without_records_and_other_methods() -> None:
    first = "@method(\n    'a'\n)\nclass A:\n    b = 2\n"  # five lines
    second = "@method('b')\nclass B:\n    pass\n"  # three
    source = f"import x\n\nclass AParams:\n    a = 1\n\n{first}\n{second}"
    assert lengths(source) == {"A": 4 + 5, "B": 4 + 3}
