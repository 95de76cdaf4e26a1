"""No shared code asks for a method by its name: what a learner can do is declared, and asked of its declaration."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from cillab.learners import learners

HOME = Path(__file__).parents[1]
OWN = ("learners", "teaching", "demo")  # rooms that may speak of methods by name

# What is left, and why. A line that is no longer needed fails too, so that the list can only shrink.
ALLOWED = {
    ("cillab/lab/spec.py", "simplecil"): "the learner of a request that names none",
    ("app/views/train/form.py", "simplecil"): "the learner that the form begins with",
    ("app/views/start/overview.py", "min"): "minutes",
    ("app/views/head_lab/heads.py", "lda"): "a kind of head, not the learner",
    ("cillab/parts/decoupled.py", "lora"): "low-rank factors, not the learner",
    ("cillab/geometry/heads.py", "lda"): "a kind of head, not the learner",
    ("cillab/plane/__init__.py", "lda"): "a plane, not the learner",
    ("cillab/streams/lists.py", "coop"): "the division of data sets that its authors publish",
}


def _files() -> list[Path]:
    files = [file for room in ("cillab", "app") for file in sorted((HOME / room).rglob("*.py"))]
    return [file for file in files if file.relative_to(HOME).parts[1] not in OWN]


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


def _imports() -> dict[str, set[str]]:
    """What every module of library and app imports: also inside functions, and for type checkers alone."""
    files = [file for room in ("cillab", "app") for file in (HOME / room).rglob("*.py")]
    homes = {".".join(file.relative_to(HOME).with_suffix("").parts).removesuffix(".__init__"): file for file in files}
    edges: dict[str, set[str]] = {}
    for module, file in homes.items():
        names = set[str]()
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                whole = {f"{node.module}.{alias.name}" for alias in node.names}
                names |= {name if name in homes else str(node.module) for name in whole}
        edges[module] = names & homes.keys() - {module}
    return edges


def test_no_module_stands_in_a_circle_of_imports() -> None:
    edges = _imports()
    del edges["cillab"]  # the face: it names all rooms lazily, and they read its version
    assert edges["cillab.streams.leaks"] and edges["app.views.compare.tables"], "nothing was read"
    try:
        order = [*TopologicalSorter(edges).static_order()]
    except CycleError as error:
        raise AssertionError(f"a circle: {' < '.join(error.args[1])}") from None
    assert order.index("cillab.core.errors") < order.index("cillab.lab.engine")


# Public classes of the library that share a name, and why a reader does not mix them up; the list can only shrink.
SHARED_NAMES = {
    "Affine": "the map x -> A x + b, worn as a delta or carried over to Gaussians",
    "Archive": "a download: its row in the table of data sets, and the reader of CIFAR's",
    "Block": "rows of a cache of images; classes that came together",
    "Collapse": "the numbers and what a figure reads of them",
    "Drift": "the numbers and what a figure reads of them",
    "Group": "figures of a part, runs of several seeds",
    "Head": "rows of a learner, a head fitted in NumPy",
    "Images": "stored images by room",
    "LDA": "the learner and its head",
    "Layout": "where images lie on disk, on a plane",
    "Opener": "of named sets and of sources",
    "Part": "what is saved of a learner, what a page is made of",
    "Place": "where a slot stands, where data come from",
    "Plan": "the tasks of a scenario, the runs of a sweep",
    "Retention": "the numbers and what a figure reads of them",
    "Run": "a run on disk; the images at hand in `embed`",
    "State": "what a part holds, how far a job is",
    "Subspaces": "directions of a drift; prototypes per task",
    "Table": "tensors by name; rows of many runs",
}


def test_a_class_has_its_name_for_itself() -> None:
    homes: dict[str, set[str]] = {}
    for file in (HOME / "cillab").rglob("*.py"):
        for node in ast.parse(file.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, set()).add(str(file.relative_to(HOME)))
    twice = {name for name, files in homes.items() if len(files) > 1}
    assert twice - SHARED_NAMES.keys() == set(), "find another name, or say why this one may stand twice"
    assert SHARED_NAMES.keys() - twice == set(), "no longer needed: take it out of the list"


def test_no_module_is_the_plural_of_its_neighbour() -> None:
    for folder in {file.parent for room in ("cillab", "app") for file in (HOME / room).rglob("*.py")}:
        stems = {file.stem for file in folder.glob("*.py")} - {"slot"}  # what a slot is; `slots` puts them in places
        assert not {stem for stem in stems if f"{stem}s" in stems}, folder
