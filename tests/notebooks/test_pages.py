"""Pages of the course: no network, formulas set, figures told, links that lead somewhere."""

import json
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

pytest.importorskip("nbconvert")
pytest.importorskip("plotly")
pytest.importorskip("latex2mathml")
from cillab.teaching import sketch

HOME = Path(__file__).parents[2]
sys.path.insert(0, str(HOME / "scripts"))  # as where one script imports another
TOOL = runpy.run_path(str(HOME / "scripts" / "notebooks.py"))
PAGES = runpy.run_path(str(HOME / "scripts" / "pages.py"))


def test_a_page_draws_widgets_that_bring_a_module_and_leaves_sliders_out() -> None:

    def view(name: str) -> Any:
        data = {"text/plain": f"Widget({name})", "application/vnd.jupyter.widget-view+json": {"model_id": name}}
        return nbformat.v4.new_output("display_data", data)

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=[view("a"), view("b")])])
    models = {
        "a": {"state": {"_esm": "export default { render() {} }", "_css": ".a {}", "data": "</script>"}},
        "b": {"state": {"value": 3}},
    }
    notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": models}}
    html = PAGES["page"](notebook, "title")
    assert '<div id="figure-0-0">' in html
    assert 'const state = {"data": "<\\/script>"}' in html  # a run's text cannot end the script
    assert html.count("export default { render() {} }") == 1
    assert "<style>.a {}</style>" in html
    assert "figure-0-1" not in html
    assert "Widget(" not in html


def test_a_page_says_what_a_figure_shows_and_links_to_pages() -> None:
    figure = sketch.lines([1.0, 2.0], {"accuracy": [0.5, 0.75]}, x_title="task", y_title="accuracy", percent=True)
    assert figure.layout.meta["alt"] == "Lines over task: accuracy goes from 50.0% to 75.0%."
    data = {"application/vnd.plotly.v1+json": json.loads(figure.to_json()), "text/plain": "Figure({...})"}
    output = nbformat.v4.new_output("display_data", data)
    told = nbformat.v4.new_output(
        "display_data", {"application/vnd.plotly.v1+json": {"data": [], "layout": {}}, "text/plain": "Two clouds meet."}
    )
    text = nbformat.v4.new_markdown_cell("See [05](05_growing_frames.ipynb), [format](../docs/run_folder.md).")
    notebook = nbformat.v4.new_notebook(cells=[text, nbformat.v4.new_code_cell("1", outputs=[output, told])])
    page = PAGES["page"](notebook, "title")
    assert 'aria-label="Lines over task: accuracy goes from 50.0% to 75.0%."' in page
    assert 'aria-label="Two clouds meet."' in page
    assert 'href="05_growing_frames.html"' in page


def test_every_formula_of_the_course_is_set_and_code_is_left_alone() -> None:
    count = 0
    for path in sorted((HOME / "notebooks").glob("*.ipynb")):
        for cell in json.loads(path.read_text())["cells"]:
            if cell["cell_type"] == "markdown":
                text, made = PAGES["formulas"]("".join(cell["source"]))
                count += len(made)
                assert not re.search(r"\$[^$`]*\\\w", re.sub(r"`[^`]*`", "", text)), path.name
    assert count > 300
    assert PAGES["formulas"]("cost `$5$` and ```\n$x$\n```") == ("cost `$5$` and ```\n$x$\n```", [])
    with pytest.raises(ValueError, match="nonsense"):
        PAGES["mathml"](r"\nonsense x", block=False)


def test_formulas_stand_on_the_page_where_markdown_would_break_them() -> None:
    text = "a $x_1 * x_2$ b\n\n| a | b |\n|---|---|\n| $|h|$ | $\\frac12$ |\n\n$$\\sum_i w_i$$\n"
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell(text), nbformat.v4.new_markdown_cell("$y$")]
    )
    page = PAGES["page"](notebook, "title")
    assert page.count("<math") == 5
    assert "<td" in page
    assert "$" not in re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL).split("<body")[1]


def test_slides_are_cut_by_section_text_and_figure() -> None:
    new = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    cells = [
        new[0]("# Title?"), new[1]("import this"), new[0]("## 1. One\n$x$"), new[1]("# Figure 1.1. Bars.\nbars()"),
        new[1]("def f(): ..."), new[0]("more"), new[1]("check_x(x)", metadata={"tags": ["check"]}),
        new[1]("scorecard(globals())"),
    ]  # fmt: skip
    notebook = TOOL["cut"](nbformat.v4.new_notebook(cells=cells))
    kinds = [cell.metadata["slideshow"]["slide_type"] for cell in notebook.cells]
    assert kinds == ["slide", "-", "slide", "subslide", "-", "subslide"]
    page = PAGES["page"](notebook, "title", slides=True)
    assert page.count("<section>") == 6  # two slides, with one and three below each other
    assert "<math" in page and "mathjax" not in page.lower().split("</head>")[0]


