"""Notebooks from readable sources and back, the student version, and a gallery of executed ones.

    python scripts/notebooks.py write              notebooks/sources/*.py -> notebooks/*.ipynb
    python scripts/notebooks.py read               the other way, after an edit in Jupyter
    python scripts/notebooks.py student OUT        without solutions
    python scripts/notebooks.py gallery OUT        executed, as HTML that needs no network (scripts/pages.py)
    python scripts/notebooks.py slides OUT         executed, as slides of reveal.js, without solutions and checks

A source is a Python file in the percent format, which editors and jupytext know too: `# %%` begins a code cell,
`# %% [markdown]` a text, `# %% tags=["exercise"]` a tagged one. The tags: `exercise` (a stub), `check` (one call),
`solution` (folded), `real-data` (not run unless the reader says so). The student version adds `lifeline`.
"""

import argparse
import ast
import json
import os
import re
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

HOME = Path(__file__).parents[1] / "notebooks"
LIMIT_BYTES = 1_500_000  # of an executed notebook: a player carries 200 thumbnails of 64 pixels
CELL_TIMEOUT_S = 600
_HEAD = re.compile(r"^# %%(?P<markdown> \[markdown\])?(?: tags=(?P<tags>\[.*\]))?$")
_KERNEL = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}

Notebook = dict[str, Any]


def from_source(text: str) -> Notebook:
    """The notebook that a percent source describes.

    Raises:
        ValueError: text before the first cell, or a head that cannot be read (with its line).
    """
    cells: list[dict[str, Any]] = []
    body: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.startswith("# %%"):
            if not cells and line.strip():
                raise ValueError(f"line {number}: text before the first `# %%`")
            body.append(line)
            continue
        head = _HEAD.match(line)
        if head is None:
            raise ValueError(f"line {number}: cannot read {line!r}")
        _close(cells, body)
        body = []
        cells.append(_cell(len(cells), markdown=bool(head["markdown"]), tags=json.loads(head["tags"] or "[]")))
    _close(cells, body)
    return {"cells": cells, "metadata": _KERNEL, "nbformat": 4, "nbformat_minor": 5}


def to_source(notebook: Notebook) -> str:
    """The percent source of a notebook; `from_source` undoes it."""
    parts = []
    for cell in notebook["cells"]:
        lines, tags = "".join(cell["source"]).splitlines(), cell["metadata"].get("tags", [])
        markdown = cell["cell_type"] == "markdown"
        head = "# %%" + (" [markdown]" if markdown else "") + (f" tags={json.dumps(tags)}" if tags else "")
        shown = [f"# {line}".rstrip() for line in lines] if markdown else lines
        parts.append("\n".join([head, *shown]))
    return "\n\n".join(parts) + "\n"


def dumps(notebook: Notebook) -> str:
    """JSON as nbstripout writes it."""
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def number(path: Path) -> str:
    """The number of a chapter: "07" or "07b"."""
    return path.stem.partition("_")[0]


def without_solutions(notebook: Notebook) -> Notebook:
    """The student version: cells tagged `solution` are gone, a line on top says what to do."""
    note = _cell(0, markdown=True, tags=[])
    note["source"] = [
        "*Student version: each exercise is a function that you write; the cell below it says whether it is right.\n",
        "Later cells use your functions, so go from top to bottom. Where one is not right yet, the cell after the\n",
        "check borrows the course's, so that everything below runs. The score at the end says which were yours.*",
    ]
    cells = [notebook["cells"][0], note]
    for cell in notebook["cells"][1:]:
        tags = cell["metadata"].get("tags", [])
        if "solution" not in tags:
            cells.append(cell)
        if "check" in tags:
            cells.append(_lifeline("".join(cell["source"]).strip()))
    return {**notebook, "cells": [{**cell, "id": str(index)} for index, cell in enumerate(cells)]}


def solutions(notebook: Notebook) -> str:
    """A module with the functions of the solution cells and the imports that they need."""
    code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    solved = ["".join(cell["source"]) for cell in notebook["cells"] if "solution" in cell["metadata"].get("tags", [])]
    functions = [node for one in solved for node in ast.parse(one).body if isinstance(node, ast.FunctionDef)]
    used = {node.id for function in functions for node in ast.walk(function) if isinstance(node, ast.Name)}
    imports = []
    for statement in ast.parse(code[0]).body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            statement.names = [one for one in statement.names if (one.asname or one.name.split(".")[0]) in used]
            if statement.names:
                imports.append(ast.unparse(statement))
    imports.sort(key=lambda line: (line.split()[1] in {"numpy", "torch"}, line))
    bodies = [ast.get_source_segment(one, node) or "" for one in solved for node in ast.parse(one).body
              if isinstance(node, ast.FunctionDef)]  # fmt: skip
    public = ", ".join(f'"{function.name}"' for function in functions)
    head = '"""Solutions of a chapter, written from its solution cells by `make write`."""'
    return (
        "\n\n".join([head, "\n".join(imports), f"__all__ = [{public}]"]) + "".join(f"\n\n\n{b}" for b in bodies) + "\n"
    )


