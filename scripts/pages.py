"""Pages of the course that need neither kernel nor network: figures alive, formulas as MathML, links that lead on."""

import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from numbering import CAPTION, EQUATION, REFERENCE

_WIDGETS = "application/vnd.jupyter.widget-state+json"
_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
_FORMULA = re.compile(r"\$\$(?P<block>.+?)\$\$|\$(?P<inline>[^$\s](?:[^$]{0,200}?[^$\s])?)\$", re.DOTALL)
_KEPT = "\N{SYMBOL FOR SUBSTITUTE}"  # stands around the number of what Markdown must not touch
_REWRITTEN = {r"\\arg(?![a-z])": r"\\operatorname{arg}", r"\\[bB]ig[lr]?\\\|": r"\\|"}  # what the converter lacks
_TEMPLATE = """{% extends 'PARENT/index.html.j2' %}
{% block html_head_js_requirejs %}{% endblock %}{% block html_head_js_mathjax %}{% endblock %}
{% block html_head_js_mermaidjs %}{% endblock %}{% block jupyter_widgets %}{% endblock %}"""
_LOOK = """.course-bar{font:15px/1.6 system-ui;display:flex;gap:1.2rem;flex-wrap:wrap;padding:.7rem 1.2rem}
math{font-size:1.08em}math[display=block]{margin:.7em 0;padding:.4em 0;overflow-x:auto}
.equation{display:flex;align-items:center;justify-content:space-between;gap:1rem}.equation math{margin:auto}
.caption{margin:.2rem 0 .8rem;font:15px/1.5 system-ui}"""
_PLAIN = "body{font:17px/1.7 system-ui;max-width:52rem;margin:3rem auto;padding:0 1rem}li{list-style:none}" + (
    "table{border-collapse:collapse}td,th{padding:.2em .6em;text-align:left;border-bottom:1px solid #8884}"
)


def mathml(tex: str, *, block: bool) -> str:
    """A formula as MathML, which browsers set by themselves.

    Raises:
        ValueError: a command that the converter does not know; it would stand on the page as it was typed.
    """
    number = EQUATION.search(tex)
    tex = EQUATION.sub("", tex)
    for given, known in _REWRITTEN.items():
        tex = re.sub(given, known, tex)
    made = convert(tex, display="block" if block else "inline")
    if unknown := re.findall(r">\s*(\\[^<\s]*)", made):
        raise ValueError(f"{unknown[0]} in ${tex}$ has no MathML.")
    if number is None:
        return made
    named = number["number"]
    return f'<span class="equation" id="equation-{named}">{made}<span>({named})</span></span>'


def formulas(text: str) -> tuple[str, list[str]]:
    """A Markdown text with a mark for every formula, and what goes there. Code is left as it is."""
    made: list[str] = []

    def mark(found: re.Match[str]) -> str:
        made.append(mathml(found["block"] or found["inline"], block=bool(found["block"])))
        return f"{_KEPT}{len(made) - 1}{_KEPT}"

    parts, place = [], 0
    for code in _CODE.finditer(text):
        parts += [_FORMULA.sub(mark, text[place : code.start()]), code[0]]
        place = code.end()
    return "".join([*parts, _FORMULA.sub(mark, text[place:])]), made