def test_nothing_is_loaded_from_elsewhere() -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("text"), nbformat.v4.new_code_cell("1")])
    page = PAGES["page"](notebook, "title", [("Source", "https://example.org/a")])
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=[\"']?(https?:)?//", page)
    assert "cdnjs" not in page
    assert '<a href="https://example.org/a">Source</a>' in page


def test_a_figure_without_alternative_text_is_refused() -> None:
    bare = nbformat.v4.new_output(
        "display_data", {"application/vnd.plotly.v1+json": {"data": [], "layout": {}}, "text/plain": "Figure({})"}
    )
    with pytest.raises(ValueError, match="no alternative text"):
        PAGES["page"](nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=[bare])]), "title")


def test_equations_and_figures_have_numbers_that_references_lead_to() -> None:
    text = nbformat.v4.new_markdown_cell("See (8.1), Figure 8.1, (9.2) and (1.5 points).\n\n$$a = b. \\tag{8.1}$$")
    figure = nbformat.v4.new_output(
        "display_data", {"application/vnd.plotly.v1+json": {"data": [], "layout": {}}, "text/plain": "Two clouds meet."}
    )
    cell = nbformat.v4.new_code_cell("# Figure 8.1. Two clouds & more.\nclouds()", outputs=[figure])
    chapters = {"8": "08_noise.html"}
    page = PAGES["page"](nbformat.v4.new_notebook(cells=[text, cell]), "title", chapters=chapters)
    assert 'href="08_noise.html#equation-8.1"' in page and 'id="equation-8.1"' in page
    assert 'href="08_noise.html#figure-8.1"' in page and 'id="figure-8.1"' in page
    assert "<b>Figure 8.1.</b> Two clouds &amp; more." in page
    assert "(9.2) and" in page and "\\tag" not in page


def test_a_slider_does_not_repeat_the_figure_above_it() -> None:
    def output(text: str) -> Any:
        data = {"application/vnd.plotly.v1+json": {"data": [], "layout": {"meta": {"alt": text}}}, "text/plain": "x"}
        return nbformat.v4.new_output("display_data", data)

    cells = [nbformat.v4.new_code_cell("1", outputs=[output(text)]) for text in ("Bars.", "Bars.", "Lines.", "Bars.")]
    page = PAGES["page"](nbformat.v4.new_notebook(cells=cells), "title")
    assert [page.count(f'aria-label="{text}"') for text in ("Bars.", "Lines.")] == [2, 1]


def test_numbers_that_chapters_quote_stand_in_the_records_that_they_link() -> None:
    quoted = 0
    for path in (HOME / "notebooks" / "sources").glob("*.py"):
        text = path.read_text()
        for found in re.finditer(r"^RECORDED = \{.*?\}", text, re.MULTILINE | re.DOTALL):
            cell = text.rfind("# %% [markdown]", 0, found.start())
            names = re.findall(r"\.\./(docs/results/[\w-]+\.md)", text[cell : found.start()])
            records = "".join((HOME / name).read_text() for name in names)
            for value in re.findall(r"-?\d+\.\d", re.sub(r'"[^"]*"', "", found[0])):
                if float(value):  # 0.0 stands for "no interval"
                    assert value.lstrip("-") in records, (path.name, value)
                    quoted += 1
    assert quoted > 30


def test_numbers_in_the_text_beside_a_link_stand_in_the_record_that_it_leads_to() -> None:
    quoted = 0
    for path in (HOME / "notebooks").glob("*.ipynb"):
        cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "markdown"]
        for text in "\n\n".join("".join(cell["source"]) for cell in cells).split("\n\n"):
            names = re.findall(r"\.\./(docs/results/[\w-]+\.md)", text)
            records = "".join((HOME / name).read_text() for name in names)
            plain = re.sub(r"\$.*?\$|`.*?`", "", text) if names else ""
            for value in re.findall(r"(?<![\w.])\d+\.\d+(?![\w.])", plain):
                assert re.search(rf"(?<![\d.]){re.escape(value)}(?!\d)", records), (path.name, value)
                quoted += 1
    assert quoted > 8


def test_links_of_chapters_lead_to_pages_that_are_written(tmp_path: Path) -> None:
    notebooks = [json.loads(path.read_text()) for path in (HOME / "notebooks").glob("*.ipynb")]
    said = [[c for c in one["cells"] if c["cell_type"] == "markdown"] for one in notebooks]
    sources = ["".join("".join(cell["source"]) for cell in cells) for cells in said]
    documents = sorted({name for text in sources for name in re.findall(r"\]\(\.\./(docs/[\w/-]+\.md)", text)})
    entries = [(f"{path.stem}.html", path.stem) for path in (HOME / "notebooks").glob("*.ipynb")]
    PAGES["frame"](tmp_path, entries, HOME, documents)
    written = {path.name for path in tmp_path.iterdir()} | {file for file, _ in entries}
    for text in sources:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", PAGES["linked"](text)):
            assert target in written, target
    for name in documents:
        made = (tmp_path / f"{name[:-3].replace('/', '-')}.html").read_text()
        assert not re.search(r'href="(?!https?:|index.html|#)', made), name