def execute(path: Path) -> Any:
    """Run a notebook in a fresh kernel, where it stands; plotly figures as JSON only.

    What a function prints inside `interact` becomes output of the cell, not of a widget. nbclient would keep it in the
    widget's state, and tell the kernel so through the socket on which it waits for the cell to end. It sends past
    asyncio's handler; when the reply arrives in that moment, the wake-up is consumed and the wait never ends (nbclient
    issue 312). Without an entry in `widget_registry` it sends nothing.

    Raises:
        CellExecutionError: a cell failed. ValueError: the result is too large to be passed on.
    """
    import nbformat  # noqa: PLC0415 (only here: the rest needs the standard library alone)
    from nbclient import NotebookClient  # noqa: PLC0415

    os.environ["PLOTLY_RENDERER"] = "plotly_mimetype"
    notebook = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(notebook, timeout=CELL_TIMEOUT_S, startup_timeout=300, resources=where)
    client.widget_registry = {}
    client.execute()
    size = len(nbformat.writes(notebook))
    if size > LIMIT_BYTES:
        raise ValueError(f"{path.name} is {size:,} bytes when executed, the limit is {LIMIT_BYTES:,}")
    return notebook


class Repository(NamedTuple):
    """Where the course lies on GitHub, from `notebooks/course.toml`; an empty name means nowhere yet."""

    name: str  # "owner/name"
    branch: str

    def badges(self, path: Path) -> list[tuple[str, str]]:
        """What leads from a chapter's page to a notebook that runs, and to its source; nothing without a name."""
        file = f"notebooks/{path.name}"
        return [
            ("Open in Colab", f"https://colab.research.google.com/github/{self.name}/blob/{self.branch}/{file}"),
            ("Open in Binder", f"https://mybinder.org/v2/gh/{self.name}/{self.branch}?labpath={file}"),
            ("Source", f"https://github.com/{self.name}/blob/{self.branch}/{file}"),
        ] if self.name else []  # fmt: skip

    def first_cell(self) -> Notebook:
        """What a hosted notebook needs before anything else: the course and, beside the notebook, its checks."""
        cell = _cell(0, markdown=False, tags=["hosted"])
        cell["source"] = [
            "# Only where cillab is not there yet, as on a hosted notebook: course, checks, PyTorch for CPUs.\n",
            "import importlib.util\n",
            "\n",
            'if importlib.util.find_spec("cillab") is None:\n',
            f"    !git clone --quiet --depth 1 --branch {self.branch} https://github.com/{self.name} course\n",
            "    %pip install --quiet --extra-index-url https://download.pytorch.org/whl/cpu ./course[notebooks]\n",
            "    %cd course/notebooks",
        ]
        return cell


def repository(home: Path = HOME) -> Repository:
    """What `course.toml` says.

    Raises:
        ValueError: a name that is not "owner/name".
    """
    said = tomllib.loads((home / "course.toml").read_text())
    if said["repository"] and not re.fullmatch(r"[\w.-]+/[\w.-]+", said["repository"]):
        raise ValueError(f'course.toml: repository is {said["repository"]!r}, not "owner/name" or "".')
    return Repository(said["repository"], said["branch"])


def write(home: Path = HOME) -> None:
    """Every notebook from its source."""
    for source in sorted((home / "sources").glob("*.py")):
        target, notebook = home / f"{source.stem}.ipynb", from_source(source.read_text())
        target.write_text(dumps(notebook))
        answers = home / "checks" / "solutions" / f"chapter_{number(source)}.py"
        answers.parent.mkdir(parents=True, exist_ok=True)
        answers.write_text(solutions(notebook))
        print(target)


def read(home: Path = HOME) -> None:
    """Every source from its notebook."""
    for path in sorted(home.glob("*.ipynb")):
        target = home / "sources" / f"{path.stem}.py"
        target.write_text(to_source(json.loads(path.read_text())))
        print(target)


