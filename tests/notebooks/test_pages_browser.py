"""Every page of the course in a browser: nothing fails or is fetched from elsewhere, every link and formula stands.

The pages are those of the notebooks as they are committed, without outputs, and one figure. With
`CILLAB_GALLERY=build/gallery` they are the executed ones that `make gallery` wrote.
"""

import json
import os
import re
import runpy
import sys
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest

pytest.importorskip("nbconvert")
pytest.importorskip("latex2mathml")
from cillab.teaching import sketch
from tests.app.serving import CHROMIUM, MISSING, chromium

pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install 'cillab[browser]'")
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason=MISSING)]
HOME = Path(__file__).parents[2]

_FIGURES = """() => [...document.querySelectorAll('[role=img]')].map(node => ({
  told: node.getAttribute('aria-label') || '',
  drawn: node.matches('canvas') || !!node.querySelector('svg.main-svg, canvas'),
}))"""
_RAW = r"""() => {
  const prose = [...document.querySelectorAll('.jp-RenderedMarkdown')].map(node => {
    const copy = node.cloneNode(true);
    copy.querySelectorAll('code, pre, math').forEach(gone => gone.remove());
    return copy.textContent;
  }).join(' ');
  return prose.match(/\$|\\[a-zA-Z]+|\u001a/g) || [];
}"""


@pytest.fixture(scope="module")
def gallery(tmp_path_factory) -> Path:
    if given := os.environ.get("CILLAB_GALLERY"):
        return Path(given).resolve()
    sys.path.insert(0, str(HOME / "scripts"))
    pages = runpy.run_path(str(HOME / "scripts" / "pages.py"))
    out, entries, linked = tmp_path_factory.mktemp("gallery"), [], set()
    paths = sorted((HOME / "notebooks").glob("*.ipynb"))
    chapters = {path.stem.partition("_")[0].lstrip("0") or "0": f"{path.stem}.html" for path in paths}
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        for place, cell in enumerate(notebook.cells):  # two equal figures would be drawn once
            if cell.cell_type == "code" and re.match(r"# Figure ", cell.source):
                figure = sketch.lines([1.0, 2.0], {"accuracy": [0.5, float(place)]}, x_title="task", y_title="accuracy")
                data = {"application/vnd.plotly.v1+json": json.loads(figure.to_json())}
                cell.outputs = [nbformat.v4.new_output("display_data", data)]
        linked |= set(re.findall(r"\]\(\.\./(docs/[\w/-]+\.md)", path.read_text()))
        (out / f"{path.stem}.html").write_text(pages["page"](notebook, path.stem, chapters=chapters))
        entries.append((f"{path.stem}.html", path.stem))
    pages["frame"](out, entries, HOME, sorted(linked))
    return out


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


def faults_of(page, file: Path, places: dict[str, set[str]]) -> list[str]:
    """What is wrong on a page; `places` has the ids of every page."""
    found, asked = list[str](), set[str]()
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on("console", lambda one: found.append(one.text) if one.type == "error" else None)
    page.on("request", lambda one: asked.add(one.url))
    page.goto(file.as_uri())
    page.wait_for_load_state("load")
    own = (file.parent.as_uri(), "data:", "blob:")
    found += [f"asks for {url[:90]}" for url in asked if not url.startswith(own)]
    found += [f"a figure says {one}" for one in page.evaluate(_FIGURES) if len(one["told"]) < 10 or not one["drawn"]]
    found += [f"formula not set: {raw}" for raw in page.evaluate(_RAW)]
    found += ["a picture without words" for _ in page.query_selector_all("img:not([alt])")]
    for link in page.eval_on_selector_all("a[href]", "all => all.map(one => one.getAttribute('href'))"):
        parts = urlsplit(link)
        target, place = unquote(parts.path) or file.name, unquote(parts.fragment)
        if not parts.scheme and (target not in places or (place and place not in places[target])):
            found.append(f"{link} leads nowhere")
    return found


def test_every_page_stands_by_itself(gallery: Path, browser) -> None:
    files = sorted(gallery.glob("*.html"))
    places = {file.name: set(map(unescape, re.findall(r'id="([^"]+)"', file.read_text()))) for file in files}
    assert {f"{path.stem}.html" for path in (HOME / "notebooks").glob("*.ipynb")} < set(places)
    faults = {}
    for file in files:
        page = browser.new_page()
        faults[file.name] = faults_of(page, file, places)
        page.close()
    assert {name: found for name, found in faults.items() if found} == {}
