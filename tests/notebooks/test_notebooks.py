"""What holds of every notebook as it is committed; running them is `make notebooks`."""

import ast
import json
import re
import runpy
from pathlib import Path
from typing import Any

import nbformat
import pytest

from cillab import teaching

HOME = Path(__file__).parents[2]
NOTEBOOKS = sorted((HOME / "notebooks").glob("*.ipynb"))
TOOL = runpy.run_path(str(HOME / "scripts" / "notebooks.py"))


def cells(path: Path, tag: str | None = None) -> list[Any]:
    found = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    return [cell for cell in found if tag is None or tag in cell.metadata.get("tags", ())]


def imports(path: Path) -> dict[str, Any]:
    """The names that the first code cell imports: what an exercise may use."""
    statements = ast.parse(cells(path)[0].source).body
    kept = [statement for statement in statements if isinstance(statement, ast.Import | ast.ImportFrom)]
    namespace: dict[str, Any] = {}
    exec(compile(ast.Module(kept, []), str(path), "exec"), namespace)
    return namespace


def test_there_is_a_tour() -> None:
    assert NOTEBOOKS[0].name == "00_tour_of_a_run.ipynb"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_without_outputs_and_small(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.outputs and cell.execution_count is None for cell in cells(path))
    assert "widgets" not in notebook.metadata
    assert path.stat().st_size < 1_000_000
    assert not re.search(r"(?<![\w.:/])/(home|root|tmp|Users|work)/", path.read_text())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_says_the_same_as_its_source(path: Path) -> None:
    source = path.parent / "sources" / f"{path.stem}.py"
    assert path.read_text() == TOOL["dumps"](TOOL["from_source"](source.read_text())), "run: make write"
    again = TOOL["from_source"](TOOL["to_source"](json.loads(path.read_text())))
    assert TOOL["dumps"](again) == path.read_text()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_cells_are_short_and_the_end_says_what_to_keep(path: Path) -> None:
    assert max(len(cell.source.splitlines()) for cell in cells(path)) <= 15
    first, *_, last = nbformat.read(path, as_version=4).cells
    for said in ("# ", "**You will**", "**Time**", "**Needs**"):
        assert said in first.source
    assert first.source.splitlines()[0].endswith("?")  # the title is a question
    assert "## Take-aways" in last.source
    assert "localhost" in last.source  # the same thing in the app


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target
    for view in re.findall(r"localhost:8501/(\w+)", path.read_text()):
        assert (HOME / "app" / "views" / f"{view}.py").exists(), view


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stubs_fail_and_solutions_pass(path: Path) -> None:
    checks = [re.fullmatch(r"(check_\w+)\((\w+)\)", cell.source.strip()) for cell in cells(path, "check")]
    stubs, solutions = cells(path, "exercise"), cells(path, "solution")
    assert len(checks) == len(stubs) == len(solutions) >= 2
    public = {name: getattr(teaching, name) for name in teaching.__all__ if name.startswith("check_")}
    known = imports(path)
    for check, stub, solution in zip(checks, stubs, solutions, strict=True):
        assert check is not None, "a check cell is one call: check_x(x)"
        undone = dict(known)
        exec(stub.source, undone)
        verdict = public[check[1]](undone[check[2]])
        assert not verdict
        assert verdict.message.startswith("write the function")
        done = {**undone, **public}
        exec(solution.source, done)
        assert public[check[1]](done[check[2]])
        assert solution.metadata["jupyter"]["source_hidden"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_student_version_has_every_exercise_and_no_solution(path: Path) -> None:
    student = nbformat.reads(TOOL["dumps"](TOOL["without_solutions"](json.loads(path.read_text()))), as_version=4)
    nbformat.validate(student)
    left = [cell for cell in student.cells if cell.cell_type == "code"]
    tags = [tag for cell in left for tag in cell.metadata.get("tags", ())]
    assert "solution" not in tags
    assert tags.count("exercise") == tags.count("check") == len(cells(path, "exercise"))
    for solution in cells(path, "solution"):
        assert solution.source not in [cell.source for cell in left]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_real_data_waits_to_be_asked(path: Path) -> None:
    marked = cells(path, "real-data")
    assert len(marked) == 1
    assert marked[0].source.startswith("BIG = False")
    for cell in cells(path):
        assert cell in marked or not re.search(r"cifar|timm:|openclip:|hf:", cell.source), "needs a download"


def test_a_source_that_cannot_be_read_names_its_line() -> None:
    with pytest.raises(ValueError, match="line 1: text before"):
        TOOL["from_source"]("import os\n# %%\n")
    with pytest.raises(ValueError, match=r"line 3: cannot read '# %% \[raw\]'"):
        TOOL["from_source"]("# %%\n1\n# %% [raw]\n")


def test_a_page_draws_widgets_that_bring_a_module_and_leaves_sliders_out() -> None:
    pytest.importorskip("nbconvert")

    def view(name: str) -> Any:
        data = {"text/plain": f"Widget({name})", "application/vnd.jupyter.widget-view+json": {"model_id": name}}
        return nbformat.v4.new_output("display_data", data)

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=[view("a"), view("b")])])
    models = {
        "a": {"state": {"_esm": "export default { render() {} }", "_css": ".a {}", "data": "</script>"}},
        "b": {"state": {"value": 3}},
    }
    notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": models}}
    html = TOOL["page"](notebook, "title")
    assert '<div id="figure-0-0">' in html
    assert 'const state = {"data": "<\\/script>"}' in html  # a run's text cannot end the script
    assert html.count("export default { render() {} }") == 1
    assert "<style>.a {}</style>" in html
    assert "figure-0-1" not in html
    assert "Widget(" not in html