def page(
    notebook: Any,
    title: str,
    badges: Sequence[tuple[str, str]] = (),
    chapters: Mapping[str, str] | None = None,
    *,
    slides: bool = False,
) -> str:
    """An executed notebook as HTML: figures drawn by `plotly.min.js` beside it, players alive, solutions folded.

    `chapters` says on which page the equations and figures of a chapter stand, such as 8 on `08_mixture_of_noise.html`.
    With `slides` it is a presentation of reveal.js, cut where cells have a `slide_type`.

    Raises:
        ValueError: a figure without alternative text, or a formula that cannot be set.
    """
    from jinja2 import DictLoader  # noqa: PLC0415
    from nbconvert import HTMLExporter, SlidesExporter  # noqa: PLC0415

    kept = notebook.metadata.pop("widgets", {}).get(_WIDGETS, {}).get("state", {})
    widgets = {name: one["state"] for name, one in kept.items() if "_esm" in one["state"]}
    made: list[str] = []
    shown: Any = None
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            text, mine = formulas(linked(cell.source))
            cell.source = re.sub(rf"{_KEPT}(\d+){_KEPT}", lambda m: f"{_KEPT}{int(m[1]) + len(made)}{_KEPT}", text)  # noqa: B023
            made += mine
            cell.source = referred(cell.source, chapters or {})
        caption = CAPTION.match(cell.source.partition("\n")[0]) if cell.cell_type == "code" else None
        if caption:
            cell.source = cell.source.partition("\n")[2]
        for count, output in enumerate(cell.get("outputs", ())):
            figure = output.get("data", {}).get("application/vnd.plotly.v1+json")
            if figure is not None and figure == shown:  # what a slider shows at first is often what stands above it
                output["data"] = {}
                continue
            shown = figure or shown
            drawn = _plain(output.get("data", {}), f"figure-{index}-{count}", widgets)
            if drawn and caption:
                output["data"]["text/html"] += _captioned(caption["number"], caption["said"])
                caption = None  # the first figure of a cell has its number
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if output.get("data", True)]
        if "solution" in cell.metadata.get("tags", ()):
            cell.cell_type = "markdown"
            cell.source = f"<details><summary>Solution</summary>\n\n```python\n{cell.source}\n```\n\n</details>"
            for gone in ("outputs", "execution_count"):
                cell.pop(gone, None)
    parent, kind = ("reveal", SlidesExporter) if slides else ("lab", HTMLExporter)
    loaders = [DictLoader({"course.html.j2": _TEMPLATE.replace("PARENT", parent)})]
    exporter = kind(template_name=parent, template_file="course.html.j2", extra_loaders=loaders)
    body, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": title}})
    body = re.sub(rf"{_KEPT}(\d+){_KEPT}", lambda m: made[int(m[1])], body)
    modules = "".join(
        f'<script type="text/plain" id="{_key(code)}">{code}</script>' for code in {w["_esm"] for w in widgets.values()}
    )
    looks = "".join(f"<style>{css}</style>" for css in [_LOOK, *{w.get("_css", "") for w in widgets.values()}])
    leads = "".join(f'<a href="{html.escape(address)}">{html.escape(name)}</a>' for name, address in badges)
    bar = f'<nav class="course-bar"><a href="index.html">All chapters</a>{leads}</nav>'
    if not slides:
        body = re.sub(r"<body[^>]*>", lambda tag: tag[0] + bar, body, count=1)
    return body.replace("</head>", f'<script src="plotly.min.js"></script>{looks}{modules}</head>', 1)


def linked(text: str) -> str:
    """Markdown whose links to other chapters and to documents lead to their pages."""
    text = re.sub(r"\]\((\d\d[a-z]?_\w+)\.ipynb", r"](\1.html", text)
    return re.sub(r"\]\(\.\./docs/([\w/-]+)\.md", lambda found: f"](docs-{found[1].replace('/', '-')}.html", text)


def referred(text: str, chapters: Mapping[str, str]) -> str:
    """Markdown whose references to equations and figures lead there."""

    def lead(found: re.Match[str]) -> str:
        kind, number = ("equation", found["equation"]) if found["equation"] else ("figure", found["figure"])
        file = chapters.get(number.partition(".")[0])
        return f"[{found[0]}]({file}#{kind}-{number})" if file else found[0]

    return REFERENCE.sub(lead, text)


