"""What holds of every notebook as it is committed; running them is `make notebooks`."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from cillab import teaching

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def cells(path: Path, tag: str | None = None) -> list[Any]:
    found = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    return [cell for cell in found if tag is None or tag in cell.metadata.get("tags", ())]


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
def test_cells_are_short_and_the_end_says_what_to_keep(path: Path) -> None:
    assert max(len(cell.source.splitlines()) for cell in cells(path)) <= 15
    last = nbformat.read(path, as_version=4).cells[-1]
    assert "## Take-aways" in last.source
    assert "localhost" in last.source  # the same thing in the app


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stubs_fail_and_solutions_pass(path: Path) -> None:
    checks = [re.fullmatch(r"(check_\w+)\((\w+)\)", cell.source.strip()) for cell in cells(path, "check")]
    stubs, solutions = cells(path, "exercise"), cells(path, "solution")
    assert len(checks) == len(stubs) == len(solutions) >= 2
    public = {name: getattr(teaching, name) for name in teaching.__all__}
    for check, stub, solution in zip(checks, stubs, solutions, strict=True):
        assert check is not None, "a check cell is one call: check_x(x)"
        undone: dict[str, Any] = {}
        exec("import numpy as np", undone)
        exec(stub.source, undone)
        assert not public[check[1]](undone[check[2]])
        done = {**undone, **public}
        exec(solution.source, done)
        assert public[check[1]](done[check[2]])
        assert solution.metadata["jupyter"]["source_hidden"]
