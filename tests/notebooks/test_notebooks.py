"""What holds of every notebook as it is committed; running them is `make notebooks`."""

import ast
import json
import re
import runpy
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest

from cillab.core.errors import InvalidRequestError, UnknownNameError
from cillab.teaching import scorecard, sketch, solution

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


def chapter(path: Path) -> Any:
    """The module with the checks of a notebook."""
    return import_module(f"checks.chapter_{TOOL['number'](path)}")


def texts(path: Path) -> str:
    found = nbformat.read(path, as_version=4).cells
    return "\n\n".join(cell.source for cell in found if cell.cell_type == "markdown")


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
    assert max(len(re.sub(r"^# Figure .*\n", "", cell.source).splitlines()) for cell in cells(path)) <= 15
    first, *_, last = nbformat.read(path, as_version=4).cells
    for said in ("# ", "**You will**", "**Time**", "**Needs**"):
        assert said in first.source
    assert first.source.splitlines()[0].endswith("?")  # the title is a question
    assert "## Take-aways" in last.source
    assert "localhost" in last.source  # the same thing in the app


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", texts(path)):
        assert (path.parent / target).exists(), target
    for view in re.findall(r"localhost:8501/(\w+)", path.read_text()):
        assert (HOME / "app" / "views" / view / f"{view}.py").exists(), view


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stubs_fail_and_solutions_pass(path: Path) -> None:
    checks = [re.fullmatch(r"(check_\w+)\((\w+)\)", cell.source.strip()) for cell in cells(path, "check")]
    stubs, solutions = cells(path, "exercise"), cells(path, "solution")
    assert len(checks) == len(stubs) == len(solutions) >= 2
    known = imports(path)
    public = {name: value for name, value in known.items() if name.startswith("check_")}
    assert [check[2] for check in checks if check] == list(chapter(path).EXERCISES)
    for check, stub, answer in zip(checks, stubs, solutions, strict=True):
        assert check is not None, "a check cell is one call: check_x(x)"
        undone = dict(known)
        exec(stub.source, undone)
        verdict = public[check[1]](undone[check[2]])
        assert not verdict
        assert verdict.message.startswith("write the function")
        done = {**undone, **public}
        exec(answer.source, done)
        assert public[check[1]](done[check[2]])
        assert answer.metadata["jupyter"]["source_hidden"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_exercises_say_how_long_how_hard_and_give_a_hint_before_the_solution(path: Path) -> None:
    found = nbformat.read(path, as_version=4).cells
    for place, cell in enumerate(found):
        if "exercise" in cell.metadata.get("tags", ()):
            said = found[place - 1].source
            assert re.search(r"^### Exercise \d \(\d+ minutes, (easy|medium|hard)\)$", said, re.MULTILINE)
            assert "<summary>Hint</summary>" in said
    open_one = texts(path).partition("### Open exercise (")[2]
    assert re.match(r"\d+ minutes\)\n", open_one)
    assert open_one.partition("*Rubric:*")[2].count("* ") >= 3
    assert cells(path)[-1].source == "scorecard(globals())"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_score_tells_own_from_borrowed_and_open(path: Path) -> None:
    module = chapter(path)
    checks = {check.__name__: check for check in module.EXERCISES.values()}
    names = list(module.EXERCISES)
    assert set(scorecard(checks).outcome.values()) == {"open"}
    borrowed = {name: solution(name) for name in names}
    assert scorecard({**checks, **borrowed}).outcome == dict.fromkeys(names, "borrowed")
    own = {name: lambda *given, one=function: one(*given) for name, function in borrowed.items()}
    done = scorecard({**checks, **own})
    assert done.right == len(names)
    assert f"{len(names)} of {len(names)} exercises right" in repr(done)
    one_wrong = scorecard({**checks, **own, names[0]: lambda *_: None})
    assert one_wrong.outcome[names[0]] == "open"
    assert one_wrong.right == len(names) - 1


def test_an_exercise_has_one_name_in_the_whole_course() -> None:
    names = [name for path in NOTEBOOKS for name in chapter(path).EXERCISES]
    assert len(names) == len(set(names))
    with pytest.raises(UnknownNameError, match="Did you mean 'forgetting'"):
        solution("forgeting")
    with pytest.raises(InvalidRequestError, match="no chapter"):
        scorecard({})


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_student_version_has_every_exercise_and_no_solution(path: Path) -> None:
    student = nbformat.reads(TOOL["dumps"](TOOL["without_solutions"](json.loads(path.read_text()))), as_version=4)
    nbformat.validate(student)
    left = [cell for cell in student.cells if cell.cell_type == "code"]
    tags = [tag for cell in left for tag in cell.metadata.get("tags", ())]
    assert "solution" not in tags
    assert tags.count("exercise") == tags.count("check") == tags.count("lifeline") == len(cells(path, "exercise"))
    for answer in cells(path, "solution"):
        assert answer.source not in [cell.source for cell in left]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_real_data_waits_to_be_asked(path: Path) -> None:
    marked = cells(path, "real-data")
    assert len(marked) == 1
    assert marked[0].source.startswith("BIG = False")
    for cell in cells(path):
        assert cell in marked or not re.search(r"cifar|timm:|openclip:|hf:", cell.source), "needs a download"


def test_the_student_version_runs_to_its_end_with_nothing_done(tmp_path: Path) -> None:
    pytest.importorskip("nbclient")
    TOOL["student"](tmp_path)
    done = TOOL["execute"](tmp_path / NOTEBOOKS[0].name)
    score = done.cells[-2].outputs[0]["data"]["text/plain"]
    assert score.startswith("Chapter 00: 0 of 3 exercises right (summaries borrowed")


def test_the_library_says_what_is_missing_without_the_course(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "checks", None)
    monkeypatch.setitem(sys.modules, "checks.solutions", None)
    with pytest.raises(InvalidRequestError, match="belongs beside the notebook"):
        solution("merge")


def test_a_source_that_cannot_be_read_names_its_line() -> None:
    with pytest.raises(ValueError, match="line 1: text before"):
        TOOL["from_source"]("import os\n# %%\n")
    with pytest.raises(ValueError, match=r"line 3: cannot read '# %% \[raw\]'"):
        TOOL["from_source"]("# %%\n1\n# %% [raw]\n")


def test_hosted_notebooks_and_badges_come_from_one_address(tmp_path: Path) -> None:
    assert not TOOL["repository"](HOME / "notebooks").badges(NOTEBOOKS[0])  # no address yet, no badge
    (tmp_path / "course.toml").write_text('repository = "who/what"\nbranch = "main"\n')
    place = TOOL["repository"](tmp_path)
    addresses = [address for _, address in place.badges(NOTEBOOKS[0])]
    assert all("who/what" in one and NOTEBOOKS[0].name in one for one in addresses)
    assert "github.com/who/what" in "".join(place.first_cell()["source"])
    (tmp_path / "course.toml").write_text('repository = "https://github.com/who/what"\nbranch = "main"\n')
    with pytest.raises(ValueError, match="owner/name"):
        TOOL["repository"](tmp_path)


def test_every_small_plot_has_an_alternative_text() -> None:
    bars = sketch.bars(["a", "b"], {"x": [1.0, 2.5], "y": [0.0, 3.0]}, y_title="share")
    assert bars.layout.meta["alt"] == "Bars. x: a 1, b 2.5; y: a 0, b 3."
    small = sketch.bars(["a"], {"x": [0.00126]}, y_title="largest value", levels={"floor": 0.0017})
    assert small.data[0].text == ("0.00126",)  # three digits, not three places
    assert small.layout.annotations[0].bgcolor.startswith("rgba(255")  # a bar may stand behind the name of a level
    matrix = np.array([[1.0, -0.5], [-0.5, 1.0]])
    assert (
        sketch.heat(matrix, x_title="cosines").layout.meta["alt"]
        == "A map of 2 by 2 values from -0.50 to 1.00: cosines."
    )
    grouped = sketch.heat(matrix, x_title="cosines", borders=[1])
    assert grouped.layout.meta["alt"] == "A map of 2 by 2 values from -0.50 to 1.00: cosines, in 2 groups."
    assert [(line.x0, line.y0) for line in grouped.layout.shapes] == [(0, 0.5), (0.5, 0)]
