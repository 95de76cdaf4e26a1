"""No shared code asks for a method by its name: what a learner can do is declared, and asked of its declaration."""

import ast
from pathlib import Path

import pytest

from cillab.learners import learners

HOME = Path(__file__).parents[1]
SHARED = (
    "app", "cillab/cli.py", "cillab/cockpit", "cillab/core", "cillab/explain", "cillab/figures", "cillab/geometry",
    "cillab/lab", "cillab/parts", "cillab/plane", "cillab/player", "cillab/protocol", "cillab/report.py", "cillab/runs",
    "cillab/screen.py", "cillab/study.py",
)  # fmt: skip

# What is left, and why. A line that is no longer needed fails too, so that the list can only shrink.
ALLOWED = {
    ("cillab/lab/spec.py", "simplecil"): "the learner of a request that names none",
    ("app/views/train/form.py", "simplecil"): "the learner that the form begins with",
    ("app/views/start/overview.py", "min"): "minutes",
    ("app/views/head_lab/heads.py", "lda"): "a kind of head, not the learner",
    ("cillab/geometry/heads.py", "lda"): "a kind of head, not the learner",
    ("cillab/plane/__init__.py", "lda"): "a plane, not the learner",
}


def _files() -> list[Path]:
    paths = [HOME / name for name in SHARED if (HOME / name).exists()]
    return [file for path in paths for file in ([path] if path.is_file() else sorted(path.rglob("*.py")))]


def _named(source: str) -> set[str]:
    """Names of learners that stand in the code as whole strings; docstrings and comments may speak of methods."""
    tree, prose = ast.parse(source), set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            prose.add(id(body[0].value))
    strings = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return {node.value for node in strings if id(node) not in prose and node.value in learners}


def test_shared_code_holds_no_name_of_a_method() -> None:
    found = {(str(file.relative_to(HOME)), name) for file in _files() for name in _named(file.read_text("utf-8"))}
    assert found - ALLOWED.keys() == set(), "ask for a declared capability, not for a name"
    assert ALLOWED.keys() - found == set(), "no longer needed: take it out of the list"


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ('"""About ncptm."""\nx = 1', set()),
        ('def f():\n    """min and joint."""\n    return name == "ncptm"', {"ncptm"}),
        ('shown = {"dmc": 1, "other": 2}', {"dmc"}),
        ('text = "the joint UMAP takes 5 min"', set()),
    ],
)
def test_the_search_finds_names_and_no_prose(source: str, names: set[str]) -> None:
    assert _named(source) == names


def test_no_module_of_the_lab_imports_in_a_circle() -> None:
    """Counting what only type checkers see: engine and fork knew each other that way."""
    lab = HOME / "cillab" / "lab"
    edges: dict[str, set[str]] = {}
    for file in lab.glob("*.py"):
        if file.stem == "__init__":
            continue
        edges[file.stem] = set()
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "cillab.lab":
                edges[file.stem] |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cillab.lab."):
                edges[file.stem].add(str(node.module).rpartition(".")[2])

    def below(name: str, seen: tuple[str, ...] = ()) -> None:
        assert name not in seen, f"a circle: {' > '.join((*seen, name))}"
        for other in sorted(edges.get(name, ())):
            below(other, (*seen, name))

    for name in sorted(edges):
        below(name)