def student(out: Path, home: Path = HOME) -> None:
    """The student version of every notebook."""
    shutil.copytree(home / "checks", out / "checks", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    place = repository(home)
    for path in sorted(home.glob("*.ipynb")):
        version = without_solutions(json.loads(path.read_text()))
        if place.name:
            version["cells"].insert(2, {**place.first_cell(), "id": "hosted"})
        (out / path.name).write_text(dumps(version))
        print(out / path.name)


def gallery(out: Path, home: Path = HOME, only: str = "") -> None:
    """Every notebook executed and rendered, with an index and the documents that chapters link to."""
    sys.path.insert(0, str(Path(__file__).parent))  # where this file was loaded by its path
    import pages  # noqa: PLC0415 (needs nbconvert)

    out.mkdir(parents=True, exist_ok=True)
    place, entries, linked = repository(home), [], set()
    chapters = {number(path).lstrip("0") or "0": f"{path.stem}.html" for path in home.glob("*.ipynb")}
    for path in sorted(home.glob("*.ipynb")):
        source = "".join("".join(cell["source"]) for cell in json.loads(path.read_text())["cells"][:1])
        title = re.sub(r"^#+\s*", "", source.splitlines()[0])
        entries.append((f"{path.stem}.html", f"{number(path)} {title}"))
        linked |= set(re.findall(r"\]\(\.\./(docs/[\w/-]+\.md)", path.read_text()))
        if only in path.stem:
            made = pages.page(execute(path), title, place.badges(path), chapters)
            (out / f"{path.stem}.html").write_text(made)
            print(out / f"{path.stem}.html")
    pages.frame(out, entries, home.parent, sorted(linked))


def cut(notebook: Any) -> Any:
    """A notebook for a projector: a slide per section, one below it per text and figure, no solutions and checks."""
    left_out = {"solution", "check", "exercise", "real-data", "lifeline", "hosted"}
    cells = [cell for cell in notebook.cells if not left_out & set(cell.metadata.get("tags", ()))]
    notebook.cells = [cell for cell in cells if cell.source != "scorecard(globals())"]
    for cell in notebook.cells:
        section = cell.cell_type == "markdown" and re.match(r"##? ", cell.source)
        below = cell.cell_type == "markdown" or cell.source.startswith("# Figure ")
        cell.metadata["slideshow"] = {"slide_type": "slide" if section else "subslide" if below else "-"}
    return notebook


def slides(out: Path, home: Path = HOME, only: str = "") -> None:
    """Every notebook executed and cut into slides, the script that draws beside them; reveal.js is on the network."""
    sys.path.insert(0, str(Path(__file__).parent))
    import pages  # noqa: PLC0415 (needs nbconvert)

    out.mkdir(parents=True, exist_ok=True)
    pages.frame(out, [], home.parent, [])
    (out / "index.html").unlink()
    for path in sorted(home.glob("*.ipynb")):
        if only in path.stem:
            (out / f"{path.stem}.html").write_text(pages.page(cut(execute(path)), path.stem, slides=True))
            print(out / f"{path.stem}.html")


def _cell(index: int, *, markdown: bool, tags: list[str]) -> dict[str, Any]:
    hidden = {"jupyter": {"source_hidden": True}} if "solution" in tags else {}
    metadata = {**hidden, **({"tags": tags} if tags else {})}
    if markdown:
        return {"cell_type": "markdown", "id": str(index), "metadata": metadata, "source": []}
    cell = {"cell_type": "code", "execution_count": None, "id": str(index), "metadata": metadata}
    return {**cell, "outputs": [], "source": []}


def _lifeline(check: str) -> dict[str, Any]:
    """A cell that borrows the course's function where the reader's is not right; `check` is "check_x(x)"."""
    name = check[check.index("(") + 1 : -1]
    cell = _cell(0, markdown=False, tags=["lifeline"])
    cell["source"] = [
        "from cillab.teaching import solution\n", "\n", f"if not {check}:\n", f'    {name} = solution("{name}")'
    ]  # fmt: skip
    return cell


def _close(cells: list[dict[str, Any]], body: list[str]) -> None:
    """Put the lines read so far into the last cell, without blank lines around them."""
    if not cells:
        return
    if cells[-1]["cell_type"] == "markdown":
        body = [line.removeprefix("#").removeprefix(" ") for line in body]
    text = "\n".join(body).strip("\n")
    cells[-1]["source"] = text.splitlines(keepends=True)


def main(arguments: list[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("write")
    commands.add_parser("read")
    commands.add_parser("student").add_argument("out", type=Path)
    for name in ("gallery", "slides"):
        shown = commands.add_parser(name)
        shown.add_argument("out", type=Path)
        shown.add_argument("--only", default="", help="part of a name, such as 02")
    given = parser.parse_args(arguments)
    match given.command:
        case "write":
            write()
        case "read":
            read()
        case "student":
            student(given.out)
        case "gallery":
            gallery(given.out, only=given.only)
        case "slides":
            slides(given.out, only=given.only)


if __name__ == "__main__":
    main(sys.argv[1:])