def document(text: str, home: str) -> str:
    """A document of `docs` as a page; its own links to files of the repository become plain words."""
    from nbconvert.filters import markdown2html  # noqa: PLC0415

    text = re.sub(r"(?<!!)\[([^\]]+)\]\((?!https?:)[^)]*\)", r"\1", text)
    text, made = formulas(re.sub(r"!\[[^\]]*\]\([^)]*\)|<!--.*?-->", "", text, flags=re.DOTALL))
    body = re.sub(rf"{_KEPT}(\d+){_KEPT}", lambda m: made[int(m[1])], markdown2html(text))
    return _framed(home, f'<p><a href="index.html">All chapters</a></p>{body}')


def frame(out: Path, entries: Sequence[tuple[str, str]], root: Path, documents: Sequence[str]) -> None:
    """The first page, the script that draws, and the documents that chapters link to."""
    from plotly.offline import get_plotlyjs  # noqa: PLC0415

    (out / "plotly.min.js").write_text(get_plotlyjs())
    for name in documents:
        file = name.removesuffix(".md").replace("/", "-")
        (out / f"{file}.html").write_text(document((root / name).read_text(), Path(name).stem))
    rows = "".join(f'<li><a href="{file}">{html.escape(title)}</a></li>' for file, title in entries)
    (out / "index.html").write_text(
        _framed("A course on class-incremental learning", f"<h1>The course</h1><ul>{rows}</ul>")
    )


def _framed(title: str, body: str) -> str:
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    return f"{head}<title>{html.escape(title)}</title><style>{_PLAIN}</style>{body}\n"


def _captioned(number: str, said: str) -> str:
    return f'<p class="caption" id="figure-{number}"><b>Figure {number}.</b> {html.escape(said)}</p>'


def _plain(data: dict[str, Any], name: str, widgets: dict[str, dict[str, Any]]) -> bool:
    """A plotly figure as a div that draws itself, a widget that brings its own module alive; any other as nothing.

    Says whether something is drawn.

    What stands in place of such a slider is its static twin, or what `interact` showed at first.
    """
    figure = data.pop("application/vnd.plotly.v1+json", None)
    if figure is not None:
        options = {"displaylogo": False, "responsive": True}
        kept = {name: figure[name] for name in ("data", "layout", "frames") if name in figure}
        spec = json.dumps({**kept, "config": options}).replace("</", "<\\/")
        draw = f"Plotly.newPlot('{name}', {spec});"
        told = (figure.get("layout", {}).get("meta") or {}).get("alt") or "".join(data.get("text/plain", ""))
        if not told or told.startswith("Figure("):
            raise ValueError(f"{name} (cell, output) has no alternative text.")
        alt = html.escape(told, quote=True)
        data["text/html"] = f'<div id="{name}" role="img" aria-label="{alt}"></div><script>{draw}</script>'
    view = data.pop("application/vnd.jupyter.widget-view+json", None)
    if view is not None:
        data.pop("text/plain", None)
        if (state := widgets.get(view["model_id"])) is not None:
            data["text/html"] = _alive(state, name)
            return True
    return figure is not None


def _key(code: str) -> str:
    return f"module-{hashlib.blake2b(code.encode(), digest_size=6).hexdigest()}"


def _alive(state: dict[str, Any], name: str) -> str:
    """An anywidget on a page without a kernel: what it sets stays in the page."""
    kept = json.dumps({key: value for key, value in state.items() if not key.startswith("_")}).replace("</", "<\\/")
    return f"""<div id="{name}"></div><script type="module">
const state = {kept}, code = document.getElementById("{_key(state["_esm"])}").textContent;
const model = {{
  get: (key) => state[key], set: (key, value) => {{ state[key] = value; }}, save_changes() {{}}, on() {{}}, off() {{}},
}};
const module = await import(URL.createObjectURL(new Blob([code], {{ type: "text/javascript" }})));
const widget = typeof module.default === "function" ? await module.default() : module.default;
widget.render({{ model, el: document.getElementById("{name}") }});
</script>"""
